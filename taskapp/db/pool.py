"""The connections to the database: opened, lent in turn, watched, closed.

All that knows aiopg and psycopg2 stands here, so that another driver is a change of one file.
"""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions

from taskapp.config.settings import SettingsError
from taskapp.core.errors import Unavailable, UniqueViolation
from taskapp.db.session_options import ASKED, OPTIONS, SERVER_TIMEOUT, check_options
from taskapp.db.statements import Statement
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

Row = tuple[Any, ...]

CONNECT_TIMEOUT = 3.0  # seconds
# Seconds for which a refused write keeps this process from "ready", unless the same one succeeds.
REJECTED_WRITE_MEMORY = 30.0
_TIMESTAMP_WITH_TIME_ZONE = 1184  # the type's number in pg_type
_CLOSED_BY_US = 1  # of psycopg2, whose connections are at 2 when they broke
# SQLSTATE classes after which the same statement may work again: connection, resources, operator;
# and those of them, deadlock included, after which it is known not to have run.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_UNDONE_CLASSES = ("25", "40", "53")
_READ_ONLY = "25006"
# A pooler has put us on a connection of the server that is not the one of the statement before.
_PREPARED_ELSEWHERE = (
    psycopg2.errors.InvalidSqlStatementName,
    psycopg2.errors.DuplicatePreparedStatement,
)
_CONNECTION_LOST = (psycopg2.OperationalError, psycopg2.InterfaceError, OSError)
# aiopg asserts that a connection did not break just as it was made.
_UNREACHABLE = (psycopg2.Error, TimeoutError, OSError, AssertionError)


class ConnectionLostError(Exception):
    """The connection broke while a statement was on it."""


class PreparedStatementLost(Exception):
    """The server does not know the plan that it was to keep; no more are asked of it."""


@dataclass
class PreparedStatements:
    """Whether PostgreSQL keeps the plans of statements for us: not behind a pooler."""

    are_kept: bool = True


class Connection:
    """One connection, with a cursor that is kept: making one costs more than a short statement."""

    def __init__(self, connection: Any, cursor: Any, plans: PreparedStatements) -> None:
        """Take a connection of aiopg, a cursor of it, and whether plans are kept."""
        self._plans = plans
        self._kept: set[str] = set()
        self.aiopg_connection = connection
        self._raw = connection.raw
        self._cursor = cursor
        self._result = cursor.raw

    @property
    def is_closed(self) -> bool:
        """Tell whether nothing can be run on it any more."""
        return bool(self._raw.closed)

    async def run(self, text: str, parameters: dict[str, Any] | None = None) -> list[Row]:
        """Run a statement and give its rows."""
        await self._cursor.execute(text, parameters)
        if self._result.description is None:
            return []
        rows: list[Row] = self._result.fetchall()
        return rows

    async def run_prepared(self, statement: Statement, parameters: dict[str, Any]) -> list[Row]:
        """Run a statement, planned the first time, and give its rows (ADR 0027).

        Raises:
            PreparedStatementLost: it was not run, and has to be run again on another connection.
        """
        if not (statement.is_prepared and self._plans.are_kept):
            return await self.run(statement.text, parameters)
        try:
            if statement.key not in self._kept:
                await self._cursor.execute(statement.prepare_sql)
                self._kept.add(statement.key)
            return await self.run(statement.execute_sql, parameters)
        except _PREPARED_ELSEWHERE as error:
            self._plans.are_kept = False
            raise PreparedStatementLost from error

    def close(self) -> None:
        """Close it, whatever runs on it."""
        _close(self.aiopg_connection)


class ConnectionPool:
    """Lends connections, first come, first served.

    aiopg's pool opens and closes them. They are not given back to it after each statement: that
    costs a condition, a task and a look at every free connection, a sixth of a short request, and
    gives a connection to whoever asks next instead of who has waited longest (ADR 0021).
    """

    def __init__(self, size: int, metrics: Metrics) -> None:
        """Prepare for a number of connections; `open` makes the first."""
        self._pool: Any = None
        self._plans = PreparedStatements()
        self._is_open = False
        self._size = size
        self._turn = asyncio.Semaphore(size)
        self._waiting = 0
        self._idle: list[Connection] = []  # the last used last, so that few of many are warm
        self._refused: dict[str, float] = {}  # when, by the statement's name
        metrics.pool_size.set_function(lambda: self._pool.size if self._is_open else 0)
        metrics.pool_used.set_function(
            lambda: self._pool.size - len(self._idle) if self._is_open else 0
        )
        metrics.pool_waiting.set_function(lambda: self._waiting)

    async def open(self, url: str) -> None:
        """Connect to the server.

        Raises:
            SettingsError: something in between drops what we ask of a connection.
            Unavailable: it cannot be reached, or refuses us.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                self._pool = await aiopg.create_pool(
                    url,
                    minsize=1,
                    maxsize=self._size,
                    timeout=None,  # type: ignore[arg-type]  # it is only handed on, and None will do
                    enable_hstore=False,
                    enable_json=False,
                    enable_uuid=False,
                    on_connect=_prepare_connection,
                    options=OPTIONS,
                    application_name="taskapp",
                )
            async with asyncio.timeout(SERVER_TIMEOUT):
                await _check_options(self._pool)
        except _UNREACHABLE as error:
            raise Unavailable(f"The database cannot be reached: {_first_line(error)}") from error
        self._is_open = True

    async def close(self) -> None:
        """Close all connections, when the statements that run have ended."""
        if not self._is_open:
            return
        self._is_open = False  # whoever asks from now on is refused
        # Wait by our own count: aiopg waits for ever for a connection that comes back broken.
        for _ in range(self._size):
            await self._turn.acquire()
        while self._idle:
            self._retire(self._idle.pop())
        self._pool.close()
        await self._pool.wait_closed()
        for _ in range(self._size):
            self._turn.release()

    @property
    def accept_writes(self) -> bool:
        """Tell whether no write was refused, by a full disk or a read-only server, just now."""
        return all(monotonic() - at >= REJECTED_WRITE_MEMORY for at in self._refused.values())

    async def acquire(self) -> Connection:
        """Wait for one's turn and take a connection; `release` or `drop` has to follow.

        Raises:
            Unavailable: none can be opened.
        """
        self._waiting += 1
        try:
            await self._turn.acquire()
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
            self._turn.release()
            raise

    def release(self, connection: Connection, done: str) -> None:
        """Take back a connection on which nothing runs, after a statement of this name."""
        if self._refused:
            # Not by another: one that finds nothing to change is no proof that there is room.
            self._refused.pop(done, None)
        self._idle.append(connection)
        self._turn.release()

    def discard(self, connection: Connection) -> None:
        """Close a connection that may be in the middle of something, and take it back."""
        self._retire(connection)
        self._turn.release()

    def translate(self, error: Exception, name: str) -> Exception:
        """Give the error of ours for an error of the driver in a statement; others as they are."""
        if isinstance(error, psycopg2.errors.UniqueViolation):
            return UniqueViolation(error.diag.constraint_name or "")
        code = getattr(error, "pgcode", None) or ""
        if code.startswith("53") or code == _READ_ONLY:
            self._refused[name] = monotonic()
        if code == _READ_ONLY or (code and code.startswith(_PASSING_CLASSES)):
            log("database.refused", "warning", code=code)
            return Unavailable() if code.startswith(_UNDONE_CLASSES) else ConnectionLostError()
        # Without a code, libpq made it up itself; psycopg2 gives some of these the plain class.
        if not code and (
            isinstance(error, _CONNECTION_LOST) or type(error) is psycopg2.DatabaseError
        ):
            log("database.connection_lost", "warning", error=_first_line(error))
            return ConnectionLostError()
        return error

    async def _connect(self) -> Connection:
        if not self._is_open:
            raise Unavailable
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT):
                connection = await self._pool.acquire()
                return Connection(connection, await connection.cursor(), self._plans)
        except _UNREACHABLE as error:
            log("database.unreachable", "warning", error=_first_line(error))
            raise Unavailable from error

    def _retire(self, connection: Connection) -> None:
        connection.close()
        self._pool.release(connection.aiopg_connection)


def connect_once(url: str, purpose: str) -> Any:
    """Open one connection that blocks, outside of any pool; the server shows its purpose.

    Raises:
        SettingsError: the address cannot be read.
        Unavailable: the server cannot be reached, or refuses us.
    """
    if not _is_address(url):
        problem = (
            "TASKAPP_DATABASE_URL: it cannot be read as an address; in the user and the password "
            "write special characters as %2F for / and %40 for @"
        )
        raise SettingsError([problem])
    try:
        return psycopg2.connect(url, connect_timeout=int(CONNECT_TIMEOUT), application_name=purpose)
    except psycopg2.Error as error:
        raise Unavailable(f"The database cannot be reached: {_first_line(error)}") from error


def split_password(url: str) -> tuple[str, str]:
    """Split an address into one that a list of processes may show, and its password."""
    parts = psycopg2.extensions.parse_dsn(url)
    password = parts.pop("password", "")
    return psycopg2.extensions.make_dsn(**parts), password


def is_local(url: str) -> bool:
    """Tell whether an address leads to a Unix socket."""
    return bool(psycopg2.extensions.parse_dsn(url).get("host", "/").startswith("/"))


def _is_address(url: str) -> bool:
    """Tell whether libpq can read an address; its own words may quote a part of a password."""
    try:
        ports = psycopg2.extensions.parse_dsn(url).get("port", "")
    except psycopg2.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))


async def _check_options(pool: Any) -> None:
    try:
        async with pool.acquire() as connection, connection.cursor() as cursor:
            await cursor.execute(ASKED)
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


_watchers: set[asyncio.Task[None]] = set()  # the loop itself keeps no task alive


async def _close_when_lost(connection: Any) -> None:
    """Close a connection that broke while nobody used it; its socket would keep the loop busy."""
    with suppress(psycopg2.Error):
        await connection.notifies.get()  # nobody notifies: it ends when the connection does
    _close(connection)


def _close(connection: Any) -> None:
    """Close a connection once: the second time would cut off whoever has its descriptor by then."""
    if connection.raw.closed != _CLOSED_BY_US:
        connection.close()


def _read_timestamp(text: str | None, _cursor: object) -> str | None:
    """Make RFC 3339 of PostgreSQL's ISO form in UTC, "2026-02-02 10:00:00.5+00"."""
    return None if text is None else f"{text[:10]}T{text[11:-3]}Z"


def _first_line(error: BaseException) -> str:
    """Give the first line of an error, without the secrets that an address may hold."""
    lines = str(error).splitlines() or [type(error).__name__]
    return re.sub(r"://[^@/\s]*@", "://", lines[0])
