"""Statements on the PostgreSQL server itself: whether it responds, what it is, what it counts."""

from typing import NamedTuple

from sqlalchemy import column, extract, func, literal, select, table, text

from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.observability.metrics import DatabaseStatistics

_PING = Statement("server.ping", select(literal(1)))
_FACTS = Statement(
    "server.facts",
    select(
        func.current_setting("server_version_num"),
        func.current_setting("server_encoding"),
        func.current_setting("transaction_read_only"),
        func.current_setting("max_connections"),
        extract("epoch", func.clock_timestamp()),
    ),
)
# Every role may read these views (PostgreSQL's manual, 28.2), and the size of the database that it
# is connected to.
_STATISTICS = Statement(
    "server.statistics",
    select(
        text(
            "numbackends, current_setting('max_connections')::int, pg_database_size(datname),"
            " blks_hit, blks_read, xact_commit, xact_rollback, deadlocks"
        )
    )
    .select_from(text("pg_stat_database"))
    .where(text("datname = current_database()")),
)
_ARCHIVE_FAILURES = Statement(
    "server.archive_failures",
    select(column("failed_count")).select_from(table("pg_stat_archiver")),
)


class ServerFacts(NamedTuple):
    """What the server is: `version` as in 180006 for 18.6, `clock` in seconds since 1970."""

    version: int
    encoding: str
    is_read_only: bool
    max_connections: int
    clock: float


async def ping_server(database: Database) -> None:
    """Run the cheapest statement there is."""
    await database.fetch_one(_PING)


async def require_facts(database: Database) -> ServerFacts:
    """Return what the server is."""
    [(version, encoding, read_only, connections, clock)] = await database.fetch_all(_FACTS)
    return ServerFacts(int(version), encoding, read_only == "on", int(connections), float(clock))


async def find_statistics(database: Database) -> DatabaseStatistics | None:
    """Return what PostgreSQL counts about the database, or None while it counts nothing."""
    row = await database.fetch_one(_STATISTICS)
    return DatabaseStatistics(*row) if row else None


async def count_archive_failures(database: Database) -> int:
    """Count the failed attempts to archive a WAL segment."""
    return int(await database.fetch_value(_ARCHIVE_FAILURES) or 0)
