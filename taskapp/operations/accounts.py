"""Registration, login and logout, and what the operator does with accounts."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from schema.tables import USER_AGENT_LENGTH
from taskapp.auth.signing import SessionFactory, SessionToken
from taskapp.core.client_address import limit_key, site_key
from taskapp.core.errors import (
    EmailTaken,
    Invalid,
    NotFound,
    RegistrationClosed,
    UniqueViolation,
    WrongCredentials,
)
from taskapp.db.database import Transaction
from taskapp.forms.accounts import LOGIN, REGISTRATION, folded_email_key
from taskapp.observability.logs import log
from taskapp.operations.account_deletion import close_account, delete_closed_account
from taskapp.operations.form_sessions import make_session_of_form
from taskapp.operations.password_verification import (
    PasswordCheck,
    hash_new_password,
    renew_devices,
)
from taskapp.operations.portions import (
    MAX_PORTION,
    delete_in_portions,
    end_sessions,
    forget_user_addresses,
)
from taskapp.queries.login_addresses import (
    delete_addresses_of_user,
    delete_old_addresses,
    insert_address,
)
from taskapp.queries.logins import insert_login
from taskapp.queries.sessions import (
    EndedSessions,
    delete_ended_sessions,
    delete_session,
    delete_sessions_of_user,
    find_session_user,
    insert_session,
)
from taskapp.queries.users import (
    Credentials,
    User,
    close_user,
    find_any_user,
    find_credentials,
    insert_user,
    list_users,
    replace_password_hash,
    update_password,
)
from taskapp.services import Services

_NO_ACCOUNT = "There is no account with this email address."  # only commands show it, in English


@dataclass(frozen=True)
class Login:
    """A successful login: the cookie or bearer token of the new session, and its user.

    `devices` is for the cookie by which the browser is known.
    """

    token: str
    user_id: str
    email: str
    devices: list[str]


@dataclass(frozen=True)
class Registration:
    """A new account; `devices` is for the cookie by which the browser is known."""

    user_id: str
    devices: list[str]


async def register(
    services: Services,
    sent: Mapping[str, Any],
    address: str,
    *,
    devices: Sequence[str] = (),
    form_key: str = "",
) -> Registration:
    """Create an account for a client at an IP address, which is known then, like its browser.

    Raises:
        RegistrationClosed: only the operator creates accounts.
        Invalid: the email address or the password is not valid.
        EmailTaken: another account has this email address.
        TooManyRequests: too many accounts were created from the IP address, or too many of its
            passwords are waiting to be hashed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
        Disconnected: the client has hung up meanwhile.
    """
    if services.settings.registration == "closed":
        raise RegistrationClosed
    fields = REGISTRATION.read(sent)
    counts = services.limits.registrations.counts(address)
    await counts.check()  # before the queue, where the limited would take places
    queue = services.passwords.queue
    email_key = folded_email_key(fields["email"])
    async with queue.turn(site_key(address), email_key, is_known=False):
        await counts.hit()
        password_hash = await hash_new_password(services, **fields)
    user_id = await _insert_user(
        services,
        fields["email"],
        password_hash,
        address=limit_key(address),
        user_id=services.signer.new_user_id(form_key),
    )
    services.metrics.registrations.inc()
    log("user.registered", userId=user_id, address=address)
    account = Credentials(user_id, fields["email"], password_hash, is_known_address=True)
    return Registration(user_id, renew_devices(services, devices, account, password_hash))


async def may_begin(services: Services) -> bool:
    """Return whether there is no account yet, and anybody may create the first one.

    Raises:
        Unavailable: the database is down.
    """
    is_open = services.settings.registration == "open"
    return is_open and await find_any_user(services.database) is None


async def find_own_registration(
    services: Services,
    sent: Mapping[str, Any],
    address: str,
    *,
    devices: Sequence[str],
    form_key: str,
) -> Registration | None:
    """Return the account that the same form has created with the same password, or None.

    Raises: as `register`.
    """
    fields = REGISTRATION.read(sent)
    email, password = fields["email"], fields["password"]
    found = await find_credentials(services.database, email, limit_key(address))
    if found is None or not services.signer.is_user_id_of(form_key, found.user_id):
        return None
    check = PasswordCheck(services, found, email=email, address=address, devices=devices)
    with suppress(WrongCredentials):
        async with check.turn():
            await check.verify(password)
        return Registration(
            found.user_id, renew_devices(services, devices, found, found.password_hash)
        )
    return None


async def log_in(
    services: Services,
    sent: Mapping[str, Any],
    address: str,
    new_session: SessionFactory,
    *,
    user_agent: str,
    devices: Sequence[str] = (),
    form_key: str = "",
) -> Login:
    """Check a password and create a session for a client at an IP address.

    The same form begins the same session, if it is sent twice.

    Raises:
        Invalid: a field is missing, or is not an email address.
        WrongCredentials: there is no such account, or the password is wrong.
        TooManyRequests: too many logins from the IP address, or to the account, have failed or are
            waiting, or too many to the account have succeeded.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
        Disconnected: the client has hung up meanwhile.
    """
    fields = LOGIN.read(sent)
    email, password = fields["email"], fields["password"]
    found = await find_credentials(services.database, email, limit_key(address))
    check = PasswordCheck(services, found, email=email, address=address, devices=devices)
    async with check.turn():
        account = await check.verify(password)
        new_hash = await _renew_hash(services, account, password)
    token, secret_hash = await make_session_of_form(
        services, new_session, account.user_id, form_key
    )
    if not await _begin_session(
        services,
        account.user_id,
        secret_hash,
        password_hash=new_hash,
        address=limit_key(address),
        user_agent=_printable(user_agent)[:USER_AGENT_LENGTH],
    ):
        raise WrongCredentials  # the password was changed since it was checked
    services.metrics.logins.labels("ok").inc()
    log("login.succeeded", userId=account.user_id, address=address)
    renewed = renew_devices(services, devices, account, new_hash)
    return Login(token, account.user_id, account.email, renewed)


async def is_session_of(services: Services, session: SessionToken, email: str) -> bool:
    """Return whether a session is live, and of the account with an email address.

    Raises:
        Unavailable: the database is down.
    """
    try:
        fields = LOGIN.read({"email": email, "password": "-"})
    except Invalid:
        return False
    found = await find_credentials(services.database, fields["email"], address="")
    user_id = await find_session_user(services.database, session.secret_hash)
    return found is not None and found.user_id == user_id


async def log_out(services: Services, session: SessionToken) -> bool:
    """End a session; return False if it had ended already.

    Raises:
        Unavailable: the database is down.
    """
    user_id = await delete_session(services.database, session.secret_hash)
    if user_id is None:
        return False
    log("user.logged_out", userId=user_id)
    return True


async def add_user(services: Services, email: str, password: str) -> str:
    """Create an account as the operator, and return the user's id.

    Raises:
        Invalid: the email address or the password is not valid.
        EmailTaken: another account has this email address.
    """
    fields = REGISTRATION.read({"email": email, "password": password})
    password_hash = await hash_new_password(services, **fields)
    user_id = await _insert_user(services, fields["email"], password_hash)
    log("user.added", userId=user_id)
    return user_id


async def list_accounts(services: Services) -> list[User]:
    """Return all accounts, sorted by email address."""
    accounts: list[User] = []
    while True:
        after = accounts[-1].user_id if accounts else None
        portion = await list_users(services.database, after=after, limit=MAX_PORTION)
        accounts += portion
        if len(portion) < MAX_PORTION:
            return accounts


async def set_password(services: Services, email: str, password: str) -> EndedSessions:
    """Set a password as the operator, and end all sessions and tokens of the user.

    Raises:
        Invalid: the password is not valid.
        NotFound: there is no such account.
    """
    fields = REGISTRATION.read({"email": email, "password": password})
    password_hash = await hash_new_password(services, **fields)
    user_id = await _require_user(services, fields["email"])
    before = await end_sessions(services, user_id)
    await forget_user_addresses(services, user_id)

    async def change(transaction: Transaction) -> EndedSessions:
        if not await update_password(transaction, user_id, password_hash):
            raise NotFound(_NO_ACCOUNT)
        await delete_addresses_of_user(transaction, user_id)
        return await delete_sessions_of_user(transaction, user_id)

    ended = before.plus(await services.database.transaction("users.set_password", change))
    log(
        "user.password_set",
        userId=user_id,
        sessionsEnded=ended.sessions,
        tokensRevoked=ended.tokens,
    )
    return ended


async def remove_user(services: Services, email: str) -> None:
    """Delete an account with its tasks and sessions, as the operator.

    Raises:
        NotFound: there is no such account.
    """
    user_id = await _require_user(services, email)

    async def close(transaction: Transaction) -> bool:
        return await close_user(transaction, user_id)

    if not await close_account(services, user_id, close):
        raise NotFound(_NO_ACCOUNT)
    await delete_closed_account(services, user_id, seconds=float("inf"))


async def purge_sessions(services: Services) -> int:
    """Delete the expired sessions and tokens, and return their number."""
    purged = await delete_in_portions(
        lambda limit: delete_ended_sessions(services.database, limit=limit)
    )
    if purged.rows:
        log("sessions.purged", count=purged.rows)
    return purged.rows


async def forget_addresses(services: Services) -> None:
    """Delete the known addresses without a recent login."""
    forgotten = await delete_in_portions(
        lambda limit: delete_old_addresses(services.database, limit=limit)
    )
    if forgotten.rows:
        log("addresses.forgotten", count=forgotten.rows)


async def _renew_hash(services: Services, found: Credentials, password: str) -> str:
    """Return the hash of the account, which is a new one if the cost has changed since."""
    if not services.passwords.is_outdated(found.password_hash):
        return found.password_hash
    with services.span("password.hash"):
        new_hash = await services.passwords.hash(password)
    await replace_password_hash(services.database, found.user_id, found.password_hash, new_hash)
    return new_hash


async def _begin_session(
    services: Services,
    user_id: str,
    secret_hash: bytes,
    *,
    password_hash: str,
    address: str,
    user_agent: str,
) -> bool:
    """Create a session with its login and address; return False if the password is another now."""

    async def begin(transaction: Transaction) -> bool:
        session_id = await insert_session(
            transaction,
            user_id,
            secret_hash,
            password_hash=password_hash,
            idle=services.settings.session_idle,
            address=address,
            user_agent=user_agent,
        )
        if session_id is None:
            return False
        await insert_address(transaction, user_id, address)
        await insert_login(transaction, user_id, session_id, address=address, user_agent=user_agent)
        return True

    return await services.database.transaction("sessions.begin", begin)


async def _insert_user(
    services: Services,
    email: str,
    password_hash: str,
    *,
    address: str = "",
    user_id: str | None = None,
) -> str:
    try:
        user_id = await insert_user(
            services.database, email, password_hash, address=address, user_id=user_id
        )
    except UniqueViolation:
        raise EmailTaken from None
    if user_id is None:
        raise EmailTaken
    return user_id


async def _require_user(services: Services, email: str) -> str:
    found = await find_credentials(services.database, email, address="")
    if found is None:
        raise NotFound(_NO_ACCOUNT)
    return found.user_id


def _printable(text: str) -> str:
    return "".join(character for character in text if " " <= character <= "~")
