"""What users do with their own accounts: view, end sessions, change the password, delete."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from taskapp.auth.passwords import normalize_password
from taskapp.auth.signing import SessionFactory, SessionToken
from taskapp.core.client_address import limit_key
from taskapp.core.errors import Invalid, NotAuthenticated, SessionNotFound, WrongCredentials
from taskapp.core.messages import Message
from taskapp.db.database import Transaction
from taskapp.forms.accounts import CONFIRMATION, END_OF_OTHERS, PASSWORD_CHANGE
from taskapp.forms.parameters import read_id
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_session
from taskapp.operations.account_deletion import (
    MAX_SECONDS,
    close_account,
    delete_closed_account,
)
from taskapp.operations.password_verification import (
    PasswordCheck,
    hash_new_password,
    renew_devices,
)
from taskapp.operations.portions import end_sessions, forget_user_addresses
from taskapp.queries.login_addresses import delete_addresses_of_user
from taskapp.queries.logins import Login, find_last_login
from taskapp.queries.sessions import (
    EndedSessions,
    Session,
    delete_other_sessions,
    delete_session_by_id,
    delete_sessions_of_user,
    find_session_user,
    list_sessions,
    replace_session_secret,
)
from taskapp.queries.tasks import ListSummary, find_summary
from taskapp.queries.users import (
    Credentials,
    close_own_user,
    find_own_credentials,
    update_own_password,
)
from taskapp.services import Services

_WRONG_PASSWORD = Message("Incorrect password")


@dataclass(frozen=True)
class Account:
    """An account, as its user sees it.

    The current session is first, then the others by their last use; tokens are sorted by name. Of
    more than MAX_SESSIONS, only the newest are listed. `last_login` is that before this session's.
    """

    email: str
    sessions: list[Session]
    tokens: list[Session]
    last_login: Login | None

    def require_session(self, session_id: str) -> Session:
        """Return the session or token with an id.

        Raises:
            SessionNotFound: the account has none with this id.
        """
        for session in (*self.sessions, *self.tokens):
            if session.id == session_id:
                return session
        raise SessionNotFound


@dataclass(frozen=True)
class ChangedPassword:
    """The cookie or bearer token of the session, and what the cookie of its devices says."""

    token: str
    devices: list[str]


async def load_account(services: Services, session: SessionToken) -> Account:
    """Return the account of a session.

    Raises:
        NotAuthenticated: the session has ended.
    """
    listed, email = await list_sessions(services.database, session)
    if email is None:
        raise NotAuthenticated
    last_login = await find_last_login(services.database, session)
    by_use = sorted(listed, key=lambda one: (one.is_current, one.last_used_at), reverse=True)
    return Account(
        email,
        sessions=[session for session in by_use if session.name is None],
        tokens=sorted(
            (token for token in listed if token.name is not None),
            key=lambda token: (token.name or "").casefold(),
        ),
        last_login=last_login,
    )


async def load_summary(services: Services, session: SessionToken) -> ListSummary:
    """Return the email address of the account and the numbers of its tasks.

    Raises:
        NotAuthenticated: the session has ended.
    """
    summary = await find_summary(services.database, session)
    if summary is None:
        raise NotAuthenticated
    return summary


async def require_password(
    services: Services,
    session: SessionToken,
    password: str,
    address: str,
    *,
    field: str = "password",
) -> Credentials:
    """Return the account of a session if this is its password.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the session has ended.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    found = await _require_credentials(services, session, address)
    async with _confirmed(services, found, password, address, field=field):
        return found


async def end_session(
    services: Services,
    session: SessionToken,
    session_id: str,
    sent: Mapping[str, Any],
    address: str,
) -> EndedSessions:
    """End a session of the user, or revoke a personal token; the result says which it was.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the current session has ended.
        SessionNotFound: the account has no session or token with this id.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    fields = CONFIRMATION.read(sent)
    await require_password(services, session, fields["password"], address)
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
) -> EndedSessions:
    """End all other sessions of the user, and the personal tokens if that was sent as `tokens`.

    Raises:
        Invalid: the password is wrong, or `tokens` has another value than "yes".
        NotAuthenticated: the current session has ended.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    fields = END_OF_OTHERS.read(sent)
    tokens_too = "tokens" in fields
    found = await require_password(services, session, fields["password"], address)
    before = await end_sessions(
        services, found.user_id, kept=session.secret_hash, tokens_too=tokens_too
    )
    ended = before.plus(
        await delete_other_sessions(services.database, session, tokens_too=tokens_too)
    )
    if not any(ended):
        await require_session(services, session)
    log(
        "sessions.ended",
        userId=session.user_id,
        sessionsEnded=ended.sessions,
        tokensRevoked=ended.tokens,
    )
    return ended


async def change_password(
    services: Services,
    session: SessionToken,
    sent: Mapping[str, Any],
    address: str,
    new_session: SessionFactory,
    *,
    devices: Sequence[str] = (),
    form_key: str = "",
) -> ChangedPassword:
    """Change the password; the session has a new secret, and the browser is known by a new device.

    All other sessions and all personal tokens end. The same form gives the session the same secret
    if it is sent twice, and the second time nothing else happens.

    Raises:
        Invalid: the current password is wrong, or the new one is not valid.
        NotAuthenticated: the session has ended.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    fields = PASSWORD_CHANGE.read(sent)
    token, secret_hash = new_session(session.user_id, form_key)
    try:
        account, new_hash = await _replace_password(services, session, fields, address, secret_hash)
    except (Invalid, NotAuthenticated):
        changed = SessionToken(session.user_id, secret_hash)
        if await find_session_user(services.database, secret_hash) is None:
            raise
        account = await require_password(
            services, changed, fields["new_password"], address, field="current_password"
        )
        new_hash = account.password_hash
    return ChangedPassword(token, renew_devices(services, devices, account, new_hash))


async def _replace_password(
    services: Services,
    session: SessionToken,
    fields: Mapping[str, Any],
    address: str,
    secret_hash: bytes,
) -> tuple[Credentials, str]:
    """Replace the password and the secret of the session; return the account and the new hash."""
    old, new = fields["current_password"], fields["new_password"]
    found = await _require_credentials(services, session, address)
    async with _confirmed(services, found, old, address, field="current_password"):
        if new == normalize_password(old):
            raise Invalid({"new_password": Message("Must be different from your current password")})
        new_hash = await hash_new_password(services, found.email, new, field="new_password")
    before = await end_sessions(
        # The same form may have given the session its new secret meanwhile.
        services,
        found.user_id,
        kept=session.secret_hash,
        also_kept=secret_hash,
    )
    await forget_user_addresses(services, found.user_id, but=limit_key(address))

    async def change(transaction: Transaction) -> EndedSessions:
        # The user's row first: of two concurrent changes the second one waits here, and then fails.
        if not await update_own_password(transaction, found.user_id, found.password_hash, new_hash):
            raise Invalid({"current_password": _WRONG_PASSWORD})
        if not await replace_session_secret(transaction, session.secret_hash, secret_hash):
            raise NotAuthenticated
        await delete_addresses_of_user(transaction, found.user_id, but=limit_key(address))
        return await delete_sessions_of_user(transaction, found.user_id, kept=secret_hash)

    ended = before.plus(await services.database.transaction("users.change_password", change))
    log(
        "user.password_changed",
        userId=found.user_id,
        sessionsEnded=ended.sessions,
        tokensRevoked=ended.tokens,
    )
    return found, new_hash


async def delete_account(
    services: Services, session: SessionToken, sent: Mapping[str, Any], address: str
) -> bool:
    """Delete the user's account with its tasks, sessions and personal tokens.

    Nobody can log in to it any more. Return False if the server goes on to delete its tasks.

    Raises:
        Invalid: the password is wrong.
        NotAuthenticated: the session has ended.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    fields = CONFIRMATION.read(sent)
    found = await require_password(services, session, fields["password"], address)

    async def close(transaction: Transaction) -> bool:
        return await close_own_user(transaction, session, found.password_hash)

    if not await close_account(services, found.user_id, close, session=session.secret_hash):
        await require_session(services, session)
        raise Invalid({"password": _WRONG_PASSWORD})  # changed since it was checked
    return await delete_closed_account(services, found.user_id, seconds=MAX_SECONDS)


async def _require_credentials(
    services: Services, session: SessionToken, address: str
) -> Credentials:
    found = await find_own_credentials(services.database, session, limit_key(address))
    if found is None:
        raise NotAuthenticated
    return found


@asynccontextmanager
async def _confirmed(
    services: Services, found: Credentials, password: str, address: str, *, field: str
) -> AsyncIterator[None]:
    """Run a block in the turn in which the password was found to be right."""
    check = PasswordCheck(services, found, email=found.email, address=address)
    async with check.turn():
        try:
            await check.verify(password)
        except WrongCredentials:
            raise Invalid({field: _WRONG_PASSWORD}) from None
        yield
