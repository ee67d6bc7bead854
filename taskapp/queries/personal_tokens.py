"""Statements that create a personal token, which is a session with a name."""

from datetime import timedelta

from sqlalchemy import (
    Boolean,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    func,
    insert,
    select,
    text,
)
from uuid_utils import uuid7

from schema.tables import sessions, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Transaction
from taskapp.db.statements import Statement
from taskapp.queries.sessions import owner_row

_LOCK_USER = Statement(
    "users.lock",
    select(users.c.id).where(users.c.id == bindparam("user")).with_for_update(read=True),
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
        ).where(owner_row.c.user_id.is_not(None)),
    )
    .returning(sessions.c.id),
)


async def insert_token(
    transaction: Transaction,
    session: SessionToken,
    secret_hash: bytes,
    *,
    name: str,
    lifetime: timedelta | None,
    is_read_only: bool,
) -> str | None:
    """Insert a personal token and return its id, or None without a session.

    It does not expire if `lifetime` is None. The user's row is locked, so that no token can outlive
    a change of the password that happens meanwhile.
    """
    await transaction.run(_LOCK_USER, user=session.user_id)
    rows = await transaction.run(
        _INSERT_TOKEN,
        id=str(uuid7()),
        session=session.secret_hash,
        new_session=secret_hash,
        name=name,
        lifetime=lifetime,
        is_read_only=is_read_only,
    )
    return rows[0][0] if rows else None
