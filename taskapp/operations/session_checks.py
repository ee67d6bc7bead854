"""Find out why a statement that needs a session has found nothing."""

from taskapp.auth.signing import SessionProof
from taskapp.core.errors import NotSignedIn, ReadOnlyToken
from taskapp.queries.sessions import find_session_user, find_session_writer
from taskapp.services import Services


async def require_session(services: Services, owner: SessionProof) -> None:
    """Refuse whoever has no live session.

    Raises:
        NotSignedIn: the session has ended.
    """
    if await find_session_user(services.database, owner.secret_hash) is None:
        raise NotSignedIn


async def require_writer(services: Services, owner: SessionProof) -> None:
    """Refuse whoever has no live session, or one that may only read.

    Raises:
        NotSignedIn: the session has ended.
        ReadOnlyToken: it may only read.
    """
    if await find_session_writer(services.database, owner.secret_hash) is None:
        await require_session(services, owner)
        raise ReadOnlyToken
