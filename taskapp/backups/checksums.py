"""What a database holds, in a form in which two can be compared: rows and a digest by table."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection, TextClause, text

from schema.tables import metadata
from taskapp.db.migrations import Revision, connected, find_revision, lift_time_limits

Tables = dict[str, tuple[int, str]]

PURPOSE = "taskapp backup"
PUBLIC = "public"
RESTORE_POINT_TIMEOUT = "2s"  # how long a restore point waits for running transactions
# The schema that search_path leads to: where our tables are, or would be created.
_SCHEMA = text(
    "SELECT oid, nspname FROM pg_namespace WHERE oid ="
    " coalesce((SELECT relnamespace FROM pg_class WHERE oid = to_regclass('alembic_version')),"
    " (SELECT oid FROM pg_namespace WHERE nspname = current_schema()))"
)
# Relations of that schema, which other programs may share. Ours have names that this code knows, or
# the owner of `alembic_version`: a later taskapp may have more. A partition is its root's.
_RELATIONS = (
    "SELECT one.relname, one.oid::regclass::text FROM pg_class AS one"
    " JOIN pg_class AS root ON root.oid = coalesce(pg_partition_root(one.oid), one.oid)"
    " WHERE one.relnamespace = :schema AND {} AND (root.relname = ANY(:names) OR root.relowner ="
    " coalesce((SELECT relowner FROM pg_class WHERE oid = to_regclass('alembic_version')),"
    " (SELECT oid FROM pg_roles WHERE rolname = current_user))) IS {} ORDER BY one.relname"
)
_WITH_ROWS = text(_RELATIONS.format("one.relkind = 'r'", "TRUE"))
_TABLES = text(_RELATIONS.format("one.relkind IN ('r', 'p') AND NOT one.relispartition", "TRUE"))
_OF_OTHERS = text(_RELATIONS.format("one.relkind IN ('r', 'p', 'S', 'v', 'm', 'f')", "FALSE"))
_NAMES = ["alembic_version", *metadata.tables]
_OTHER_SCHEMAS = text(
    "SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_'"
    " AND nspname NOT IN ('information_schema', :schema) ORDER BY nspname"
)
# One form of every value, whatever the server is set to; then a sum, which needs no order.
_FORMS = text(
    "SELECT set_config('TimeZone', 'UTC', true), set_config('DateStyle', 'ISO', true),"
    " set_config('bytea_output', 'hex', true), set_config('extra_float_digits', '1', true)"
)
_DIGEST = (
    "SELECT count(*), coalesce(sum(('x' || left(md5(row::text), 16))::bit(64)::bigint), 0)::text"
    " FROM {} AS row"
)


class Contents(NamedTuple):
    """What a database holds: its tables, where they are, and their revision, None if empty."""

    tables: Tables
    schema: str
    revision: Revision | None


def read_contents(connection: Connection) -> Contents:
    """Return what the connection's transaction sees."""
    return Contents(read_tables(connection), read_schema(connection), find_revision(connection))


def read_tables(connection: Connection) -> Tables:
    """Count and digest the rows of every table of ours, in the connection's transaction."""
    lift_time_limits(connection)
    connection.execute(_FORMS)
    tables: Tables = {}
    for name, quoted in _list_relations(connection, _WITH_ROWS):
        rows, digest = connection.execute(text(_DIGEST.format(quoted))).one()
        tables[name] = (int(rows), str(digest))
    return tables


def read_database(connection: Connection) -> str:
    """Return the identity of this database (see `identity`)."""
    may_ask = "SELECT has_function_privilege('pg_catalog.pg_control_system()', 'execute')"
    system = ""
    if connection.execute(text(may_ask)).scalar():
        identifier = "SELECT system_identifier FROM pg_control_system()"
        system = str(connection.execute(text(identifier)).scalar())
    name = connection.execute(text("SELECT current_database()")).scalar()
    schema = read_schema(connection)
    return f"{system}/{name}" if schema == PUBLIC else f"{system}/{name}/{schema}"


def read_schema(connection: Connection) -> str:
    """Return the schema of our tables, or in which they would be made."""
    schema = _find_schema(connection)
    return schema[1] if schema else PUBLIC


def read_other_schemas(connection: Connection) -> list[str]:
    """Return the schemas of other programs that share the database."""
    schema = {"schema": read_schema(connection)}
    return [str(name) for name in connection.execute(_OTHER_SCHEMAS, schema).scalars()]


def read_other_relations(connection: Connection) -> list[str]:
    """Return the tables, views and sequences of other programs in the schema of our tables."""
    return [name for name, _ in _list_relations(connection, _OF_OTHERS)]


@contextmanager
def snapshot(url: str) -> Iterator[tuple[Connection, str]]:
    """Yield a transaction that sees one state, and the name by which others see the same."""
    with connected(url, PURPOSE) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        lift_time_limits(connection)
        yield connection, export_snapshot(connection)


def export_snapshot(connection: Connection) -> str:
    """Return the name by which others see what a connection's transaction sees, while it lasts."""
    return str(connection.execute(text("SELECT pg_export_snapshot()")).scalar())


@contextmanager
def restore_point_snapshot(url: str, restore_point: str) -> Iterator[tuple[Connection, str]]:
    """Yield a transaction that sees the state at a restore point, and the LSN of that.

    Changes wait meanwhile, for milliseconds: those that run are ended first, and none begins
    before the point is written. So what is recovered up to it is exactly what is seen here.
    """
    with connected(url, PURPOSE) as reader:
        with connected(url, PURPOSE) as writer:
            writer.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            writer.execute(text(f"SET LOCAL lock_timeout = '{RESTORE_POINT_TIMEOUT}'"))
            # In a deadlock, the session with the shorter deadlock_timeout is cancelled: make that
            # the backup, not a request.
            writer.execute(text("SET LOCAL deadlock_timeout = '50ms'"))
            names = _locked_names(url)
            if names:
                writer.execute(text(f"LOCK TABLE {', '.join(names)} IN SHARE MODE"))
            seen = export_snapshot(writer)
            point = text("SELECT pg_create_restore_point(:restore_point)")
            lsn = str(writer.execute(point, {"restore_point": restore_point}).scalar())
            reader.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            reader.execute(text(f"SET TRANSACTION SNAPSHOT '{seen}'"))
            writer.rollback()
        yield reader, lsn


def quoted_tables(connection: Connection) -> list[str]:
    """Return the names of our tables, quoted and qualified where SQL needs it."""
    return [quoted for _, quoted in _list_relations(connection, _TABLES)]


def _list_relations(connection: Connection, which: TextClause) -> list[tuple[str, str]]:
    """Return the name of each relation in our schema, and the name as SQL needs it."""
    schema = _find_schema(connection)
    if schema is None:
        return []
    rows = connection.execute(which, {"schema": schema[0], "names": _NAMES}).all()
    return [(str(name), str(quoted)) for name, quoted in rows]


def _find_schema(connection: Connection) -> tuple[int, str] | None:
    row = connection.execute(_SCHEMA).one_or_none()
    return None if row is None else (int(row[0]), str(row[1]))


def _locked_names(url: str) -> list[str]:
    """Read the tables on a connection of its own: a snapshot may not precede the lock."""
    with connected(url, PURPOSE) as connection:
        return quoted_tables(connection)
