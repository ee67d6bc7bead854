"""Brings the database to the revision of this code, and refuses one that is newer."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, NullPool, create_engine, text
from sqlalchemy.exc import DBAPIError, OperationalError

import schema
from taskapp.config.installation import COMMAND
from taskapp.core.errors import Unavailable
from taskapp.db.pool import connect_once
from taskapp.observability.logs import log

LOCK = 0x7461736B61707001  # of pg_advisory_xact_lock: "taskapp", and a one for migrations
FOLDER = Path(schema.__file__).parent
HEAD = max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))
_NOT_ALLOWED = "42501"


class MigrationError(Exception):
    """The database refused to be read or changed; the message says why."""


class NewerDatabaseError(Exception):
    """The database was migrated by a newer taskapp than this one."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, and this taskapp knows none after {HEAD}. "
            "Start the newer taskapp again, or restore the backup that was made before the "
            "upgrade."
        )


async def migrate(url: str, back_up: Callable[[str], Awaitable[None]] | None = None) -> bool:
    """Run the migrations that are missing, one process at a time; tell whether there were any.

    `back_up` is called with the revision before the first one runs, if the database holds any
    tables of ours.

    Raises:
        NewerDatabaseError: the database has a revision that this code does not know.
        MigrationError: the database refuses, and is as it was before.
        SettingsError: the address of the database cannot be read.
        Unavailable: the database cannot be reached.
    """
    revision = await asyncio.to_thread(read_revision, url)
    if revision == HEAD:
        return False
    if revision is not None and revision > HEAD:
        raise NewerDatabaseError(revision)
    if revision is not None and back_up is not None:
        await back_up(revision)
    if not await asyncio.to_thread(_upgrade, url):
        return False
    log("database.migrated", before=revision or "", after=HEAD)
    return True


def read_revision(url: str) -> str | None:
    """Give the revision that the database is at; None when it is empty.

    Raises:
        MigrationError: the database refuses to tell.
        SettingsError: the address of the database cannot be read.
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
        # Of the transaction, not of the session: a pooler may give the next one another session.
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        if _read_revision(connection) == HEAD:  # another process was faster
            return False
        config = Config()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:  # such as a revision that nobody of ours made
            raise MigrationError(f"The database cannot be migrated: {error}") from error
        connection.commit()
    return True


@contextmanager
def connected(url: str, purpose: str = "taskapp migrations") -> Iterator[Connection]:
    """Connect for the length of the block; closing it for good lets go of every lock.

    Raises:
        MigrationError: the database refuses something.
        SettingsError: the address of the database cannot be read.
        Unavailable: the database cannot be reached.
    """
    engine = create_engine(
        "postgresql+psycopg2://",
        # The address is libpq's to read, here as in the pool: SQLAlchemy reads some otherwise.
        creator=lambda: connect_once(url, purpose),
        poolclass=NullPool,
    )
    try:
        with engine.connect() as connection:
            yield connection
    except OperationalError as error:
        raise Unavailable(f"The database cannot be reached: {_first_line(error)}") from error
    except DBAPIError as error:
        raise MigrationError(f"The database refuses: {_first_line(error)}{_fix(error)}") from error


def _fix(error: DBAPIError) -> str:
    if getattr(error.orig, "pgcode", "") != _NOT_ALLOWED:
        return ""
    return (
        f". If this user is not to change tables, run `{COMMAND} migrate` with "
        "TASKAPP_MIGRATION_DATABASE_URL set to the address of the user who is."
    )


def _first_line(error: DBAPIError) -> str:
    return (str(error.orig).splitlines() or [type(error.orig).__name__])[0]
