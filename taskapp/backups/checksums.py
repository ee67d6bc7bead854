"""What a database holds, in a form in which two can be compared: rows and a digest by table."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from sqlalchemy import Connection, text

from taskapp.db.migrations import connected

Tables = Mapping[str, tuple[int, str]]

PURPOSE = "taskapp backup"
RESTORE_POINT_TIMEOUT = "2s"  # how long a restore point waits for running transactions
_TABLES = text(
    "SELECT relname, oid::regclass::text FROM pg_class"
    " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace ORDER BY relname"
)
# One form of every value, whatever the server is set to; then a sum, which needs no order.
_FORMS = text(
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),"
    " set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true),"
    " set_config('statement_timeout', '0', true)"
)
_DIGEST = (
    "SELECT count(*), coalesce(sum(('x' || left(md5(row::text), 16))::bit(64)::bigint), 0)::text"
    " FROM {} AS row"
)


def read_tables(connection: Connection) -> Tables:
    """Count and digest the rows of every table of ours, in the connection's transaction."""
    connection.execute(_FORMS)
    tables = {}
    for name, quoted in connection.execute(_TABLES).all():
        rows, digest = connection.execute(text(_DIGEST.format(quoted))).one()
        tables[str(name)] = (int(rows), str(digest))
    return tables


def read_revision(connection: Connection, tables: Tables) -> str:
    """Give the revision of the schema; empty without one."""
    if "alembic_version" not in tables:
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def read_database(connection: Connection) -> str:
    """Give what tells this database from others: system identifier/name."""
    may_ask = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute')"
    system = ""
    if connection.execute(text(may_ask)).scalar():
        identifier = "SELECT system_identifier FROM pg_control_system()"
        system = str(connection.execute(text(identifier)).scalar())
    name = connection.execute(text("SELECT current_database()")).scalar()
    return f"{system}/{name}"


@contextmanager
def snapshot(url: str) -> Iterator[tuple[Connection, str]]:
    """Give a transaction that sees one moment, and the name by which others see the same."""
    with connected(url, PURPOSE) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        yield connection, str(connection.execute(text("SELECT pg_export_snapshot()")).scalar())


@contextmanager
def restore_point_snapshot(url: str, restore_point: str) -> Iterator[tuple[Connection, str]]:
    """Give a transaction that sees the moment of a mark in the WAL, and the mark's position.

    Changes wait meanwhile, for milliseconds: those that run are ended first, and none begins
    before the mark is written. So what is recovered up to the mark is exactly what is seen here.
    """
    with connected(url, PURPOSE) as reader:
        with connected(url, PURPOSE) as marker:
            marker.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            marker.execute(text(f"SET LOCAL lock_timeout = '{RESTORE_POINT_TIMEOUT}'"))
            # Whoever looks for a deadlock first gives way: that has to be this one, not a request.
            marker.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            names = _locked_names(url)
            if names:
                marker.execute(text(f"LOCK TABLE {', '.join(names)} IN SHARE MODE"))
            seen = marker.execute(text("SELECT pg_export_snapshot()")).scalar()
            point = text("SELECT pg_create_restore_point(:restore_point)")
            lsn = str(marker.execute(point, {"restore_point": restore_point}).scalar())
            reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            reader.execute(text(f"SET TRANSACTION SNAPSHOT '{seen}'"))
            marker.rollback()
        yield reader, lsn


def _locked_names(url: str) -> list[str]:
    """Read the tables on a connection of its own: a snapshot may not precede the lock."""
    with connected(url, PURPOSE) as connection:
        return [quoted for _, quoted in connection.execute(_TABLES).all()]
