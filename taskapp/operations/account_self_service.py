"""What people do with their own accounts: look, end sessions, change the password, delete all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import limit_key
from taskapp.core.errors import Invalid, NotAuthenticated, SessionNotFound, WrongCredentials
from taskapp.core.messages import Message
from taskapp.db.database import Transaction
from taskapp.forms.accounts import CONFIRMATION, PASSWORD_CHANGE
from taskapp.forms.parameters import read_id
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_session
from taskapp.operations.accounts import SessionFactory
from taskapp.operations.password_verification import check_password, hash_new_password
from taskapp.queries.login_addresses import delete_addresses_of_user
from taskapp.queries.sessions import (
    EndedSessions,
    Session,
    delete_other_sessions,
    delete_session_by_id,
    delete_sessions_of_user,
    list_sessions,
    replace_session_secret,
)
from taskapp.queries.tasks import ListSummary, find_overview
from taskapp.queries.users import (
    Credentials,
    delete_own_user,
    find_own_credentials,
    update_own_password,
)
from taskapp.services import Services

_WRONG_PASSWORD = Message("This is not your password.")


@dataclass(frozen=True)
class Account:
    """An account, as its owner sees it: this session and those used last first; tokens by name."""

    email: str
    sessions: list[Session]
    tokens: list[Session]

    def require_session(self, session_id: str) -> Session:
        """Give one of the sessions or tokens by its id.

        Raises:
            SessionNotFound: there is no such session or token, or it is somebody else's.
        """
        for session in (*self.sessions, *self.tokens):
            if session.id == session_id:
                return session
        raise SessionNotFound


async def load_account(services: Services, session: SessionToken) -> Account:
    """Give the account of a session.

    Raises:
        NotAuthenticated: the session has ended.
    """
    listed, email = await list_sessions(services.database, session)
    if email is None:
        raise NotAuthenticated
    by_use = sorted(listed, key=lambda one: (one.is_current, one.last_used_at), reverse=True)
    return Account(
        email,
        sessions=[session for session in by_use if session.name is None],
        tokens=sorted(
            (token for token in listed if token.name is not None),
            key=lambda token: (token.name or "").casefold(),
        ),
    )


async def load_overview(services: Services, session: SessionToken) -> ListSummary:
    """Give whose account it is and how many tasks are in it.

    Raises:
        NotAuthenticated: the session has ended.
    """
    overview = await find_overview(services.database, session)
    if overview is None:
        raise NotAuthenticated
    return overview


async def end_session(
    services: Services,
    session: SessionToken,
    session_id: str,
    sent: Mapping[str, Any],
    address: str,
) -> EndedSessions:
    """End a session of one's own, or revoke a personal token, and tell which of them it was.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the session that asks has ended.
        SessionNotFound: there is no such session or token, or it is somebody else's.
        TooManyRequests: this address, or this account, has failed too often.
        Unavailable: too many passwords wait to be checked, or the database does not answer.
    """
    await _require_password(services, session, sent, address)
    clean_id = read_id(session_id)
    ended = clean_id and await delete_session_by_id(services.database, session, clean_id)
    if not ended:
        await require_session(services, session)
        raise SessionNotFound
    log(
        "token.revoked" if ended.tokens else "session.ended",
        userId=session.user_id,
        sessionId=clean_id,
    )
    return ended


async def end_other_sessions(
    services: Services, session: SessionToken, sent: Mapping[str, Any], address: str
) -> int:
    """End all sessions of one's own but this one, and count them; personal tokens stay.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the session that asks has ended.
        TooManyRequests: this address, or this account, has failed too often.
        Unavailable: too many passwords wait to be checked, or the database does not answer.
    """
    await _require_password(services, session, sent, address)
    ended = await delete_other_sessions(services.database, session)
    if ended == 0:
        await require_session(services, session)
    log("sessions.ended", userId=session.user_id, count=ended)
    return ended


async def change_password(
    services: Services,
    session: SessionToken,
    sent: Mapping[str, Any],
    address: str,
    new_session: SessionFactory,
) -> str:
    """Set another password, and give the signed string of this session's new secret.

    Whatever else the old password had opened is over: all other sessions and personal tokens.

    Raises:
        Invalid: the old password is wrong, or the new one cannot be accepted.
        NotAuthenticated: the session has ended.
        TooManyRequests: this address, or this account, has failed too often.
        Unavailable: too many passwords wait to be checked, or the database does not answer.
    """
    fields = PASSWORD_CHANGE.read(sent)
    old, new = fields["current_password"], fields["new_password"]
    found = await _require_credentials(services, session, address)
    async with services.passwords.slot():
        await _confirm(services, found, old, address, field="current_password")
        if new == old:
            raise Invalid({"new_password": Message("This is your password already.")})
        new_hash = await hash_new_password(services, found.email, new, field="new_password")
    token, secret_hash = new_session(found.user_id)

    async def change(transaction: Transaction) -> EndedSessions:
        # The account first: of two changes at once the second waits here, and finds itself late.
        if not await update_own_password(transaction, found.user_id, found.password_hash, new_hash):
            raise Invalid({"current_password": _WRONG_PASSWORD})
        if not await replace_session_secret(transaction, session.secret_hash, secret_hash):
            raise NotAuthenticated
        await delete_addresses_of_user(transaction, found.user_id, but=limit_key(address))
        return await delete_sessions_of_user(transaction, found.user_id, kept=secret_hash)

    ended = await services.database.transaction("users.change_password", change)
    log(
        "user.password_changed",
        userId=found.user_id,
        sessionsEnded=ended.sessions,
        tokensRevoked=ended.tokens,
    )
    return token


async def delete_account(
    services: Services, session: SessionToken, sent: Mapping[str, Any], address: str
) -> None:
    """Delete one's own account with all that is in it: tasks, sessions and personal tokens.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the session has ended.
        TooManyRequests: this address, or this account, has failed too often.
        Unavailable: too many passwords wait to be checked, or the database does not answer.
    """
    found = await _require_password(services, session, sent, address)
    if not await delete_own_user(services.database, session, found.password_hash):
        await require_session(services, session)
        raise Invalid({"password": _WRONG_PASSWORD})  # it was changed while it was being checked
    log("user.deleted", userId=found.user_id)


async def _require_password(
    services: Services, session: SessionToken, sent: Mapping[str, Any], address: str
) -> Credentials:
    """Give the account of a session to whoever knows its password."""
    fields = CONFIRMATION.read(sent)
    found = await _require_credentials(services, session, address)
    async with services.passwords.slot():
        await _confirm(services, found, fields["password"], address, field="password")
    return found


async def _require_credentials(
    services: Services, session: SessionToken, address: str
) -> Credentials:
    found = await find_own_credentials(services.database, session, limit_key(address))
    if found is None:
        raise NotAuthenticated
    return found


async def _confirm(
    services: Services, found: Credentials, password: str, address: str, *, field: str
) -> None:
    try:
        await check_password(services, found, email=found.email, password=password, address=address)
    except WrongCredentials:
        raise Invalid({field: _WRONG_PASSWORD}) from None
