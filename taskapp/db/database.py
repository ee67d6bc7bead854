"""Runs statements and transactions on pooled connections, each within a deadline."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic, perf_counter
from typing import Any, TypeVar, cast

from taskapp.core.deadlines import DeadlineTimer
from taskapp.core.errors import OutcomeUnknown, TablesUnusable, Unavailable
from taskapp.db.errors import (
    ConnectionLostError,
    PreparedStatementLost,
    is_rejected_write,
    translate,
)
from taskapp.db.pool import Connection, ConnectionPool, Row
from taskapp.db.statements import Statement
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

Result = TypeVar("Result")

# Seconds, the wait for a connection included, so that a client gets 503 within five seconds.
STATEMENT_TIMEOUT = 4.0
# Seconds that /ready stays 503 after a rejected write, unless that statement succeeds again.
REJECTED_WRITE_MEMORY = 30.0


class Transaction:
    """Runs the statements of one transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and return its rows."""
        return await self._connection.run(statement.text, statement.defaults | parameters)


class Database:
    """Runs statements on pooled connections; a single statement is a transaction of its own.

    Every method that runs a statement raises:
        Unavailable: the database does not respond, or not in time; nothing was changed.
        OutcomeUnknown: the same in the middle of a change, which may have been committed.
        UniqueViolation: the value exists already.
    """

    def __init__(self, pool_size: int, metrics: Metrics) -> None:
        self._connections = ConnectionPool(pool_size, metrics)
        self._deadlines: DeadlineTimer[asyncio.Task[Any]] = DeadlineTimer(asyncio.Task.cancel)
        self._rejected_writes: dict[str, float] = {}  # statement name: monotonic time in seconds
        self._unusable: set[str] = set()  # why tables could not be used, as logged
        self._statements = metrics.statements
        self._children: dict[str, Any] = {}

    async def open(self, url: str) -> None:
        """Connect to the server.

        Raises:
            SettingsError: a pooler between us and the server drops the session options.
            Unavailable: the server cannot be reached, or rejects the connection.
        """
        await self._connections.open(url)

    async def close(self) -> None:
        """Close all connections after the running statements have ended."""
        await self._connections.close()

    @property
    def accepts_writes(self) -> bool:
        """Return whether no write was rejected lately, by a full disk or a read-only server."""
        return all(
            monotonic() - rejected_at >= REJECTED_WRITE_MEMORY
            for rejected_at in self._rejected_writes.values()
        )

    async def fetch_all(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and return all its rows."""
        values = statement.defaults | parameters

        async def work(connection: Connection) -> list[Row]:
            return await connection.run_prepared(statement, values)

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(statement.name, work, deadline, is_read=statement.is_read)
        except PreparedStatementLost:
            return await self.fetch_all(statement, **parameters)
        except ConnectionLostError:
            # Only a read may be repeated: a change may have been committed.
            if not statement.is_read:
                raise OutcomeUnknown from None
        try:
            return await self._attempt(statement.name, work, deadline, is_read=True)
        except ConnectionLostError:
            raise Unavailable from None

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
            await connection.run("BEGIN")
            result = await work(Transaction(connection))  # an error closes the connection
            await connection.run("COMMIT")
            return result

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(name, begin, deadline, is_read=False)
        except ConnectionLostError:
            raise OutcomeUnknown from None

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
    # - After a timeout while waiting for a connection, or during a read, nothing was changed, which
    #   is Unavailable. During a change the server may have committed: OutcomeUnknown.
    # - The duration that is observed includes the wait for a connection, as clients see it.
    async def _attempt(
        self,
        name: str,
        work: Callable[[Connection], Awaitable[Result]],
        deadline: float,
        *,
        is_read: bool,
    ) -> Result:
        started = perf_counter()
        connection: Connection | None = None
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._deadlines.begin(task, deadline)
        try:
            connection = await self._connections.acquire()
            result = await work(connection)
        except BaseException as error:
            is_timeout = self._deadlines.end(task) and task.uncancel() == 0
            if connection is not None:
                self._connections.discard(connection)
            if is_timeout:
                raise (OutcomeUnknown if connection and not is_read else Unavailable) from None
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
            self._observe(name, perf_counter() - started)

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
            level = "warning" if self.accepts_writes else "debug"
            self._rejected_writes[name] = monotonic()
        translated = translate(error, level)
        if isinstance(translated, TablesUnusable):
            self._log_unusable(str(translated))
        return translated

    def _log_unusable(self, reason: str) -> None:
        """Log why a table cannot be used, once: every request finds that out."""
        if reason not in self._unusable:
            self._unusable.add(reason)
            log("database.tables_unusable", "error", error=reason)

    def _observe(self, name: str, seconds: float) -> None:
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._statements.labels(name)
        child.observe(seconds)
