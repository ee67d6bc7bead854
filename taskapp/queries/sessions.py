"""Every statement on sessions, and the expression by which others prove one."""

from datetime import timedelta

from sqlalchemy import (
    DateTime,
    Interval,
    Uuid,
    bindparam,
    cast,
    delete,
    func,
    insert,
    literal,
    select,
    update,
)
from uuid_utils import uuid7

from schema.tables import sessions, users
from taskapp.database import Database, Statement, Transaction

LIFETIME = timedelta(days=30)  # a session ends then, whatever happens (ASVS 7.3.2)
TOUCH_INTERVAL = timedelta(minutes=1)  # a session's use is written at most this often

# The user of the live session with this secret, or NULL. As a scalar subquery it is looked up
# once for a statement; a join would be planned into it, and cost more.
live_user = (
    select(sessions.c.user_id)
    .where(
        sessions.c.secret_hash == bindparam("session"),
        sessions.c.expires_at > func.now(),
    )
    .scalar_subquery()
)

_idle = cast(bindparam("idle"), Interval)
_INSERT = Statement(
    "sessions.insert",
    insert(sessions)
    .from_select(
        ["id", "user_id", "secret_hash", "expires_at"],
        # Only while the password is the one that was checked, so that a login that overtakes a
        # change of the password opens nothing.
        select(
            cast(bindparam("id"), Uuid(as_uuid=False)),
            users.c.id,
            bindparam("session"),
            func.now() + func.least(_idle, literal(LIFETIME, Interval)),
        ).where(
            users.c.id == bindparam("user"), users.c.password_hash == bindparam("password_hash")
        ),
    )
    .returning(sessions.c.id),
)
_first_use_today = (
    update(users)
    .where(users.c.id == live_user, users.c.last_active_on.is_distinct_from(func.current_date()))
    .values(last_active_on=func.current_date())
    .returning(users.c.id)
    .cte("first_use_today")
)
_TOUCH = Statement(
    "sessions.touch",
    update(sessions)
    .where(
        sessions.c.secret_hash == bindparam("session"),
        sessions.c.expires_at > func.now(),
        sessions.c.last_used_at < func.now() - literal(TOUCH_INTERVAL, Interval),
        # The user is written first, as by a change of the password: two orders would be a deadlock.
        select(func.count()).select_from(_first_use_today).scalar_subquery() >= 0,
    )
    .values(
        last_used_at=func.now(),
        expires_at=func.least(
            func.now() + _idle,
            sessions.c.created_at + literal(LIFETIME, Interval),
            type_=DateTime(timezone=True),
        ),
    )
    .returning(sessions.c.id),
)
_FIND_USER = Statement("sessions.find_user", select(live_user))
_FIND_EMAIL = Statement("sessions.find_email", select(users.c.email).where(users.c.id == live_user))
_DELETE = Statement(
    "sessions.delete",
    delete(sessions)
    .where(sessions.c.secret_hash == bindparam("session"), sessions.c.expires_at > func.now())
    .returning(sessions.c.user_id),
)
_DELETE_OF_USER = Statement(
    "sessions.delete_of_user",
    delete(sessions).where(sessions.c.user_id == bindparam("user")).returning(sessions.c.id),
)
_DELETE_ENDED = Statement(
    "sessions.delete_ended",
    delete(sessions).where(sessions.c.expires_at <= func.now()).returning(sessions.c.id),
)
_COUNT_LIVE = Statement(
    "sessions.count_live",
    select(func.count()).select_from(sessions).where(sessions.c.expires_at > func.now()),
)


async def insert_session(
    database: Database, user_id: str, secret_hash: bytes, *, password_hash: str, idle: int
) -> bool:
    """Insert a session that ends after `idle` seconds; False if the password has changed."""
    row = await database.fetch_one(
        _INSERT,
        id=str(uuid7()),
        user=user_id,
        session=secret_hash,
        password_hash=password_hash,
        idle=timedelta(seconds=idle),
    )
    return row is not None


async def touch_session(database: Database, secret_hash: bytes, idle: int) -> None:
    """Move the end of a session that is used to `idle` seconds from now; note its user's day."""
    await database.fetch_one(_TOUCH, session=secret_hash, idle=timedelta(seconds=idle))


async def find_session_user(database: Database, secret_hash: bytes) -> str | None:
    """Find whose live session this is."""
    row = await database.fetch_one(_FIND_USER, session=secret_hash)
    return row[0] if row else None


async def find_session_email(database: Database, secret_hash: bytes) -> str | None:
    """Find the e-mail address of the user of a live session."""
    row = await database.fetch_one(_FIND_EMAIL, session=secret_hash)
    return row[0] if row else None


async def delete_session(database: Database, secret_hash: bytes) -> str | None:
    """End a session and tell whose it was, if it was alive."""
    row = await database.fetch_one(_DELETE, session=secret_hash)
    return row[0] if row else None


async def delete_sessions_of_user(transaction: Transaction, user_id: str) -> int:
    """End all sessions of a user and count them."""
    return len(await transaction.run(_DELETE_OF_USER, user=user_id))


async def delete_ended_sessions(database: Database) -> int:
    """Delete the sessions that have ended by themselves and count them."""
    return len(await database.fetch_all(_DELETE_ENDED))


async def count_live_sessions(database: Database) -> int:
    """Count the sessions that have not ended."""
    row = await database.fetch_one(_COUNT_LIVE)
    return int(row[0]) if row else 0
