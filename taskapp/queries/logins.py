"""Statements on the last logins of a user, which outlive their sessions."""

from typing import NamedTuple

from sqlalchemy import Text, Uuid, bindparam, delete, literal_column, select
from sqlalchemy.dialects.postgresql import insert

from schema.tables import logins, sessions
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries.sessions import session_user_id

_KEPT = 2  # this one and the one before


class Login(NamedTuple):
    """A login of the user; the timestamp is RFC 3339 in UTC."""

    created_at: str
    address: str
    user_agent: str


_newest_first = (logins.c.created_at.desc(), logins.c.session_id.desc())
_this_session = (
    select(sessions.c.id).where(sessions.c.secret_hash == bindparam("session")).scalar_subquery()
)
_FIND_LAST = Statement(
    "logins.find_last",
    select(*(logins.c[name] for name in Login._fields))
    .where(
        logins.c.user_id == session_user_id,
        logins.c.session_id != _this_session,
    )
    .order_by(*_newest_first)
    .limit(1),
)
_INSERT = Statement(
    "logins.insert",
    insert(logins)
    .values(
        user_id=bindparam("user", type_=Uuid(as_uuid=False)),
        session_id=bindparam("id", type_=Uuid(as_uuid=False)),
        address=bindparam("address", type_=Text),
        user_agent=bindparam("user_agent", type_=Text),
    )
    .on_conflict_do_nothing()  # its form was sent twice
    .returning(logins.c.session_id),
)
_newest = (
    select(logins.c.session_id)
    .where(logins.c.user_id == bindparam("user"))
    .order_by(*_newest_first)
    .limit(literal_column(str(_KEPT)))
)
_DELETE_OLD = Statement(
    "logins.delete_old",
    delete(logins)
    .where(logins.c.user_id == bindparam("user"), logins.c.session_id.not_in(_newest))
    .returning(logins.c.session_id),
)


async def find_last_login(database: Database, session: SessionToken) -> Login | None:
    """Return the user's last login besides that of this session, or None."""
    row = await database.fetch_one(_FIND_LAST, session=session.secret_hash)
    return Login(*row) if row else None


async def insert_login(
    transaction: Transaction, user_id: str, session_id: str, *, address: str, user_agent: str
) -> None:
    """Record a login, and forget all but the last ones."""
    await transaction.run(
        _INSERT, user=user_id, id=session_id, address=address, user_agent=user_agent
    )
    await transaction.run(_DELETE_OLD, user=user_id)
