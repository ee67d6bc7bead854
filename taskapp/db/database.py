"""Runs statements and transactions on pooled connections, each within a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from time import monotonic, perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from taskapp.core.deadlines import DeadlineTimer
from taskapp.core.errors import (
    OutcomeUnknown,
    TablesUnusable,
    TaskappError,
    Unavailable,
    UniqueViolation,
    WritesStalled,
)
from taskapp.db.durability import run_change, wait_until_durable
from taskapp.db.errors import (
    ConnectionLostError,
    PreparedStatementLost,
    is_read_only,
    is_rejected_write,
    translate,
)
from taskapp.db.pool import Connection, ConnectionPool, Row
from taskapp.db.statements import Statement
from taskapp.db.write_breaker import WriteBreaker
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

if TYPE_CHECKING:  # it imports OpenTelemetry
    from taskapp.observability.tracing import Tracing

Result = TypeVar("Result")

# Seconds, the wait for a connection included, so that a client gets 503 within five seconds.
STATEMENT_TIMEOUT = 4.0
# Seconds that health says "read-only" after a rejected write, unless that statement succeeds again.
REJECTED_WRITE_MEMORY = 30.0


class Transaction:
    """Runs the statements of one transaction."""

    def __init__(self, connection: Connection, tracing: "Tracing | None") -> None:
        self._connection = connection
        self._tracing = tracing
        self.has_changed = False  # whether a statement has changed something

    async def run(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and return its rows."""
        started = perf_counter()
        rows = await self._connection.run(statement.text, statement.defaults | parameters)
        if self._tracing is not None:
            self._tracing.record_statement(statement.name, perf_counter() - started)
        self.has_changed |= bool(rows) and not statement.is_read
        return rows


class _TimedOut(Exception):
    """The deadline has passed while a statement was running; its connection is closed."""


class _Rejection(NamedTuple):
    """When a write was rejected, in seconds of the monotonic clock, and why."""

    at: float
    is_read_only: bool

    @property
    def is_recent(self) -> bool:
        return monotonic() - self.at < REJECTED_WRITE_MEMORY


class Database:
    """Runs statements on pooled connections; a single statement is a transaction of its own.

    Every method that runs a statement raises:
        Unavailable: the database does not respond, or not in time; nothing was changed.
        WritesStalled: earlier writes were not confirmed in time; nothing was changed.
        OutcomeUnknown: a change was not confirmed in time, and may have been committed.
        UniqueViolation: the value exists already.
    """

    def __init__(self, pool_size: int, metrics: Metrics, tracing: "Tracing | None" = None) -> None:
        self._connections = ConnectionPool(pool_size, metrics)
        self._deadlines: DeadlineTimer[asyncio.Task[Any]] = DeadlineTimer(asyncio.Task.cancel)
        self._breaker = WriteBreaker(self._connections.try_write)
        self._rejected_writes: dict[str, _Rejection] = {}  # by statement name
        self._unusable: set[str] = set()  # why tables could not be used, as logged
        self._unknown_writes = metrics.unknown_writes
        self._statements = metrics.statements
        self._children: dict[str, Any] = {}
        self._tracing = tracing
        metrics.writes_stalled.set_function(lambda: self.are_writes_stalled)

    async def open(self, url: str) -> None:
        """Connect to the server.

        Raises:
            SettingsError: a pooler between us and the server drops the session options.
            Unavailable: the server cannot be reached, or rejects the connection.
        """
        await self._connections.open(url)

    async def close(self) -> None:
        """Close all connections after the running statements have ended."""
        await self._breaker.stop()
        await self._connections.close()

    @property
    def accepts_writes(self) -> bool:
        """Return whether no write was rejected lately by a full disk.

        Whether the server is read-only can be asked (`ping_server`), and need not be remembered.
        """
        return not any(
            rejection.is_recent and not rejection.is_read_only
            for rejection in self._rejected_writes.values()
        )

    @property
    def are_writes_stalled(self) -> bool:
        """Return whether the server does not confirm writes: its standbys are away."""
        return self._breaker.is_open

    async def confirms_writes(self) -> bool:
        """Write nothing but a message to the server's log; return whether that was confirmed."""
        return await self._connections.try_write(lambda: None)

    async def fetch_all(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and return all its rows."""
        values = statement.defaults | parameters
        try:
            if statement.is_read:
                return await self._read(statement, values)
            return await self._change(
                statement.name, partial(run_change, statement=statement, parameters=values)
            )
        except PreparedStatementLost:
            return await self.fetch_all(statement, **parameters)

    async def _read(self, statement: Statement, values: dict[str, Any]) -> list[Row]:
        """Run a statement that may be repeated, because it changes nothing."""
        work = partial(Connection.run_prepared, statement=statement, parameters=values)
        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            try:
                return await self._attempt(statement.name, work, deadline)
            except ConnectionLostError:
                return await self._attempt(statement.name, work, deadline)
        except (ConnectionLostError, _TimedOut):
            raise Unavailable from None

    async def _change(
        self,
        name: str,
        work: Callable[[Connection], Awaitable[Result]],
        deadline: float | None = None,
    ) -> Result:
        """Run work that changes something, unless the server confirms no changes."""

        async def work_unless_stalled(connection: Connection) -> tuple[Result] | None:
            return None if self._breaker.is_open else (await work(connection),)

        if self._breaker.is_open:
            raise WritesStalled
        deadline = deadline or asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            done = await self._attempt(name, work_unless_stalled, deadline)
        except (ConnectionLostError, _TimedOut) as error:
            if isinstance(error, _TimedOut):
                self._breaker.suspect()
            self._unknown_writes.inc()
            raise OutcomeUnknown from None
        except UniqueViolation:
            # What is there has to be durable; this error has closed the connection.
            await self._change("database.wait", wait_until_durable, deadline)
            raise
        if done is None:  # they stalled while this one waited for a connection
            raise WritesStalled
        return done[0]

    async def fetch_one(self, statement: Statement, **parameters: Any) -> Row | None:
        """Run a statement and return its first row, or None without rows."""
        rows = await self.fetch_all(statement, **parameters)
        return rows[0] if rows else None

    async def fetch_value(self, statement: Statement, **parameters: Any) -> Any:
        """Run a statement and return the first column of its first row, or None without rows."""
        rows = await self.fetch_all(statement, **parameters)
        return rows[0][0] if rows else None

    async def transaction(
        self, name: str, work: Callable[[Transaction], Awaitable[Result]]
    ) -> Result:
        """Run `work` in one transaction, which is rolled back if `work` raises."""

        async def begin(connection: Connection) -> Result:
            transaction = Transaction(connection, self._tracing)
            await connection.run("BEGIN")
            try:
                result = await work(transaction)
            except TaskappError:
                await connection.run("ROLLBACK")
                await wait_until_durable(connection)
                raise
            await connection.run("COMMIT")
            if not transaction.has_changed or connection.take_notices():
                await wait_until_durable(connection)
            return result

        return await self._change(name, begin)

    # `_attempt` is `asyncio.timeout` around "acquire a connection, run `work`, release it", written
    # out because every request passes here: one timer for all statements costs 4 % of a short
    # request less than a timer for each.
    #
    # - Until `_deadlines.end`, the timer may cancel the current task once, when the deadline (in
    #   the event loop's time) has passed. Others may cancel it too, such as the end of the process.
    #   A CancelledError does not say who cancelled: `end` returns whether the timer did, and
    #   `uncancel` takes that one cancellation back. If the count is then 0, nobody else cancelled,
    #   and it was a timeout. Otherwise the CancelledError has to propagate.
    # - After any error the connection may be in the middle of a statement or a transaction. It is
    #   closed rather than released, so the server rolls back; the pool opens another when needed.
    # - After a timeout while waiting for a connection nothing was changed, which is Unavailable.
    # - The duration that is observed includes the wait for a connection, as clients see it.
    async def _attempt(
        self,
        name: str,
        work: Callable[[Connection], Awaitable[Result]],
        deadline: float,
    ) -> Result:
        started = perf_counter()
        connection: Connection | None = None
        failure: BaseException | None = None
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._deadlines.begin(task, deadline)
        try:
            connection = await self._connections.acquire()
            result = await work(connection)
        except BaseException as error:
            failure = error
            is_timeout = self._deadlines.end(task) and task.uncancel() == 0
            if connection is not None:
                self._connections.discard(connection)
            if is_timeout:
                raise (_TimedOut if connection else Unavailable) from None
            translated = self._translate(error, name)
            if translated is error:
                raise
            raise translated from error
        else:
            self._deadlines.end(task)
            self._connections.release(connection)
            if self._rejected_writes:
                # Only the same statement clears the mark: an UPDATE that matches no row does not
                # prove that there is disk space.
                self._rejected_writes.pop(name, None)
            return result
        finally:
            self._observe(name, perf_counter() - started, failure)

    def _translate(self, error: BaseException, name: str) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            # aiopg raises CancelledError also when the server canceled the statement.
            task = asyncio.current_task()
            return error if task is None or task.cancelling() else Unavailable()
        if not isinstance(error, Exception):
            return error
        level = "warning"
        if is_rejected_write(error):
            # A full disk or a read-only server rejects every write: the first one warns.
            was_rejected = any(each.is_recent for each in self._rejected_writes.values())
            level = "debug" if was_rejected else "warning"
            self._rejected_writes[name] = _Rejection(monotonic(), is_read_only(error))
        translated = translate(error, level)
        if isinstance(translated, TablesUnusable):
            self._log_unusable(str(translated))
        return translated

    def _log_unusable(self, reason: str) -> None:
        """Log why a table cannot be used, once: every request finds that out."""
        if reason not in self._unusable:
            self._unusable.add(reason)
            log("database.tables_refused", "error", error=reason)

    def _observe(self, name: str, seconds: float, failure: BaseException | None) -> None:
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._statements.labels(name)
        exemplar = None
        if self._tracing is not None:
            exemplar = self._tracing.record_statement(name, seconds, failure)
        child.observe(seconds, exemplar)
