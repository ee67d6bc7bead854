"""Every statement on the addresses of logins, and the expression by which others know one."""

from datetime import timedelta

from sqlalchemy import Interval, bindparam, delete, exists, func, literal, or_

from schema.tables import login_addresses, sessions, users
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement

REMEMBERED_FOR = timedelta(days=90)  # an address is known for so long after a login from it

# Whether somebody has logged in to this account from an address, or is logged in there now. Tokens
# do not count: scripts run on machines that others share.
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
_DELETE_OF_USER = Statement(
    "login_addresses.delete_of_user",
    delete(login_addresses)
    .where(
        login_addresses.c.user_id == bindparam("user"),
        login_addresses.c.address != bindparam("address"),
    )
    .returning(login_addresses.c.user_id),
)
_DELETE_OLD = Statement(
    "login_addresses.delete_old",
    delete(login_addresses)
    .where(login_addresses.c.last_login_at < func.now() - literal(REMEMBERED_FOR, Interval))
    .returning(login_addresses.c.user_id),
)


async def delete_addresses_of_user(
    transaction: Transaction, user_id: str, *, but: str = ""
) -> None:
    """Forget from where somebody has logged in to an account, but for one address."""
    await transaction.run(_DELETE_OF_USER, user=user_id, address=but)


async def delete_old_addresses(database: Database) -> int:
    """Forget the addresses from which nobody has logged in for long, and count them."""
    return len(await database.fetch_all(_DELETE_OLD))
