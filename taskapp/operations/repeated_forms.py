"""A form that is sent twice does what it did the first time (ADR 0045)."""

from time import time

from taskapp.auth.signing import SessionFactory
from taskapp.queries.sessions import find_session_user
from taskapp.services import Services

REPEAT_SECONDS = 60


async def begin_once(
    services: Services, new_session: SessionFactory, user_id: str, form_key: str
) -> tuple[str, bytes]:
    """Return the same session for a form however often it is sent within REPEAT_SECONDS.

    Later it is another one, so that a session that has ended does not come back. Without a key
    each session is another one.
    """
    if not form_key:
        return new_session(user_id, "")
    period = int(time() // REPEAT_SECONDS)
    before = new_session(user_id, f"{form_key} {period - 1}")
    if await find_session_user(services.database, before[1]) == user_id:
        return before
    return new_session(user_id, f"{form_key} {period}")
