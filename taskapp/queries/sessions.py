"""Statements on sessions, and the expressions by which other statements check one."""

from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    DateTime,
    Interval,
    LargeBinary,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    literal_column,
    or_,
    select,
    text,
    true,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import sessions, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries.portions import delete_portion

LIFETIME = timedelta(days=30)  # of a session, however much it is used (ASVS 7.3.2)
TOUCH_INTERVAL = timedelta(minutes=1)  # between two writes of a session's use
MAX_SESSIONS = 200  # of one user, besides personal tokens; a login beyond them ends the oldest
MAX_LISTED = MAX_SESSIONS + 1  # of each kind; one more shows that there are more
_MAX_DELETED = 1_000  # oldest sessions that a login ends


class Session(NamedTuple):
    """A session or personal token, as its user sees it; timestamps are RFC 3339 in UTC.

    Only personal tokens have a name. `expires_at` is None for a token that does not expire.
    `is_current` marks the session of the request.
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
    """The numbers of ended sessions and of revoked personal tokens."""

    sessions: int
    tokens: int

    def plus(self, other: "EndedSessions") -> "EndedSessions":
        """Return both numbers with those of another."""
        return EndedSessions(self.sessions + other.sessions, self.tokens + other.tokens)


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


# The user of the live session with this secret hash, or NULL. A scalar subquery is evaluated once
# for each statement; a join would complicate the plan and cost more.
session_user_id = _live()
# The same for statements that write: NULL also for a read-only token.
writable_session_user_id = _live(~sessions.c.is_read_only)

# The same, and locks the user. Whatever changes what tasks count for begins with it: the triggers
# that count tasks update the user's row afterwards, and locks in another order could end in a
# deadlock. Tasks are counted one statement after the other then.
_locked_owner = (
    select(users.c.id)
    .where(users.c.id == writable_session_user_id)
    .with_for_update(key_share=True)
    .correlate(None)
)
locked_writable_user_id = _locked_owner.scalar_subquery()
owner_characters = _locked_owner.with_only_columns(users.c.task_characters).scalar_subquery()

# One row with the user of an INSERT; its `user_id` is NULL if the session may not write.
owner_row = select(writable_session_user_id.label("user_id")).subquery("owner")
# Without a typed one, the account is of an earlier version.
shown_email = func.coalesce(users.c.email_as_typed, users.c.email)
session_email = select(shown_email).where(users.c.id == session_user_id).scalar_subquery()


def _is_within_quota(number: Any, characters: Any) -> Any:
    """Return the condition that the quota of a user allows so many more tasks and characters."""
    max_tasks, max_characters = (
        bindparam(name, type_=BigInteger) for name in ("max_tasks", "max_characters")
    )
    return and_(
        or_(max_tasks == text("0"), users.c.task_count + number <= max_tasks),
        or_(max_characters == text("0"), users.c.task_characters + characters <= max_characters),
    )


def owner_within_quota(number: Any, characters: Any) -> Any:
    """Return one row with the user of an INSERT of so many tasks, if its quota allows them."""
    return (
        _locked_owner.with_only_columns(users.c.id.label("user_id"))
        .where(_is_within_quota(number, characters))
        .subquery("owner")
    )


def counted_owner(characters: Any) -> Any:
    """Return one row with the user of an INSERT of one task, which is counted here.

    The trigger that counts tasks costs twice as much (ADR 0042); it is told not to. The INSERT has
    to insert or to fail.
    """
    return (
        update(users)
        .where(users.c.id == writable_session_user_id, _is_within_quota(text("1"), characters))
        .values(
            task_count=users.c.task_count + text("1"),
            task_characters=users.c.task_characters + characters,
        )
        .returning(
            users.c.id.label("user_id"),
            func.set_config(text("'taskapp.is_counted'"), text("'yes'"), true()),
        )
        .cte("owner")
    )


_idle = bindparam("idle", type_=Interval)
is_token = sessions.c.name.is_not(None)
is_login = ~is_token
# Only if the password is still the one that was checked. The lock keeps it from being changed
# meanwhile, so a login with the old password cannot outlive the change; other logins wait too.
_LOCK_UNCHANGED_USER = Statement(
    "users.lock_unchanged",
    select(users.c.id)
    .where(users.c.id == bindparam("user"), users.c.password_hash == bindparam("password_hash"))
    .with_for_update(key_share=True),
)
_INSERT = Statement(
    "sessions.insert",
    insert(sessions)
    .values(
        id=bindparam("id", type_=Uuid(as_uuid=False)),
        user_id=bindparam("user", type_=Uuid(as_uuid=False)),
        secret_hash=bindparam("session", type_=LargeBinary),
        expires_at=func.now() + func.least(_idle, literal(LIFETIME, Interval)),
        address=bindparam("address", type_=Text),
        user_agent=bindparam("user_agent", type_=Text),
    )
    .on_conflict_do_update(  # its form was sent twice
        index_elements=["secret_hash"], set_={"last_used_at": func.now()}
    )
    .returning(sessions.c.id),
)
_newest_first = (sessions.c.created_at.desc(), sessions.c.id.desc())
_newest = (
    select(sessions.c.id)
    .where(sessions.c.user_id == bindparam("user"), is_login)
    .order_by(*_newest_first)
    .limit(literal_column(str(MAX_SESSIONS)))
    .correlate(None)
)
# A portion, because versions before had no limit. Rows that another statement has locked stay until
# the next login: waiting for one after the other could end in a deadlock.
_DELETE_OLDEST = Statement(
    "sessions.delete_oldest",
    delete_portion(
        sessions,
        sessions.c.user_id == bindparam("user"),
        is_login,
        sessions.c.id.not_in(_newest),
        sessions.c.secret_hash != bindparam("session"),  # if the clock was set back
        skip_locked=True,
    ).returning(sessions.c.id),
)
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
        # Lock the user before the session, as a change of the password does, to avoid deadlocks.
        select(func.count()).select_from(_first_use_today).scalar_subquery() >= 0,
    )
    .values(
        last_used_at=func.now(),
        address=bindparam("new_address"),
        expires_at=case(
            (is_token, sessions.c.expires_at),
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
_own = (
    select(
        *(sessions.c[name] for name in Session._fields[:6]),
        func.nullif(sessions.c.expires_at, text("'infinity'"), type_=DateTime(timezone=True)),
        sessions.c.is_read_only,
        sessions.c.secret_hash == bindparam("session"),
        session_email,
    )
    .where(
        sessions.c.user_id == session_user_id,
        sessions.c.expires_at > func.now(),
    )
    .limit(literal_column(str(MAX_LISTED)))
)
_LIST = Statement(
    "sessions.list",
    union_all(
        _own.where(is_login).order_by(*_newest_first),
        _own.where(is_token).order_by(sessions.c.name),
    ),
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
    .returning(is_token),
)
_DELETE_OTHERS = Statement(
    "sessions.delete_others",
    delete(sessions)
    .where(
        sessions.c.user_id == session_user_id,
        sessions.c.secret_hash != bindparam("session"),
        or_(is_login, bindparam("tokens_too", type_=Boolean)),
    )
    .returning(is_token),
)
_DELETE_OF_USER = Statement(
    "sessions.delete_of_user",
    delete(sessions)
    .where(
        sessions.c.user_id == bindparam("user"),
        sessions.c.secret_hash.is_distinct_from(bindparam("kept")),
    )
    .returning(is_token),
)
_DELETE_PORTION = Statement(
    "sessions.delete_portion",
    delete_portion(
        sessions,
        sessions.c.user_id == bindparam("user"),
        sessions.c.secret_hash.is_distinct_from(bindparam("kept")),
        sessions.c.secret_hash.is_distinct_from(bindparam("also_kept")),
        or_(is_login, bindparam("tokens_too", type_=Boolean)),
    ).returning(is_token),
)
_DELETE_ENDED = Statement(
    "sessions.delete_ended",
    delete_portion(
        sessions, sessions.c.expires_at <= func.now(), order=(sessions.c.expires_at,)
    ).returning(sessions.c.id),
)
_COUNT_LIVE = Statement(
    "sessions.count_live",
    select(func.count()).select_from(sessions).where(is_login, sessions.c.expires_at > func.now()),
)


async def insert_session(
    transaction: Transaction,
    user_id: str,
    secret_hash: bytes,
    *,
    password_hash: str,
    idle: int,
    address: str,
    user_agent: str,
) -> str | None:
    """Insert a session that ends after `idle` seconds without use, and return its id.

    Of more than MAX_SESSIONS, the oldest end. Return None if the password has changed since it was
    checked.
    """
    if not await transaction.run(_LOCK_UNCHANGED_USER, user=user_id, password_hash=password_hash):
        return None
    rows = await transaction.run(
        _INSERT,
        id=str(uuid7()),
        user=user_id,
        session=secret_hash,
        idle=timedelta(seconds=idle),
        address=address,
        user_agent=user_agent,
    )
    await transaction.run(_DELETE_OLDEST, user=user_id, session=secret_hash, limit=_MAX_DELETED)
    session_id: str = rows[0][0]
    return session_id


async def touch_session(database: Database, secret_hash: bytes, idle: int, address: str) -> None:
    """Record the use of a session, its address and day; it ends after `idle` seconds from now."""
    await database.fetch_one(
        _TOUCH, session=secret_hash, idle=timedelta(seconds=idle), new_address=address
    )


async def list_sessions(
    database: Database, session: SessionToken
) -> tuple[list[Session], str | None]:
    """List the user's newest live sessions, then the tokens by name, each up to MAX_LISTED.

    Return the email address too; None without a session.
    """
    rows = await database.fetch_all(_LIST, session=session.secret_hash)
    return [Session(*row[:-1]) for row in rows], rows[0][-1] if rows else None


async def find_session_user(database: Database, secret_hash: bytes) -> str | None:
    """Return the id of the user of a live session, or None."""
    user_id: str | None = await database.fetch_value(_FIND_USER, session=secret_hash)
    return user_id


async def find_session_writer(database: Database, secret_hash: bytes) -> str | None:
    """Return the id of the user of a live session that may write, or None."""
    user_id: str | None = await database.fetch_value(_FIND_WRITER, session=secret_hash)
    return user_id


async def replace_session_secret(
    transaction: Transaction, old_hash: bytes, new_hash: bytes
) -> bool:
    """Replace the secret of a live session; return False if it has ended."""
    return bool(await transaction.run(_REPLACE_SECRET, session=old_hash, new_session=new_hash))


async def delete_session(database: Database, secret_hash: bytes) -> str | None:
    """End a live session and return the id of its user, or None if it has ended already."""
    user_id: str | None = await database.fetch_value(_DELETE, session=secret_hash)
    return user_id


async def delete_session_by_id(
    database: Database, session: SessionToken, session_id: str
) -> EndedSessions | None:
    """End a session of the user, or revoke a token; return None if there is none with this id."""
    rows = await database.fetch_all(_DELETE_BY_ID, session=session.secret_hash, id=session_id)
    return _count_kinds(rows) if rows else None


async def delete_other_sessions(
    database: Database, session: SessionToken, *, tokens_too: bool
) -> EndedSessions:
    """End all other sessions of the user."""
    rows = await database.fetch_all(
        _DELETE_OTHERS, session=session.secret_hash, tokens_too=tokens_too
    )
    return _count_kinds(rows)


async def delete_sessions_of_user(
    transaction: Transaction, user_id: str, *, kept: bytes | None = None
) -> EndedSessions:
    """End all sessions and tokens of a user, except the one with the secret hash `kept`."""
    return _count_kinds(await transaction.run(_DELETE_OF_USER, user=user_id, kept=kept))


async def delete_session_portion(
    database: Database,
    user_id: str,
    *,
    kept: bytes | None,
    also_kept: bytes | None,
    tokens_too: bool,
    limit: int,
) -> EndedSessions:
    """End some sessions of a user, except those with the secret hashes that are kept."""
    rows = await database.fetch_all(
        _DELETE_PORTION,
        user=user_id,
        kept=kept,
        also_kept=also_kept,
        tokens_too=tokens_too,
        limit=limit,
    )
    return _count_kinds(rows)


async def delete_ended_sessions(database: Database, *, limit: int) -> int:
    """Delete some of the expired sessions and tokens, and return their number."""
    return len(await database.fetch_all(_DELETE_ENDED, limit=limit))


async def count_live_sessions(database: Database) -> int:
    """Count the live sessions, without tokens."""
    return int(await database.fetch_value(_COUNT_LIVE) or 0)


def _count_kinds(rows: list[tuple[Any, ...]]) -> EndedSessions:
    tokens = sum(is_token for (is_token,) in rows)
    return EndedSessions(len(rows) - tokens, tokens)
