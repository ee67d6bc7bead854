"""The connection pool, in the only module that uses aiopg."""

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiopg
import psycopg2
import psycopg2.extensions

from taskapp.core.cancellation import raise_if_cancelled
from taskapp.core.errors import Unavailable
from taskapp.db.dsn import CONNECT_TIMEOUT
from taskapp.db.errors import (
    PREPARED_ELSEWHERE,
    UNREACHABLE,
    PreparedStatementLost,
    first_line,
    is_plan_outdated,
)
from taskapp.db.server_location import Server, ServerLocation
from taskapp.db.session_options import (
    OPTIONS,
    OPTIONS_QUERY,
    OVERRIDING_VARIABLES,
    SERVER_TIMEOUT,
    check_options,
)
from taskapp.db.statements import Statement
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

Row = tuple[Any, ...]

_TIMESTAMP_WITH_TIME_ZONE = 1184  # the type's oid in pg_type
_TRUSTED_IDLE_TIME = 1.0  # seconds after which a connection through a network is asked before use
_ANSWER_TIMEOUT = 1.0  # seconds for its answer
_TRIAL_TIMEOUT = 3.0  # seconds for a write that only finds out whether the server confirms any
_TRIAL = "SELECT pg_logical_emit_message(true, 'taskapp trial', '')"
# A trial that we gave up would wait on in the server, for as long as no standby is there.
_END_EARLIER_TRIALS = (
    "SELECT pg_cancel_backend(pid) FROM pg_stat_activity"
    " WHERE usename = session_user AND query = %(trial)s AND wait_event = 'SyncRep'"
    " AND query_start < clock_timestamp() - make_interval(secs => %(seconds)s)"
)
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
        self.is_remote = not connection.raw.info.host.startswith("/")
        self.idle_since = monotonic()  # seconds of the monotonic clock
        self._aiopg_connection = connection
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
        except psycopg2.errors.FeatureNotSupported as error:
            if is_plan_outdated(error):
                raise PreparedStatementLost from error
            raise

    def take_notices(self) -> bool:
        """Return whether the server has said something besides its results since the last call.

        Such as that a commit did not wait for the standbys, because somebody canceled the wait.
        """
        if not self._raw.notices:
            return False
        self._raw.notices.clear()
        return True

    def close(self) -> None:
        """Close the connection, even in the middle of a statement."""
        _close(self._aiopg_connection)


class ConnectionPool:
    """Lends connections, first come, first served.

    aiopg's own pool would cost a condition, a task and a check of every free connection, a sixth of
    a short request, and would hand a connection to the latest caller instead of the one waiting
    longest (ADR 0021).
    """

    def __init__(self, size: int, metrics: Metrics) -> None:
        self._location = ServerLocation(url="")
        self._prepared_statements = PreparedStatements()
        self._is_open = False
        self._size = size
        self._slots = asyncio.Semaphore(size)
        self._waiting = 0
        self._failure = ""  # why no connection could be opened, since one could
        self._open_connections = 0  # those that are being opened included
        self._idle: list[Connection] = []  # most recently used last, so that few stay warm
        metrics.pool_size.set_function(lambda: self._open_connections)
        metrics.pool_used.set_function(lambda: self._open_connections - len(self._idle))
        metrics.pool_waiting.set_function(lambda: self._waiting)

    async def open(self, url: str) -> None:
        """Open the first connection and check that it has the session options.

        Raises:
            SettingsError: the address cannot be parsed, or a pooler drops the session options.
            Unavailable: the server cannot be reached, or rejects the connection.
        """
        for name in OVERRIDING_VARIABLES:
            os.environ.pop(name, None)
        self._location = ServerLocation(url)
        async with self._slots:
            connection = await self._connect()
            try:
                with _as_unavailable():
                    async with asyncio.timeout(SERVER_TIMEOUT):
                        [options] = await connection.run(OPTIONS_QUERY)
                check_options(*options)
            except BaseException:
                self._retire(connection)
                raise
            self._idle.append(connection)
        self._is_open = True

    async def close(self) -> None:
        """Close all connections after the running statements have ended."""
        if not self._is_open:
            return
        self._is_open = False  # `acquire` raises Unavailable from now on
        for _ in range(self._size):
            await self._slots.acquire()
        self._retire_idle()
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
                if await self._is_usable(connection):
                    return connection
            return await self._connect_for_request()
        except BaseException:
            self._slots.release()
            raise

    def release(self, connection: Connection) -> None:
        """Return a connection to the pool, with nothing running on it."""
        connection.idle_since = monotonic()
        self._idle.append(connection)
        self._slots.release()

    def discard(self, connection: Connection) -> None:
        """Close a connection whose state is unknown, and free its place in the pool."""
        self._retire(connection)
        self._slots.release()

    async def try_write(self, on_answer: Callable[[], None]) -> bool:
        """Write on a connection besides the pool's; return whether the server confirmed it.

        `on_answer` is called when the server has answered a read, before the write.

        Raises:
            Unavailable: it answers nothing.
        """
        connection = await self._connect()
        try:
            with _as_unavailable():
                async with asyncio.timeout(_TRIAL_TIMEOUT):
                    earlier = {"trial": _TRIAL, "seconds": _TRIAL_TIMEOUT}
                    await connection.run(_END_EARLIER_TRIALS, earlier)
            on_answer()
            connection.take_notices()
            async with asyncio.timeout(_TRIAL_TIMEOUT):
                await connection.run(_TRIAL)
        except (*UNREACHABLE, asyncio.CancelledError):  # aiopg's, when the server cancels
            raise_if_cancelled()
            return False
        else:
            return not connection.take_notices()
        finally:
            self._retire(connection)

    async def _connect_for_request(self) -> Connection:
        if not self._is_open:
            raise Unavailable
        try:
            connection = await self._connect()
        except Unavailable as error:
            self._note_failure(error.detail)
            raise Unavailable from error  # the details are for operators
        self._failure = ""
        return connection

    async def _connect(self) -> Connection:
        """Open a connection to the server of before, or else to the one that is there now."""
        self._open_connections += 1
        try:
            server = await self._location.find()
            try:
                return await self._connect_to(server)
            except UNREACHABLE:
                raise_if_cancelled()
                self._location.forget(server)
            server = await self._location.find()
            with _as_unavailable():
                return await self._connect_to(server)
        except BaseException:
            self._open_connections -= 1
            raise

    async def _connect_to(self, server: Server) -> Connection:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            connection = await _open_connection(server.parameters)
            try:
                await _prepare_connection(connection)
                cursor = await connection.cursor()
            except BaseException:
                _close(connection)
                raise
        return Connection(connection, cursor, self._prepared_statements)

    async def _is_usable(self, connection: Connection) -> bool:
        """Return whether an idle connection still leads to the server; close it if it does not.

        A router on the way may have forgotten it: then nothing comes back, not even an error.
        """
        if connection.is_closed:
            self._retire(connection)
            return False
        is_trusted = monotonic() - connection.idle_since < _TRUSTED_IDLE_TIME
        if is_trusted or not connection.is_remote:
            return True
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                await connection.run("SELECT 1")
        except UNREACHABLE as error:
            self._retire(connection)
            raise_if_cancelled()
            log("database.connection_lost", "warning", error=first_line(error))
            self._retire_idle()  # they were idle for longer
            return False
        except BaseException:
            self._retire(connection)
            raise
        return True

    def _retire_idle(self) -> None:
        while self._idle:
            self._retire(self._idle.pop())

    def _note_failure(self, reason: str) -> None:
        """Log why the server cannot be reached, once until it can: every request tries."""
        if reason != self._failure:
            log("database.connection_failed", "warning", error=reason)
        self._failure = reason

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._open_connections -= 1


@contextmanager
def _as_unavailable() -> Iterator[None]:
    """Raise Unavailable for an error of a connection."""
    try:
        yield
    except UNREACHABLE as error:
        raise_if_cancelled()
        raise Unavailable(f"The database cannot be reached: {first_line(error)}") from error


async def _open_connection(parameters: dict[str, str]) -> Any:
    """Open a connection, and hand it to aiopg when it is open.

    libpq takes another socket for each attempt, such as with TLS and then without; aiopg would keep
    waiting for the first one (aio-libs/aiopg#837).
    """
    options = f"{parameters['options']} {OPTIONS}"  # of the same options the last one counts
    ours = {"options": options, "application_name": "taskapp"}
    raw = psycopg2.connect(async_=True, **parameters | ours)
    try:
        while (state := raw.poll()) != psycopg2.extensions.POLL_OK:
            await _until_ready(raw.fileno(), state)
        cursor = raw.cursor()
        cursor.execute("SELECT 1")  # aiopg only takes a connection that is waiting
        return await aiopg.connect(
            "",
            connection_factory=lambda *_arguments, **_options: raw,
            timeout=None,  # type: ignore[arg-type]  # only passed on, and None is allowed
            enable_hstore=False,
            enable_json=False,
            enable_uuid=False,
        )
    except BaseException:
        raw.close()
        raise


async def _until_ready(descriptor: int, state: int) -> None:
    loop = asyncio.get_running_loop()
    is_read = state == psycopg2.extensions.POLL_READ
    ready = asyncio.Event()
    (loop.add_reader if is_read else loop.add_writer)(descriptor, ready.set)
    try:
        await ready.wait()
    finally:
        (loop.remove_reader if is_read else loop.remove_writer)(descriptor)


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
    return text and text[:-3].replace(" ", "T") + "Z"
