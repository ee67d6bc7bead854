"""Statements on users.

An account of an earlier version has no `email_as_typed`. It has all addresses that were stored
alike: those with the same `folded_email_key`.

A closed account is a user without an email address: nobody can log in to it, its address is free
again, and its rows are being deleted in portions.
"""

from typing import Any, NamedTuple

from sqlalchemy import (
    Integer,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    insert,
    literal,
    null,
    select,
    text,
    update,
)
from uuid_utils import uuid7

from schema.tables import login_addresses, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.forms.accounts import email_key, folded_email_key
from taskapp.queries.login_addresses import is_known_address
from taskapp.queries.portions import row_limit
from taskapp.queries.sessions import session_user_id, shown_email

ACTIVE_DAYS = (1, 7, 30)
_today = func.current_date()
_is_open = users.c.email.is_not(None)


def _id_where(*conditions: Any) -> Any:
    return select(users.c.id).where(*conditions).correlate(None).scalar_subquery()


_id_by_email = _id_where(users.c.email == bindparam("email"))
_id_of_earlier_version = _id_where(
    users.c.email == bindparam("folded"), users.c.email_as_typed.is_(None)
)
_registered = (
    insert(users)
    .from_select(
        ["id", "email", "email_as_typed", "password_hash"],
        select(
            bindparam("id", type_=Uuid(as_uuid=False)),
            bindparam("email", type_=Text),
            bindparam("typed", type_=Text),
            bindparam("password_hash", type_=Text),
        ).where(_id_of_earlier_version.is_(None)),
    )
    .returning(users.c.id)
    .cte("registered")
)
_address = bindparam("address", type_=Text)
_known = (
    insert(login_addresses)
    .from_select(["user_id", "address"], select(_registered.c.id, _address).where(_address != ""))
    .cte("known")
)
_INSERT = Statement("users.insert", select(_registered.c.id).add_cte(_known))
_credentials = select(users.c.id, shown_email, users.c.password_hash, is_known_address)
_FIND_BY_EMAIL = Statement(
    "users.find_by_email",
    _credentials.where(users.c.id == func.coalesce(_id_by_email, _id_of_earlier_version)),
)
_FIND_BY_SESSION = Statement(
    "users.find_by_session", _credentials.where(users.c.id == session_user_id)
)
_after = users.alias("after_user")
_key_of_after = (
    select(_after.c.email)
    .where(_after.c.id == bindparam("after", type_=Uuid(as_uuid=False)))
    .scalar_subquery()
)
_LIST = Statement(
    "users.list",
    select(users.c.id, shown_email, users.c.created_at)
    .where(users.c.email > func.coalesce(_key_of_after, text("''")))
    .order_by(users.c.email)
    .limit(row_limit),
)
# By the order of the index on addresses, so that one row is read, however many there are.
_FIND_ANY = Statement(
    "users.find_any", select(users.c.id).where(_is_open).order_by(users.c.email).limit(1)
)
_COUNT = Statement("users.count", select(func.count()).select_from(users).where(_is_open))
_COUNT_ACTIVE = Statement(
    "users.count_active",
    select(
        func.count(),
        *(
            func.count().filter(users.c.last_active_on > _today - literal(days, Integer))
            for days in ACTIVE_DAYS
        ),
    )
    .select_from(users)
    .where(_is_open),
)
_UPDATE_PASSWORD = Statement(
    "users.update_password",
    update(users)
    .where(users.c.id == bindparam("user"), _is_open)
    .values(password_hash=bindparam("new_hash"), updated_at=func.now())
    .returning(users.c.id),
)
_REPLACE_HASH = Statement(
    "users.replace_hash",
    update(users)
    .where(users.c.id == bindparam("user"), users.c.password_hash == bindparam("old_hash"))
    .values(password_hash=bindparam("new_hash"), updated_at=func.now())
    .returning(users.c.id),
)
# Without the hash, a login whose password was checked before finds that it has changed.
_as_closed = {
    "email": null(),
    "email_as_typed": null(),
    "password_hash": text("''"),
    "updated_at": func.now(),
}
_CLOSE_OWN = Statement(
    "users.close_own",
    update(users)
    .where(users.c.id == session_user_id, users.c.password_hash == bindparam("old_hash"))
    .values(_as_closed)
    .returning(users.c.id),
)
_CLOSE = Statement(
    "users.close",
    update(users)
    .where(users.c.id == bindparam("user"), _is_open)
    .values(_as_closed)
    .returning(users.c.id),
)
_FIND_CLOSED = Statement("users.find_closed", select(users.c.id).where(~_is_open).limit(1))
_FIND_IS_OPEN = Statement(
    "users.find_is_open", select(_is_open).where(users.c.id == bindparam("user"))
)
_DELETE_CLOSED = Statement(
    "users.delete_closed",
    delete(users).where(users.c.id == bindparam("user"), ~_is_open).returning(users.c.id),
)


class Credentials(NamedTuple):
    """What a login is checked against, and whether it comes from a known address."""

    user_id: str
    email: str
    password_hash: str
    is_known_address: bool


class User(NamedTuple):
    """An account in a list; `created_at` is RFC 3339 in UTC."""

    user_id: str
    email: str
    created_at: str


async def insert_user(
    database: Database,
    email: str,
    password_hash: str,
    *,
    address: str = "",
    user_id: str | None = None,
) -> str | None:
    """Insert a user and return the id; the IP address of a registration is a known one then.

    Return None if an account of an earlier version has the email address.

    Raises:
        UniqueViolation: another account has the email address.
    """
    inserted: str | None = await database.fetch_value(
        _INSERT,
        id=user_id or str(uuid7()),
        typed=email,
        password_hash=password_hash,
        address=address,
        **_keys(email),
    )
    return inserted


async def find_any_user(database: Database) -> str | None:
    """Return the id of a user, or None if there is no account."""
    user_id: str | None = await database.fetch_value(_FIND_ANY)
    return user_id


async def find_credentials(database: Database, email: str, address: str) -> Credentials | None:
    """Return the account with an email address, for a login from an IP address."""
    row = await database.fetch_one(_FIND_BY_EMAIL, address=address, **_keys(email))
    return Credentials(*row) if row else None


async def find_own_credentials(
    database: Database, session: SessionToken, address: str
) -> Credentials | None:
    """Return the account of a live session, for a request from an IP address."""
    row = await database.fetch_one(_FIND_BY_SESSION, session=session.secret_hash, address=address)
    return Credentials(*row) if row else None


async def list_users(database: Database, *, after: str | None, limit: int) -> list[User]:
    """List the accounts after that with the id `after`, sorted by email address."""
    rows = await database.fetch_all(_LIST, after=after, limit=limit)
    return [User(*row) for row in rows]


async def count_users(database: Database) -> int:
    """Count all accounts."""
    return int(await database.fetch_value(_COUNT) or 0)


async def count_active_users(database: Database) -> tuple[int, dict[int, int]]:
    """Count all accounts, and for each of ACTIVE_DAYS those used within that many days."""
    row = await database.fetch_one(_COUNT_ACTIVE)
    total, *active = row or (0, *(0 for _ in ACTIVE_DAYS))
    return total, dict(zip(ACTIVE_DAYS, active, strict=True))


async def update_password(transaction: Transaction, user_id: str, password_hash: str) -> bool:
    """Set the password of an account; return False if there is none with this id."""
    return bool(await transaction.run(_UPDATE_PASSWORD, user=user_id, new_hash=password_hash))


async def update_own_password(
    transaction: Transaction, user_id: str, old_hash: str, new_hash: str
) -> bool:
    """Replace the password that was checked; return False if it was changed since."""
    return bool(
        await transaction.run(_REPLACE_HASH, user=user_id, old_hash=old_hash, new_hash=new_hash)
    )


async def replace_password_hash(
    database: Database, user_id: str, old_hash: str, new_hash: str
) -> None:
    """Replace the hash of the same password, unless the password was changed since."""
    await database.fetch_one(_REPLACE_HASH, user=user_id, old_hash=old_hash, new_hash=new_hash)


async def close_own_user(
    transaction: Transaction, session: SessionToken, password_hash: str
) -> bool:
    """Close the account of a live session, if it still has this password hash."""
    return bool(
        await transaction.run(_CLOSE_OWN, session=session.secret_hash, old_hash=password_hash)
    )


async def close_user(transaction: Transaction, user_id: str) -> bool:
    """Close an account; return False if it is closed already, or there is none with this id."""
    return bool(await transaction.run(_CLOSE, user=user_id))


async def find_closed_user(database: Database) -> str | None:
    """Return the id of an account that is closed and not deleted yet, or None."""
    user_id: str | None = await database.fetch_value(_FIND_CLOSED)
    return user_id


async def find_is_open(database: Database, user_id: str) -> bool | None:
    """Return whether an account is open; None if there is none with this id."""
    is_open: bool | None = await database.fetch_value(_FIND_IS_OPEN, user=user_id)
    return is_open


async def delete_closed_user(database: Database, user_id: str) -> bool:
    """Delete a closed account with the last of its rows; return False if it is gone already."""
    return await database.fetch_one(_DELETE_CLOSED, user=user_id) is not None


def _keys(email: str) -> dict[str, str]:
    return {"email": email_key(email), "folded": folded_email_key(email)}
