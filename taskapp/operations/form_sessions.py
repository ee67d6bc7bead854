"""The session or token that a form begins: the same one if the form is sent twice (ADR 0045)."""

from time import time

from taskapp.auth.signing import SessionFactory
from taskapp.queries.sessions import find_session_user
from taskapp.services import Services

REPEAT_SECONDS = 60


async def make_session_of_form(
    services: Services, new_session: SessionFactory, user_id: str, form_key: str
) -> tuple[str, bytes]:
    """Return the text and the secret hash of a session: the same for a form within REPEAT_SECONDS.

    Later they are others, so that a session that has ended does not come back. Without a key they
    are others each time.
    """
    if not form_key:
        return new_session(user_id, "")
    period = int(time() // REPEAT_SECONDS)
    before = new_session(user_id, f"{form_key} {period - 1}")
    if await find_session_user(services.database, before[1]) == user_id:
        return before
    return new_session(user_id, f"{form_key} {period}")
