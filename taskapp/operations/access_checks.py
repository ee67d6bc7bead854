"""Find out why a statement that needs a session has found nothing."""

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import NotAuthenticated, ReadOnlyToken
from taskapp.queries.sessions import find_session_user, find_session_writer
from taskapp.services import Services


async def require_session(services: Services, session: SessionToken) -> None:
    """Refuse whoever has no live session.

    Raises:
        NotAuthenticated: the session has ended.
    """
    if await find_session_user(services.database, session.secret_hash) is None:
        raise NotAuthenticated


async def require_writer(services: Services, session: SessionToken) -> None:
    """Refuse whoever has no live session, or one that may only read.

    Raises:
        NotAuthenticated: the session has ended.
        ReadOnlyToken: it may only read.
    """
    if await find_session_writer(services.database, session.secret_hash) is None:
        await require_session(services, session)
        raise ReadOnlyToken
