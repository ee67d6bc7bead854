"""Migrates the database to the revision of this code, and rejects a newer database."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

import schema
from taskapp.config.installation import COMMAND
from taskapp.core.errors import Unavailable
from taskapp.core.progress import begin_step
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.dsn import connect_once
from taskapp.db.errors import first_line
from taskapp.observability.logs import log

LOCK = 0x7461736B61707001  # key of pg_advisory_xact_lock: "taskapp" in ASCII, then 1
FOLDER = Path(schema.__file__).parent
HEAD = max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))
_INSUFFICIENT_PRIVILEGE = "42501"  # SQLSTATE


class MigrationError(Exception):
    """PostgreSQL rejected a statement; the message says why."""


class NewerDatabaseError(Exception):
    """The database was migrated by a newer taskapp than this one."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, and this taskapp knows none after {HEAD}. "
            "Start the newer taskapp again, or restore the backup that was made before the "
            "upgrade."
        )


async def migrate(url: str, back_up: Callable[[str], Awaitable[None]] | None = None) -> bool:
    """Run the missing migrations, in one process at a time; return whether there were any.

    `back_up` is called with the old revision before the first migration, unless the database is
    empty.

    Raises:
        NewerDatabaseError: the database has a revision that this code does not know.
        MigrationError: PostgreSQL rejected a statement; everything was rolled back.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    revision = await run_in_daemon_thread(read_revision, url)
    if revision == HEAD:
        return False
    if revision is not None and revision > HEAD:
        raise NewerDatabaseError(revision)
    if revision is not None and back_up is not None:
        await back_up(revision)
    log("database.migrating", before=revision or "", after=HEAD)
    begin_step("Migrating the database")
    if not await run_in_daemon_thread(_upgrade, url):
        return False
    log("database.migrated", before=revision or "", after=HEAD)
    return True


def read_revision(url: str) -> str | None:
    """Return the revision of the database; None when it is empty.

    Raises:
        MigrationError: PostgreSQL rejected a statement.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    with connected(url) as connection:
        return _read_revision(connection)


def _read_revision(connection: Connection) -> str | None:
    if connection.execute(text("SELECT to_regclass('alembic_version')")).scalar() is None:
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(url: str) -> bool:
    # Alembic takes a quarter of a second to import, and most starts have nothing to migrate.
    from alembic import command  # noqa: PLC0415  # see above
    from alembic.config import Config  # noqa: PLC0415  # see above
    from alembic.util import CommandError  # noqa: PLC0415  # see above

    with connected(url) as connection:
        # A lock of the transaction, not of the session: behind a pooler, the next transaction may
        # run in another session.
        lock = {"lock": LOCK}
        if not connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), lock).scalar():
            log("database.migration_waits", "warning")
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), lock)
        if _read_revision(connection) == HEAD:  # another process was faster
            return False
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
        raise Unavailable(f"The database cannot be reached: {reason}") from error
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
