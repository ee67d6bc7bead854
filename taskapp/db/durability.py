"""What a response says about a change is durable (ADR 0048).

With synchronous standbys a commit waits until they have it. A response that says "that is done
already" commits nothing, and so would not wait: it may be about a change that is on this server
only, and is lost with it. Therefore a change that changes nothing commits a message to the
database's log, and waits as the change would have done.
"""

from taskapp.db.pool import Connection, Row
from taskapp.db.statements import Statement

_MESSAGE = "SELECT pg_logical_emit_message(true, 'taskapp', '')"


async def wait_until_durable(connection: Connection) -> None:
    """Wait until everything that is committed by now is durable, also if waits are canceled."""
    await connection.run(_MESSAGE)
    while connection.take_notices():
        await connection.run(_MESSAGE)


async def run_change(
    connection: Connection, statement: Statement, parameters: dict[str, object]
) -> list[Row]:
    """Run a change and return its rows; without rows, all that it saw is durable."""
    rows = await connection.run_prepared(statement, parameters)
    if not rows or connection.take_notices():
        await wait_until_durable(connection)
    return rows
