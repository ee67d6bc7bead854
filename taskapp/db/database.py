"""The database, which runs statements within their deadlines."""

import asyncio
from collections.abc import Awaitable, Callable
from time import perf_counter
from typing import Any, TypeVar, cast

from taskapp.core.deadlines import DeadlineTimer
from taskapp.core.errors import OutcomeUnknown, Unavailable
from taskapp.db.pool import (
    Connection,
    ConnectionLostError,
    ConnectionPool,
    PreparedStatementLost,
    Row,
)
from taskapp.db.statements import Statement
from taskapp.observability.metrics import Metrics

Result = TypeVar("Result")

STATEMENT_TIMEOUT = 4.0  # seconds, the wait for a connection included: 503 comes within five


class Transaction:
    """Statements that are all done or not at all."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def run(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and give its rows."""
        return await self._connection.run(statement.text, statement.defaults | parameters)


class Database:
    """Runs statements, each on a connection of its own, each by itself a transaction.

    Raises, in all its methods that run something:
        Unavailable: the database does not answer, or not in time.
        OutcomeUnknown: the same, in the middle of a change.
        UniqueViolation: the value is there already.
    """

    def __init__(self, pool_size: int, metrics: Metrics) -> None:
        """Prepare for a number of connections; `open` makes them."""
        self._connections = ConnectionPool(pool_size, metrics)
        self._deadlines: DeadlineTimer[asyncio.Task[Any]] = DeadlineTimer(asyncio.Task.cancel)
        self._statements = metrics.statements
        self._children: dict[str, Any] = {}

    async def open(self, url: str) -> None:
        """Connect to the server.

        Raises:
            SettingsError: something in between drops what we ask of a connection.
            Unavailable: it cannot be reached, or refuses us.
        """
        await self._connections.open(url)

    async def close(self) -> None:
        """Close all connections, when the statements that run have ended."""
        await self._connections.close()

    @property
    def accepts_writes(self) -> bool:
        """Tell whether no write was refused, by a full disk or a read-only server, just now."""
        return self._connections.accept_writes

    async def fetch_all(self, statement: Statement, **parameters: Any) -> list[Row]:
        """Run a statement and give all its rows."""
        values = statement.defaults | parameters

        async def work(connection: Connection) -> list[Row]:
            return await connection.run_prepared(statement, values)

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(statement.name, work, deadline, is_read=statement.is_read)
        except PreparedStatementLost:
            return await self.fetch_all(statement, **parameters)
        except ConnectionLostError:
            # A read may be run twice; nobody knows whether a change was applied.
            if not statement.is_read:
                raise OutcomeUnknown from None
        try:
            return await self._attempt(statement.name, work, deadline, is_read=True)
        except ConnectionLostError:
            raise Unavailable from None

    async def fetch_one(self, statement: Statement, **parameters: Any) -> Row | None:
        """Run a statement and give its first row, if it has one."""
        rows = await self.fetch_all(statement, **parameters)
        return rows[0] if rows else None

    async def transaction(
        self, name: str, work: Callable[[Transaction], Awaitable[Result]]
    ) -> Result:
        """Run several statements that are all done or not at all."""

        async def begin(connection: Connection) -> Result:
            await connection.run("BEGIN")
            result = await work(Transaction(connection))  # if it fails, the connection is closed
            await connection.run("COMMIT")
            return result

        deadline = asyncio.get_running_loop().time() + STATEMENT_TIMEOUT
        try:
            return await self._attempt(name, begin, deadline, is_read=False)
        except ConnectionLostError:
            raise OutcomeUnknown from None

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
            # If it is cancelled still, somebody else has cancelled it as well.
            is_late = self._deadlines.end(task) and task.uncancel() == 0
            if connection is not None:
                self._connections.discard(connection)
            if is_late:
                raise (OutcomeUnknown if connection and not is_read else Unavailable) from None
            meant = self._translate(error, name)
            if meant is error:
                raise
            raise meant from error
        else:
            self._deadlines.end(task)
            self._connections.release(connection, name)
            return result
        finally:
            self._observe(name, perf_counter() - started)

    def _translate(self, error: BaseException, name: str) -> BaseException:
        if isinstance(error, asyncio.CancelledError):
            # aiopg says "cancelled" also when it was the server that cancelled the statement.
            task = asyncio.current_task()
            return error if task is None or task.cancelling() else Unavailable()
        return self._connections.translate(error, name) if isinstance(error, Exception) else error

    def _observe(self, name: str, seconds: float) -> None:
        child = self._children.get(name)
        if child is None:
            child = self._children[name] = self._statements.labels(name)
        child.observe(seconds)
