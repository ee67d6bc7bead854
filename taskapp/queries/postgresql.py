"""Statements on the PostgreSQL server itself: whether it responds, what it is, what it counts."""

from typing import NamedTuple

from sqlalchemy import Boolean, Integer, cast, column, extract, func, select, table, text, true

from schema.tables import tasks
from taskapp.core.errors import TablesUnusable
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.observability.metrics import DatabaseStatistics

_PING = Statement(
    "server.ping",
    select(
        func.current_setting("transaction_read_only") == "on",  # also while a standby recovers
        # Of one of our tables, without waiting for whoever has locked it.
        func.has_table_privilege(func.to_regclass(tasks.name), "SELECT"),
        func.current_setting("search_path"),
    ),
)
_HAS_REVISION = Statement(
    "server.has_revision", select(func.to_regclass("alembic_version").is_not(None))
)
_REVISION = Statement(
    "server.revision", select(column("version_num")).select_from(table("alembic_version"))
)
_FACTS = Statement(
    "server.facts",
    select(
        func.current_setting("server_version_num"),
        func.current_setting("server_encoding"),
        func.current_setting("transaction_read_only"),
        # Of the server without those kept for superusers (by default 3) and, from PostgreSQL 16 on,
        # for a role; of the database and of the user. NULL is none; least() passes over it.
        func.least(
            cast(func.current_setting("max_connections"), Integer)
            - cast(func.current_setting("superuser_reserved_connections"), Integer)
            - func.coalesce(cast(func.current_setting("reserved_connections", true()), Integer), 0),
            select(func.nullif(column("datconnlimit"), -1))
            .select_from(table("pg_database"))
            .where(column("datname") == func.current_database())
            .scalar_subquery(),
            select(func.nullif(column("rolconnlimit"), -1))
            .select_from(table("pg_roles"))
            .where(column("rolname") == func.session_user(), ~column("rolsuper", Boolean))
            .scalar_subquery(),
        ),
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
_ARCHIVER = Statement(
    "server.archiver",
    select(
        column("failed_count"),
        column("last_failed_time")
        > func.coalesce(column("last_archived_time"), func.to_timestamp(0)),
    ).select_from(table("pg_stat_archiver")),
)


class ServerFacts(NamedTuple):
    """What the server is for this user: `version` as in 180006 for 18.6, `clock` since 1970."""

    version: int
    encoding: str
    is_read_only: bool
    max_connections: int
    clock: float


class ArchiverState(NamedTuple):
    """Failed attempts to archive a WAL segment, and whether the last attempt failed."""

    failures: int
    is_failing: bool


async def ping_server(database: Database) -> bool:
    """Return whether the server, which responds, is read-only.

    Raises TablesUnusable if it has no table of ours for this user.
    """
    row = await database.fetch_one(_PING)
    is_read_only, may_read, search_path = row or (False, None, "")
    if may_read is None:
        raise TablesUnusable(f'search_path ({search_path}) leads to no table "{tasks.name}"')
    if not may_read:
        raise TablesUnusable(f'permission denied for table "{tasks.name}"')
    return bool(is_read_only)


async def find_revision(database: Database) -> str | None:
    """Return the revision of the schema, or None if the database is empty."""
    if not await database.fetch_value(_HAS_REVISION):
        return None
    revision: str | None = await database.fetch_value(_REVISION)
    return revision


async def require_facts(database: Database) -> ServerFacts:
    """Return what the server is."""
    [(version, encoding, read_only, connections, clock)] = await database.fetch_all(_FACTS)
    return ServerFacts(int(version), encoding, read_only == "on", int(connections), float(clock))


async def find_statistics(database: Database) -> DatabaseStatistics | None:
    """Return what PostgreSQL counts about the database, or None while it counts nothing."""
    row = await database.fetch_one(_STATISTICS)
    return DatabaseStatistics(*row) if row else None


async def find_archiver_state(database: Database) -> ArchiverState:
    """Return the state of PostgreSQL's archiver."""
    row = await database.fetch_one(_ARCHIVER)
    return ArchiverState(int(row[0]), bool(row[1])) if row else ArchiverState(0, is_failing=False)
