"""Statements on the addresses of logins, and the expression that recognizes one."""

from datetime import timedelta

from sqlalchemy import Interval, Text, Uuid, bindparam, delete, exists, func, literal, or_
from sqlalchemy.dialects.postgresql import insert

from schema.tables import login_addresses, sessions, users
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries.portions import delete_portion

REMEMBERED_FOR = timedelta(days=90)  # an address is known this long after a login from it

# Whether a user has logged in to this account from an address, or is logged in from it now.
# Personal tokens do not count: scripts run on shared machines.
is_known_address = or_(
    exists().where(
        login_addresses.c.user_id == users.c.id, login_addresses.c.address == bindparam("address")
    ),
    exists().where(
        sessions.c.user_id == users.c.id,
        sessions.c.address == bindparam("address"),
        sessions.c.name.is_(None),
        sessions.c.expires_at > func.now(),
    ),
)
_INSERT = Statement(
    "login_addresses.insert",
    insert(login_addresses)
    .values(
        user_id=bindparam("user", type_=Uuid(as_uuid=False)),
        address=bindparam("address", type_=Text),
    )
    .on_conflict_do_update(
        index_elements=["user_id", "address"], set_={"last_login_at": func.now()}
    )
    .returning(login_addresses.c.user_id),
)
_DELETE_OF_USER = Statement(
    "login_addresses.delete_of_user",
    delete(login_addresses)
    .where(
        login_addresses.c.user_id == bindparam("user"),
        login_addresses.c.address != bindparam("address"),
    )
    .returning(login_addresses.c.user_id),
)
_DELETE_PORTION = Statement(
    "login_addresses.delete_portion",
    delete_portion(
        login_addresses,
        login_addresses.c.user_id == bindparam("user"),
        login_addresses.c.address != bindparam("address"),
    ).returning(login_addresses.c.user_id),
)
_DELETE_OLD = Statement(
    "login_addresses.delete_old",
    delete_portion(
        login_addresses,
        login_addresses.c.last_login_at < func.now() - literal(REMEMBERED_FOR, Interval),
        order=(login_addresses.c.last_login_at,),
    ).returning(login_addresses.c.user_id),
)


async def insert_address(transaction: Transaction, user_id: str, address: str) -> None:
    """Record a login from an address."""
    await transaction.run(_INSERT, user=user_id, address=address)


async def delete_addresses_of_user(
    transaction: Transaction, user_id: str, *, but: str = ""
) -> None:
    """Delete the known addresses of an account, except one."""
    await transaction.run(_DELETE_OF_USER, user=user_id, address=but)


async def delete_address_portion(
    database: Database, user_id: str, *, but: str = "", limit: int
) -> int:
    """Delete some of the known addresses of an account, except one; return their number."""
    rows = await database.fetch_all(_DELETE_PORTION, user=user_id, address=but, limit=limit)
    return len(rows)


async def delete_old_addresses(database: Database, *, limit: int) -> int:
    """Delete some of the addresses without a login for REMEMBERED_FOR; return their number."""
    return len(await database.fetch_all(_DELETE_OLD, limit=limit))
