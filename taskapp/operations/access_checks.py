"""Checks that explain why a statement that needs a session returned no rows."""

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import NotAuthenticated, ReadOnlyToken
from taskapp.queries.sessions import find_session_user, find_session_writer
from taskapp.services import Services


async def require_session(services: Services, session: SessionToken) -> None:
    """Check that a session is live.

    Raises:
        NotAuthenticated: the session has ended.
    """
    if await find_session_user(services.database, session.secret_hash) is None:
        raise NotAuthenticated


async def require_writer(services: Services, session: SessionToken) -> None:
    """Check that a session is live and may write.

    Raises:
        NotAuthenticated: the session has ended.
        ReadOnlyToken: it is a read-only token.
    """
    if await find_session_writer(services.database, session.secret_hash) is None:
        await require_session(services, session)
        raise ReadOnlyToken
