"""Every statement on sessions, and the expression by which others prove one."""

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    DateTime,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    bindparam,
    case,
    delete,
    func,
    literal,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import login_addresses, sessions, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement

LIFETIME = timedelta(days=30)  # a session ends then, whatever happens (ASVS 7.3.2)
TOUCH_INTERVAL = timedelta(minutes=1)  # a session's use is written at most this often


class Session(NamedTuple):
    """A session, as its owner sees it; `is_current` marks the one that asks. Moments are RFC 3339.

    A personal token has a name; without an end, `expires_at` is None.
    """

    id: str
    name: str | None
    user_agent: str
    address: str
    created_at: str
    last_used_at: str
    expires_at: str | None
    is_read_only: bool
    is_current: bool


class EndedSessions(NamedTuple):
    """How many sessions were ended, and how many personal tokens were revoked."""

    sessions: int
    tokens: int


def _live(*conditions: Any) -> Any:
    return (
        select(sessions.c.user_id)
        .where(
            sessions.c.secret_hash == bindparam("session"),
            sessions.c.expires_at > func.now(),
            *conditions,
        )
        .correlate(None)
        .scalar_subquery()
    )


# The user of the live session with this secret, or NULL. As a scalar subquery it is looked up
# once for a statement; a join would be planned into it, and cost more.
session_user_id = _live()
# The same for what writes: NULL also for a token that may only read.
writable_session_user_id = _live(~sessions.c.is_read_only)

# The owner of what is inserted; its `user_id` is NULL for whoever may not write.
owner_row = select(writable_session_user_id.label("user_id")).subquery("owner")
session_email = select(users.c.email).where(users.c.id == session_user_id).scalar_subquery()
_idle = bindparam("idle", type_=Interval)
_begun = (
    insert(sessions)
    .from_select(
        ["id", "user_id", "secret_hash", "expires_at", "address", "user_agent"],
        # Only while the password is the one that was checked, and nobody changes it meanwhile, so
        # that a login that overtakes a change of the password opens nothing.
        select(
            bindparam("id", type_=Uuid(as_uuid=False)),
            users.c.id,
            bindparam("session", type_=LargeBinary),
            func.now() + func.least(_idle, literal(LIFETIME, Interval)),
            bindparam("address", type_=Text),
            bindparam("user_agent", type_=Text),
        )
        .where(users.c.id == bindparam("user"), users.c.password_hash == bindparam("password_hash"))
        .with_for_update(read=True),
    )
    .returning(sessions.c.user_id)
    .cte("begun")
)
_INSERT = Statement(
    "sessions.insert",
    insert(login_addresses)
    .from_select(["user_id", "address"], select(_begun.c.user_id, bindparam("address", type_=Text)))
    .on_conflict_do_update(
        index_elements=["user_id", "address"], set_={"last_login_at": func.now()}
    )
    .returning(login_addresses.c.user_id),
)
_is_token = sessions.c.name.is_not(None)
_first_use_today = (
    update(users)
    .where(
        users.c.id == session_user_id, users.c.last_active_on.is_distinct_from(func.current_date())
    )
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
        address=bindparam("new_address"),
        expires_at=case(
            (_is_token, sessions.c.expires_at),
            else_=func.least(
                func.now() + _idle,
                sessions.c.created_at + literal(LIFETIME, Interval),
                type_=DateTime(timezone=True),
            ),
        ),
    )
    .returning(sessions.c.id),
)
_FIND_USER = Statement("sessions.find_user", select(session_user_id))
_FIND_WRITER = Statement("sessions.find_writer", select(writable_session_user_id))
_LIST = Statement(
    "sessions.list",
    select(
        *(sessions.c[name] for name in Session._fields[:6]),
        func.nullif(sessions.c.expires_at, text("'infinity'"), type_=DateTime(timezone=True)),
        sessions.c.is_read_only,
        sessions.c.secret_hash == bindparam("session"),
        session_email,
    ).where(sessions.c.user_id == session_user_id, sessions.c.expires_at > func.now()),
)
_REPLACE_SECRET = Statement(
    "sessions.replace_secret",
    update(sessions)
    .where(sessions.c.secret_hash == bindparam("session"), sessions.c.expires_at > func.now())
    .values(secret_hash=bindparam("new_session"))
    .returning(sessions.c.id),
)
_DELETE = Statement(
    "sessions.delete",
    delete(sessions)
    .where(sessions.c.secret_hash == bindparam("session"), sessions.c.expires_at > func.now())
    .returning(sessions.c.user_id),
)
_DELETE_BY_ID = Statement(
    "sessions.delete_by_id",
    delete(sessions)
    .where(sessions.c.id == bindparam("id"), sessions.c.user_id == session_user_id)
    .returning(_is_token),
)
_DELETE_OTHERS = Statement(
    "sessions.delete_others",
    delete(sessions)
    .where(
        sessions.c.user_id == session_user_id,
        sessions.c.secret_hash != bindparam("session"),
        ~_is_token,
    )
    .returning(sessions.c.id),
)
_DELETE_OF_USER = Statement(
    "sessions.delete_of_user",
    delete(sessions)
    .where(
        sessions.c.user_id == bindparam("user"),
        sessions.c.secret_hash.is_distinct_from(bindparam("kept")),
    )
    .returning(_is_token),
)
_DELETE_ENDED = Statement(
    "sessions.delete_ended",
    delete(sessions).where(sessions.c.expires_at <= func.now()).returning(sessions.c.id),
)
_COUNT_LIVE = Statement(
    "sessions.count_live",
    select(func.count())
    .select_from(sessions)
    .where(~_is_token, sessions.c.expires_at > func.now()),
)


async def insert_session(
    database: Database,
    user_id: str,
    secret_hash: bytes,
    *,
    password_hash: str,
    idle: int,
    address: str,
    user_agent: str,
) -> bool:
    """Insert a session that ends after `idle` seconds; False if the password has changed.

    The address is noted as one from which somebody has logged in to this account.
    """
    row = await database.fetch_one(
        _INSERT,
        id=str(uuid7()),
        user=user_id,
        session=secret_hash,
        password_hash=password_hash,
        idle=timedelta(seconds=idle),
        address=address,
        user_agent=user_agent,
    )
    return row is not None


async def touch_session(database: Database, secret_hash: bytes, idle: int, address: str) -> None:
    """Note where and on which day a session is used; its end is `idle` seconds from now."""
    await database.fetch_one(
        _TOUCH, session=secret_hash, idle=timedelta(seconds=idle), new_address=address
    )


async def list_sessions(
    database: Database, session: SessionToken
) -> tuple[list[Session], str | None]:
    """List the live sessions of a user, tokens too, with the e-mail address; None without any."""
    rows = await database.fetch_all(_LIST, session=session.secret_hash)
    return [Session(*row[:-1]) for row in rows], rows[0][-1] if rows else None


async def find_session_user(database: Database, secret_hash: bytes) -> str | None:
    """Find whose live session this is."""
    row = await database.fetch_one(_FIND_USER, session=secret_hash)
    return row[0] if row else None


async def find_session_writer(database: Database, secret_hash: bytes) -> str | None:
    """Find whose live session this is, if it may write."""
    row = await database.fetch_one(_FIND_WRITER, session=secret_hash)
    return row[0] if row else None


async def replace_session_secret(
    transaction: Transaction, old_hash: bytes, new_hash: bytes
) -> bool:
    """Give a live session another secret."""
    return bool(await transaction.run(_REPLACE_SECRET, session=old_hash, new_session=new_hash))


async def delete_session(database: Database, secret_hash: bytes) -> str | None:
    """End a session and tell whose it was, if it was alive."""
    row = await database.fetch_one(_DELETE, session=secret_hash)
    return row[0] if row else None


async def delete_session_by_id(
    database: Database, session: SessionToken, session_id: str
) -> EndedSessions | None:
    """End a session of the session, or revoke a token; None if there is no such."""
    rows = await database.fetch_all(_DELETE_BY_ID, session=session.secret_hash, id=session_id)
    return _counted(rows) if rows else None


async def delete_other_sessions(database: Database, session: SessionToken) -> int:
    """End all sessions of the owner but this one, tokens not among them, and count them."""
    return len(await database.fetch_all(_DELETE_OTHERS, session=session.secret_hash))


async def delete_sessions_of_user(
    transaction: Transaction, user_id: str, *, kept: bytes | None = None
) -> EndedSessions:
    """End all sessions of a user, tokens too, but the one with the secret's hash `kept`."""
    return _counted(await transaction.run(_DELETE_OF_USER, user=user_id, kept=kept))


async def delete_ended_sessions(database: Database) -> int:
    """Delete the sessions that have ended by themselves and count them."""
    return len(await database.fetch_all(_DELETE_ENDED))


async def count_live_sessions(database: Database) -> int:
    """Count the sessions that have not ended."""
    row = await database.fetch_one(_COUNT_LIVE)
    return int(row[0]) if row else 0


def _counted(rows: list[tuple[Any, ...]]) -> EndedSessions:
    tokens = sum(is_token for (is_token,) in rows)
    return EndedSessions(len(rows) - tokens, tokens)
