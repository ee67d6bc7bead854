"""The database: a fair pool of connections, and statements that are compiled once.

All that knows aiopg and psycopg2 stands here, so that another driver is a change of one file.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from time import monotonic, perf_counter
from typing import Any, TypeVar

import aiopg
import psycopg2
import psycopg2.errors
import psycopg2.extensions
from sqlalchemy import Select
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.sql import ClauseElement

from taskapp.errors import OutcomeUnknown, Unavailable, UniqueViolation
from taskapp.logs import log
from taskapp.metrics import Metrics
from taskapp.settings import SettingsError

Row = tuple[Any, ...]
Result = TypeVar("Result")

STATEMENT_TIMEOUT = 4.0  # seconds, the wait for a connection included: 503 comes within five
SERVER_TIMEOUT = 3.5  # seconds; when the server gives up first, a change is known to be undone
CONNECT_TIMEOUT = 3.0  # seconds
REFUSED_WRITES_LAST = 30.0  # seconds for which a refused write keeps this process from "ready"
_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped
_TIMESTAMP_WITH_TIME_ZONE = 1184  # the type's number in pg_type
_OPTIONS = f"-c timezone=UTC -c datestyle=ISO -c statement_timeout={int(SERVER_TIMEOUT * 1000)}"
_CLOSED_BY_US = 1  # of psycopg2, whose connections are at 2 when they broke
# SQLSTATE classes after which the same statement may work again: connection, resources, operator;
# and those of them, deadlock included, after which it is known not to have run.
_PASSING_CLASSES = ("08", "40", "53", "57", "58")
_UNDONE_CLASSES = ("25", "40", "53")
_READ_ONLY = "25006"
_CONNECTION_LOST = (psycopg2.OperationalError, psycopg2.InterfaceError, OSError)


class Statement:
    """One SQL statement, compiled at import: compiling costs more than running a short one."""

    def __init__(self, name: str, expression: ClauseElement) -> None:
        """Take the name for the metrics, and a Core expression with named parameters."""
        compiled = expression.compile(dialect=_DIALECT)
        self.name = name
        self.text = str(compiled)
        self.defaults = {key: value for key, value in compiled.params.items() if value is not None}
        self.is_read = isinstance(expression, Select)


class Transaction:
    """Statements that are all done or not at all."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    async def run(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and give its rows."""
        await self._cursor.execute(statement.text, {**statement.defaults, **parameters})
        return await _rows(self._cursor)


class Database:
    """Runs statements, each on a connection of the pool, each by itself a transaction.

    Raises, in all its methods that run something:
        Unavailable: the database does not answer, or not in time.
        OutcomeUnknown: the same, in the middle of a change.
        UniqueViolation: the value is there already.
    """

    def __init__(self, pool_size: int, metrics: Metrics) -> None:
        """Prepare for a number of connections; `open` makes them."""
        self._pool: Any = None
        self._pool_size = pool_size
        # aiopg's pool gives a free connection to whoever asks next; this one keeps the order.
        self._turn = asyncio.Semaphore(pool_size)
        self._waiting = 0
        self._refused_write_at = -REFUSED_WRITES_LAST
        self._statements = metrics.statements
        self._children: dict[str, Any] = {}
        metrics.pool_size.set_function(lambda: self._pool.size if self._pool else 0)
        metrics.pool_used.set_function(
            lambda: self._pool.size - self._pool.freesize if self._pool else 0
        )
        metrics.pool_waiting.set_function(lambda: self._waiting)

    async def open(self, url: str) -> None:
        """Connect to the server.

        Raises:
            Unavailable: it cannot be reached, or refuses us.
        """
        try:
            self._pool = await aiopg.create_pool(
                url,
                minsize=1,
                maxsize=self._pool_size,
                timeout=CONNECT_TIMEOUT,
                enable_hstore=False,
                enable_json=False,
                enable_uuid=False,
                on_connect=_prepare_connection,
                options=_OPTIONS,
                application_name="taskapp",
            )
        except (psycopg2.Error, TimeoutError) as error:
            raise Unavailable(f"The database cannot be reached: {_first_line(error)}") from error

    async def close(self) -> None:
        """Close all connections, when the statements that run have ended."""
        if self._pool is None:
            return
        pool, self._pool = self._pool, None  # whoever asks from now on is refused
        # Wait by our own count: aiopg waits for ever for a connection that comes back broken.
        for _ in range(self._pool_size):
            await self._turn.acquire()
        pool.close()
        await pool.wait_closed()
        for _ in range(self._pool_size):
            self._turn.release()

    @property
    def accepts_writes(self) -> bool:
        """Tell whether no write was refused, by a full disk or a read-only server, just now."""
        return monotonic() - self._refused_write_at >= REFUSED_WRITES_LAST

    async def fetch_all(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and give all its rows."""

        async def work(cursor: Any) -> list[Row]:
            await cursor.execute(statement.text, {**statement.defaults, **parameters})
            return await _rows(cursor)

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(statement.name, work, deadline, is_read=statement.is_read)
        except _ConnectionLostError:
            # A read may be run twice; nobody knows whether a change was applied.
            if not statement.is_read:
                raise OutcomeUnknown from None
        try:
            return await self._attempt(statement.name, work, deadline, is_read=True)
        except _ConnectionLostError:
            raise Unavailable from None

    async def fetch_one(self, statement: Statement, **parameters: Any) -> Row | None:
        """Run a statement and give its first row, if it has one."""
        rows = await self.fetch_all(statement, **parameters)
        return rows[0] if rows else None

    async def transaction(
        self, name: str, work: Callable[[Transaction], Awaitable[Result]]
    ) -> Result:
        """Run several statements that are all done or not at all."""

        async def begin(cursor: Any) -> Result:
            await cursor.execute("BEGIN")
            result = await work(Transaction(cursor))  # if it fails, the connection is closed
            await cursor.execute("COMMIT")
            return result

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(name, begin, deadline, is_read=False)
        except _ConnectionLostError:
            raise OutcomeUnknown from None

    async def _attempt(
        self, name: str, work: Callable[[Any], Awaitable[Result]], deadline: float, *, is_read: bool
    ) -> Result:
        started = perf_counter()
        sent = False
        try:
            async with asyncio.timeout_at(deadline), self._cursor() as cursor:
                sent = True
                return await work(cursor)
        except TimeoutError:
            raise (OutcomeUnknown if sent and not is_read else Unavailable) from None
        except asyncio.CancelledError:
            # aiopg says "cancelled" also when it was the server that cancelled the statement.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise Unavailable from None
        except (psycopg2.Error, OSError) as error:
            raise self._translate(error) from error
        finally:
            self._observe(name, perf_counter() - started)

    @asynccontextmanager
    async def _cursor(self) -> AsyncIterator[Any]:
        self._waiting += 1
        try:
            await self._turn.acquire()
        finally:
            self._waiting -= 1
        try:
            pool = self._pool
            connection = await _acquire(pool)
            try:
                cursor = await connection.cursor(timeout=STATEMENT_TIMEOUT)
                yield cursor
                cursor.close()
            except BaseException:
                # It may be in the middle of something, and aiopg watches none after an error.
                _close(connection)
                raise
            finally:
                pool.release(connection)
        finally:
            self._turn.release()

    def _translate(self, error: Any) -> Exception:
        if isinstance(error, psycopg2.errors.UniqueViolation):
            return UniqueViolation(error.diag.constraint_name or "")
        code = getattr(error, "pgcode", None) or ""
        if code.startswith("53") or code == _READ_ONLY:
            self._refused_write_at = monotonic()
        if code == _READ_ONLY or (code and code.startswith(_PASSING_CLASSES)):
            log("database.refused", "warning", code=code)
            return Unavailable() if code.startswith(_UNDONE_CLASSES) else _ConnectionLostError()
        # Without a code, libpq made it up itself; psycopg2 gives some of these the plain class.
        if not code and (
            isinstance(error, _CONNECTION_LOST) or type(error) is psycopg2.DatabaseError
        ):
            log("database.connection_lost", "warning", error=_first_line(error))
            return _ConnectionLostError()
        unexpected: Exception = error
        return unexpected

    def _observe(self, name: str, seconds: float) -> None:
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._statements.labels(name)
        child.observe(seconds)


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


def _is_address(url: str) -> bool:
    """Tell whether libpq can read an address; its own words may quote a part of a password."""
    try:
        ports = psycopg2.extensions.parse_dsn(url).get("port", "")
    except psycopg2.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))


class _ConnectionLostError(Exception):
    """The connection broke while a statement was on it."""


async def _acquire(pool: Any) -> Any:
    if pool is None:
        raise Unavailable
    try:
        return await pool.acquire()
    except (psycopg2.Error, TimeoutError, OSError) as error:
        log("database.unreachable", "warning", error=_first_line(error))
        raise Unavailable from error


async def _rows(cursor: Any) -> list[Row]:
    if cursor.description is None:
        return []
    rows: list[Row] = await cursor.fetchall()
    return rows


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
