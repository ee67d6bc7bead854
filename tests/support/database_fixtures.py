"""Helpers that read and write the real database without the application."""

import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, closing, contextmanager
from typing import Any
from urllib.parse import urlsplit

import psycopg2
from uuid_utils import uuid7

from schema import COMPATIBILITY
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.observability.metrics import Metrics

NEWER = "9999"  # a revision
NO_HASH = "$2b$04$" + "." * 53  # matches no password

FIRST_WITH_UUIDV7 = 180000  # server_version_num
UUIDV7 = """
    CREATE FUNCTION uuidv7(shift interval DEFAULT '0') RETURNS uuid LANGUAGE sql AS $$
        SELECT (
            lpad(to_hex((extract(epoch FROM clock_timestamp() + shift) * 1000)::bigint), 12, '0')
            || substr(replace(gen_random_uuid()::text, '-', ''), 13)
        )::uuid
    $$
"""


@asynccontextmanager
async def open_database(
    url: str, pool_size: int = 4, metrics: Metrics | None = None
) -> AsyncIterator[Database]:
    """Yield an open pool."""
    database = Database(pool_size, metrics or Metrics())
    await database.open(url)
    try:
        yield database
    finally:
        await database.close()


@contextmanager
def new_database(url: str, options: str = "") -> Iterator[str]:
    """Yield the URL of a new database without tables on the same server."""
    name = f"test_{secrets.token_hex(4)}"
    execute(url, f"CREATE DATABASE {name} TEMPLATE template0 {options}")
    own_url = urlsplit(url)._replace(path=f"/{name}").geturl()
    try:
        yield own_url
    finally:
        execute(url, f"DROP DATABASE {name} WITH (FORCE)")


def add_uuidv7(url: str) -> None:
    """Create the function uuidv7() on a server before PostgreSQL 18."""
    [[version]] = execute(url, "SELECT current_setting('server_version_num')::int")
    if version < FIRST_WITH_UUIDV7:
        execute(url, UUIDV7)


def as_user(url: str, name: str) -> str:
    """Return the URL of the same database for another role, which has no password."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{name}@{host}").geturl()


def execute(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Run a statement on a new connection, and return its rows."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def set_time_limits(url: str) -> list[str]:
    """Set every limit of time for the users of a database to an hour; return their names."""
    names = ["statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout"]
    known = execute(url, "SELECT name FROM pg_settings WHERE name = ANY(%s)", names)
    for (name,) in known:
        execute(url, f"ALTER DATABASE {urlsplit(url).path[1:]} SET {name} = '1h'")
    return [name for (name,) in known]


def make_newer(url: str, oldest_program: str) -> None:
    """Write that a newer taskapp has migrated the database, which it has not."""
    comment = COMPATIBILITY.format(revision=NEWER, oldest_program=oldest_program)
    execute(url, "UPDATE alembic_version SET version_num = %s", NEWER)
    execute(url, "COMMENT ON TABLE alembic_version IS %s", comment)


@contextmanager
def _locked(url: str, statement: str) -> Iterator[None]:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(statement)
        yield
        connection.rollback()


def locked_tasks(url: str) -> AbstractContextManager[None]:
    """Lock the table of tasks against writes while the block runs."""
    return _locked(url, "LOCK TABLE tasks")


def locked_users(url: str) -> AbstractContextManager[None]:
    """Lock all users, whose tasks can then be read, but not added, while the block runs."""
    return _locked(url, "SELECT id FROM users FOR UPDATE")


def count_waiting(url: str) -> int:
    """Return how many statements in this database wait for a lock."""
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    [(number,)] = execute(url, waiting)
    return int(number)


def is_waited_for(url: str) -> bool:
    """Return whether a statement in this database waits for a lock."""
    return count_waiting(url) > 0


def add_user(url: str, name: str) -> str:
    """Insert a user without a password, and return the id."""
    user_id = str(uuid7())
    execute(
        url,
        "INSERT INTO users (id, email, password_hash) VALUES (%s, %s, %s)",
        *(user_id, f"{name}@example.com", NO_HASH),
    )
    return user_id


def add_session(url: str, user_id: str, lasts: str = "1 hour") -> SessionToken:
    """Insert a session that expires after this time, and return its session token."""
    secret_hash = secrets.token_bytes(32)
    execute(
        url,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at)"
        " VALUES (%s, %s, %s, now() + %s::interval)",
        *(str(uuid7()), user_id, secret_hash, lasts),
    )
    return SessionToken(user_id, secret_hash)


def add_tasks(url: str, user_id: str, number: int, *, status: str = "pending") -> list[str]:
    """Insert tasks, and return their ids, oldest first."""
    ids = [str(uuid7()) for _ in range(number)]
    execute(
        url,
        "INSERT INTO tasks (id, user_id, title, status)"
        " SELECT id, %s, 'task ' || place, %s FROM"
        " unnest(%s::uuid[]) WITH ORDINALITY AS made (id, place)",
        *(user_id, status, ids),
    )
    return ids
