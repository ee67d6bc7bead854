"""Statements that create a personal token, which is a session with a name."""

from datetime import timedelta

from sqlalchemy import (
    BigInteger,
    Boolean,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import sessions, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries.sessions import is_token, owner_row, session_user_id

# Writers of this user's sessions wait here, those of tasks do not.
_LOCK_USER = Statement(
    "users.lock",
    select(users.c.id).where(users.c.id == bindparam("user")).with_for_update(key_share=True),
)
# The name of an expired token is free, although the housekeeping has not deleted it yet.
_DELETE_EXPIRED = Statement(
    "sessions.delete_expired_tokens",
    delete(sessions)
    .where(sessions.c.user_id == bindparam("user"), is_token, sessions.c.expires_at <= func.now())
    .returning(sessions.c.id),
)
_number = (
    select(func.count())
    .select_from(sessions)
    .where(sessions.c.user_id == owner_row.c.user_id, is_token)
    .correlate(owner_row)
    .scalar_subquery()
)
_INSERT_TOKEN = Statement(
    "sessions.insert_token",
    insert(sessions)
    .from_select(
        ["id", "user_id", "secret_hash", "expires_at", "name", "is_read_only"],
        select(
            bindparam("id", type_=Uuid(as_uuid=False)),
            owner_row.c.user_id,
            bindparam("new_session", type_=LargeBinary),
            func.coalesce(func.now() + bindparam("lifetime", type_=Interval), text("'infinity'")),
            bindparam("name", type_=Text),
            bindparam("is_read_only", type_=Boolean),
        ).where(
            owner_row.c.user_id.is_not(None), _number < bindparam("max_tokens", type_=BigInteger)
        ),
    )
    .on_conflict_do_nothing(index_elements=["user_id", "name"], index_where=is_token)
    .returning(sessions.c.id),
)
_FIND_BY_NAME = Statement(
    "sessions.find_token_by_name",
    select(sessions.c.id).where(
        sessions.c.user_id == session_user_id, is_token, sessions.c.name == bindparam("name")
    ),
)


async def insert_token(
    transaction: Transaction,
    session: SessionToken,
    secret_hash: bytes,
    *,
    name: str,
    lifetime: timedelta | None,
    is_read_only: bool,
    max_tokens: int,
) -> str | None:
    """Insert a personal token and return its id.

    Return None without a session, if the user has a token of this name, or `max_tokens` already.
    The token does not expire if `lifetime` is None. The user's row is locked, so that no token can
    outlive a change of the password that happens meanwhile, and none is missed by the count.
    """
    await transaction.run(_LOCK_USER, user=session.user_id)
    await transaction.run(_DELETE_EXPIRED, user=session.user_id)
    rows = await transaction.run(
        _INSERT_TOKEN,
        id=str(uuid7()),
        session=session.secret_hash,
        new_session=secret_hash,
        name=name,
        lifetime=lifetime,
        is_read_only=is_read_only,
        max_tokens=max_tokens,
    )
    return rows[0][0] if rows else None


async def find_token_by_name(database: Database, session: SessionToken, name: str) -> str | None:
    """Return the id of the user's personal token of this name, or None."""
    token_id: str | None = await database.fetch_value(
        _FIND_BY_NAME, session=session.secret_hash, name=name
    )
    return token_id
