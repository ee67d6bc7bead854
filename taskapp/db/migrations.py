"""Migrates the database to the revision of this code, and rejects what this code cannot use.

The database says itself which programs may use it, as each migration states (ADR 0055).
"""

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

import schema
from taskapp.config.installation import COMMAND
from taskapp.core.errors import OperatorError, Unavailable
from taskapp.core.progress import begin_step
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.dsn import connect_once
from taskapp.db.errors import first_line
from taskapp.observability.logs import log

LOCK = 0x7461736B61707001  # key of pg_advisory_xact_lock: "taskapp" in ASCII, then 1
FOLDER = Path(schema.__file__).parent
HEAD = max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))
STOPPED = "Nothing is half done; the next start goes on."
# A statement whose client was killed would hold its locks to its end. A server on Windows refuses
# this setting, because it is not told of closed connections.
_NOTICE_THE_END_OF_THE_CLIENT = text(
    "SELECT set_config('client_connection_check_interval', '1s', true)"
    " WHERE version() LIKE '%linux%'"
)
# They may be set for the user, such as the one of statements behind a pooler; 0 is none.
_LIFT_TIME_LIMITS = text(
    "SELECT set_config(name, '0', true) FROM pg_settings WHERE name IN ('statement_timeout',"
    " 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_INSUFFICIENT_PRIVILEGE = "42501"  # SQLSTATE
# Where the tables of an empty database would be created; in pg_temp they would not last.
_PLACE = text(
    "SELECT current_setting('server_encoding'), quote_ident(name),"
    " has_schema_privilege(name, 'CREATE')"
    " FROM (SELECT CASE WHEN starts_with(current_schema(), 'pg_') THEN NULL"
    " ELSE current_schema() END AS name) AS place"
)
_REVISION = text(
    "SELECT version_num, obj_description('alembic_version'::regclass) FROM alembic_version"
)


class Revision(NamedTuple):
    """The revision of a database, and that of the oldest program that may use it."""

    number: str
    oldest_program: str


class MigrationError(OperatorError):
    """PostgreSQL rejected a statement; the message says why."""


class NewerDatabaseError(OperatorError):
    """The database was migrated by a newer taskapp, and this one may not use it."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, and this taskapp knows none after {HEAD}. "
            "Start the newer taskapp again, or restore the backup that was made before the "
            "upgrade."
        )


class IncompatibleMigrationError(OperatorError):
    """The programs that use the database now could not use it any more."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"A taskapp of revision {revision} cannot use the database at revision {HEAD}. Stop "
            "every one, and migrate without --only-compatible."
        )


async def migrate(
    url: str,
    back_up: Callable[[str], Awaitable[None]] | None = None,
    *,
    only_compatible: bool = False,
) -> bool:
    """Run the missing migrations, in one process at a time; return whether there were any.

    `back_up` is called with the old revision before the first migration, unless the database is
    empty. With `only_compatible`, nothing is done that shuts out programs of the old revision.

    Raises:
        IncompatibleMigrationError: it would be.
        NewerDatabaseError: the database is newer, and this code may not use it.
        MigrationError: PostgreSQL rejected a statement; everything was rolled back.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    revision = await run_in_daemon_thread(read_revision, url)
    if revision is not None and is_migrated(revision):
        return False
    before = revision.number if revision else ""
    if before and only_compatible and await run_in_daemon_thread(_oldest_program) > before:
        raise IncompatibleMigrationError(before)
    if before and back_up is not None:
        await back_up(before)
    log("database.migrating", before=before, after=HEAD)
    begin_step("Migrating the database")
    try:
        is_ours = await run_in_daemon_thread(_upgrade, url)
    except asyncio.CancelledError:
        log("database.migration_stopped", before=before, after=HEAD, reason=STOPPED)
        raise
    if not is_ours:
        return False
    log("database.migrated", before=before, after=HEAD)
    return True


def is_migrated(revision: Revision) -> bool:
    """Return whether a database needs no migration; log a warning if it is newer.

    Raises NewerDatabaseError if this code may not use it.
    """
    require_usable(revision)
    if revision.number > HEAD:
        log("database.newer_accepted", "warning", revision=revision.number, expected=HEAD)
    return revision.number >= HEAD


def require_usable(revision: Revision) -> None:
    """Raise NewerDatabaseError if this code may not use a database of this revision."""
    if revision.oldest_program > HEAD:
        raise NewerDatabaseError(revision.number)


def describe_newer(revision: Revision) -> str:
    """Return what is to say of a newer database that this code may use."""
    return f"the database is at revision {revision.number}, which this taskapp ({HEAD}) can use too"


def read_revision(url: str) -> Revision | None:
    """Return the revision of the database; None when it is empty.

    Raises:
        MigrationError: PostgreSQL rejected a statement.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    with connected(url) as connection:
        return find_revision(connection)


def find_revision(connection: Connection) -> Revision | None:
    """Return the revision of the database of a connection; None when it is empty."""
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    row = connection.execute(_REVISION).first()
    if row is None:
        return None
    number, comment = row
    pattern = schema.COMPATIBILITY.format(revision=number, oldest_program="([0-9]{4})")
    stated = re.fullmatch(pattern, comment or "")
    return Revision(number, stated[1] if stated else number)


def lift_time_limits(connection: Connection) -> None:
    """Let the present transaction take as long as it needs, whatever is set for its user."""
    connection.execute(_LIFT_TIME_LIMITS)


def read_obstacle(url: str) -> str:
    """Return a sentence if an empty database cannot take the tables; empty if it can.

    Raises what `read_revision` raises.
    """
    with connected(url) as connection:
        return _find_obstacle(connection)


def _find_obstacle(connection: Connection) -> str:
    encoding, schema, may_create = connection.execute(_PLACE).one()
    if encoding != "UTF8":
        return (
            f"The database has the encoding {encoding}, which cannot store every character. "
            f"Create one with ENCODING 'UTF8' and TEMPLATE template0."
        )
    if schema is None:
        return (
            "The search_path of this user of the database leads to no schema that it may use. Run "
            "GRANT USAGE, CREATE ON SCHEMA public TO it, or set its search_path to its own schema."
        )
    if not may_create:
        return (
            f"This user of the database may not create tables in the schema {schema}. Run GRANT "
            f"CREATE ON SCHEMA {schema} TO it, or run `{COMMAND} migrate` with "
            f"TASKAPP_MIGRATION_DATABASE_URL set to the address of a user who may."
        )
    return ""


def _oldest_program() -> str:
    """Return the revision of the oldest program that works on the tables of this one."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415  # see `_upgrade`

    return str(ScriptDirectory(str(FOLDER)).get_revision(HEAD).module.oldest_program)


def _upgrade(url: str) -> bool:
    # Alembic takes a quarter of a second to import, and most starts have nothing to migrate.
    from alembic import command  # noqa: PLC0415  # see above
    from alembic.config import Config  # noqa: PLC0415  # see above
    from alembic.util import CommandError  # noqa: PLC0415  # see above

    with connected(url) as connection:
        lift_time_limits(connection)
        connection.execute(_NOTICE_THE_END_OF_THE_CLIENT)
        # A lock of the transaction, not of the session: behind a pooler, the next transaction may
        # run in another session.
        lock = {"lock": LOCK}
        if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock).scalar():
            log("database.migration_waiting", "warning")
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), lock)
        revision = find_revision(connection)
        if revision is not None and is_migrated(revision):  # another process was faster
            return False
        if revision is None and (reason := _find_obstacle(connection)):
            raise MigrationError(reason)
        config = Config()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # such as an unknown revision
            raise MigrationError(f"The database cannot be migrated: {error}") from error
        connection.commit()
    return True


@contextmanager
def connected(url: str, purpose: str = "taskapp migrations") -> Iterator[Connection]:
    """Connect for the duration of the block, outside the pool; disconnecting frees every lock.

    Raises:
        MigrationError: PostgreSQL rejected a statement.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    engine = create_engine(
        "postgresql+psycopg2://",
        # libpq parses the address, as in the pool: SQLAlchemy parses some addresses differently.
        creator=lambda: connect_once(url, purpose),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                # A thread may wait for a statement, which would have to end before the connection.
                cast("Any", connection.connection.driver_connection).cancel()
                raise
    except OperationalError as error:
        reason = first_line(error.orig or error)
        # With a SQLSTATE a server has answered: that a lock, a timeout or its disk is in the way.
        answer = "refuses for now" if getattr(error.orig, "pgcode", "") else "cannot be reached"
        raise Unavailable(f"The database {answer}: {reason}") from error
    except DBAPIError as error:
        reason = first_line(error.orig or error)
        raise MigrationError(f"The database refuses: {reason}{_fix(error)}") from error


def _fix(error: DBAPIError) -> str:
    if getattr(error.orig, "pgcode", "") != _INSUFFICIENT_PRIVILEGE:
        return ""
    return (
        f". If this user is not to change tables, run `{COMMAND} migrate` with "
        "TASKAPP_MIGRATION_DATABASE_URL set to the address of the user who is."
    )
