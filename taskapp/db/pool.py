"""The connection pool, in the only module that uses aiopg."""

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiopg
import psycopg2
import psycopg2.extensions

from taskapp.core.errors import Unavailable
from taskapp.db.dsn import CONNECT_TIMEOUT
from taskapp.db.errors import (
    PREPARED_ELSEWHERE,
    UNREACHABLE,
    PreparedStatementLost,
    first_line,
)
from taskapp.db.session_options import OPTIONS, OPTIONS_QUERY, SERVER_TIMEOUT, check_options
from taskapp.db.statements import Statement
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

Row = tuple[Any, ...]

_TIMESTAMP_WITH_TIME_ZONE = 1184  # the type's oid in pg_type
_CLOSED_BY_US = 1  # psycopg2's `connection.closed` after close(); it is 2 when the connection broke


@dataclass
class PreparedStatements:
    """Whether a pool's connections prepare statements; off once a pooler was detected."""

    are_enabled: bool = True


class Connection:
    """One connection with one cursor: creating a cursor costs more than a short statement."""

    def __init__(
        self, connection: Any, cursor: Any, prepared_statements: PreparedStatements
    ) -> None:
        self.aiopg_connection = connection
        self._raw = connection.raw
        self._cursor = cursor
        self._result = cursor.raw
        self._prepared_statements = prepared_statements
        self._prepared_keys: set[str] = set()

    @property
    def is_closed(self) -> bool:
        """Return whether the connection was closed, by either side."""
        return bool(self._raw.closed)

    async def run(self, text: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """Run a statement and return its rows."""
        await self._cursor.execute(text, parameters)
        if self._result.description is None:
            return []
        rows: list[Row] = self._result.fetchall()
        return rows

    async def run_prepared(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        """Run a statement, prepared at its first use on this connection (ADR 0027).

        Raises:
            PreparedStatementLost: nothing was run; repeat it on another connection.
        """
        if not (statement.is_prepared and self._prepared_statements.are_enabled):
            return await self.run(statement.text, parameters)
        try:
            if statement.key not in self._prepared_keys:
                await self._cursor.execute(statement.prepare_sql)
                self._prepared_keys.add(statement.key)
            return await self.run(statement.execute_sql, parameters)
        except PREPARED_ELSEWHERE as error:
            self._prepared_statements.are_enabled = False
            raise PreparedStatementLost from error

    def close(self) -> None:
        """Close the connection, even in the middle of a statement."""
        _close(self.aiopg_connection)


class ConnectionPool:
    """Lends connections, first come, first served.

    aiopg's pool opens and closes them but does not get them back after each statement. That would
    cost a condition, a task and a check of every free connection, a sixth of a short request, and
    would hand a connection to the latest caller instead of the one waiting longest (ADR 0021).
    """

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._pool: Any = None
        self._prepared_statements = PreparedStatements()
        self._is_open = False
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._failure = ""  # why no connection could be opened, since one could
        self._idle: list[Connection] = []  # most recently used last, so that few stay warm
        metrics.pool_size.set_function(lambda: self._pool.size if self._is_open else 0)
        metrics.pool_used.set_function(
            lambda: self._pool.size - len(self._idle) if self._is_open else 0
        )
        metrics.pool_waiting.set_function(lambda: self._waiting)

    async def open(self, url: str) -> None:
        """Open the first connection and check that it has the session options.

        Raises:
            SettingsError: a pooler between us and the server drops the session options.
            Unavailable: the server cannot be reached, or rejects the connection.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._pool = await aiopg.create_pool(
                    url,
                    minsize=1,
                    maxsize=self._size,
                    timeout=None,  # type: ignore[arg-type]  # only passed on, and None is allowed
                    enable_hstore=False,
                    enable_json=False,
                    enable_uuid=False,
                    on_connect=_prepare_connection,
                    options=OPTIONS,
                    application_name="taskapp",
                )
            async with asyncio.timeout(SERVER_TIMEOUT):
                await _check_options(self._pool)
        except UNREACHABLE as error:
            raise Unavailable(f"The database cannot be reached: {first_line(error)}") from error
        self._is_open = True

    async def close(self) -> None:
        """Close all connections after the running statements have ended."""
        if not self._is_open:
            return
        self._is_open = False  # `acquire` raises Unavailable from now on
        # Wait by our own count: aiopg waits for ever for a connection that comes back broken.
        for _ in range(self._size):
            await self._slots.acquire()
        while self._idle:
            self._retire(self._idle.pop())
        self._pool.close()
        await self._pool.wait_closed()
        for _ in range(self._size):
            self._slots.release()

    async def acquire(self) -> Connection:
        """Wait for a free connection and take it; `release` or `discard` has to follow.

        Raises:
            Unavailable: the pool is closed, or no connection can be opened.
        """
        self._waiting += 1
        try:
            await self._slots.acquire()
        finally:
            self._waiting -= 1
        try:
            while self._idle:
                connection = self._idle.pop()
                if not connection.is_closed:
                    return connection
                self._retire(connection)
            return await self._connect()
        except BaseException:
            self._slots.release()
            raise

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool, with nothing running on it."""
        self._idle.append(connection)
        self._slots.release()

    def discard(self, connection: Connection) -> None:
        """Close a connection whose state is unknown, and free its place in the pool."""
        self._retire(connection)
        self._slots.release()

    async def _connect(self) -> Connection:
        if not self._is_open:
            raise Unavailable
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await self._pool.acquire()
                cursor = await connection.cursor()
            self._failure = ""
            return Connection(connection, cursor, self._prepared_statements)
        except UNREACHABLE as error:
            self._note_failure(first_line(error))
            raise Unavailable from error

    def _note_failure(self, reason: str) -> None:
        """Log why the server cannot be reached, once until it can: every request tries."""
        if reason != self._failure:
            log("database.unreachable", "warning", error=reason)
        self._failure = reason

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._pool.release(connection.aiopg_connection)


async def _check_options(pool: Any) -> None:
    try:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(OPTIONS_QUERY)
            check_options(*await cursor.fetchone())
    except BaseException:
        pool.terminate()
        await pool.wait_closed()
        raise


async def _prepare_connection(connection: Any) -> None:
    timestamps = psycopg2.extensions.new_type(
        (_TIMESTAMP_WITH_TIME_ZONE,), "RFC3339", _read_timestamp
    )
    psycopg2.extensions.register_type(timestamps, connection.raw)
    watcher = asyncio.create_task(_close_when_lost(connection))
    _watchers.add(watcher)
    watcher.add_done_callback(_watchers.discard)


_watchers: set[asyncio.Task[None]] = set()  # the event loop keeps only weak references to tasks


async def _close_when_lost(connection: Any) -> None:
    """Close an idle connection that broke; its socket would keep the event loop busy."""
    with suppress(psycopg2.Error):
        await connection.notifies.get()  # nothing sends NOTIFY: it ends when the connection breaks
    _close(connection)


def _close(connection: Any) -> None:
    """Close only once: a second close could close a file descriptor that has been reused."""
    if connection.raw.closed != _CLOSED_BY_US:
        connection.close()


def _read_timestamp(text: str | None, _cursor: object) -> str | None:
    """Convert PostgreSQL's ISO form in UTC, "2026-02-02 10:00:00.5+00", to RFC 3339."""
    return None if text is None else f"{text[:10]}T{text[11:-3]}Z"
