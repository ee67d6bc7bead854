"""Brings the database to the revision of this code, and refuses one that is newer."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError, ProgrammingError

import schema
from taskapp.errors import Unavailable
from taskapp.logs import log

LOCK = 0x7461736B61707001  # of pg_advisory_lock: "taskapp", and a one for migrations
FOLDER = Path(schema.__file__).parent
HEAD = max(path.name[:4] for path in (FOLDER / "versions").glob("[0-9]*.py"))


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
        Unavailable: the database cannot be reached.
    """
    revision = await asyncio.to_thread(read_revision, url)
    if revision == HEAD:
        return False
    if revision is not None and revision > HEAD:
        raise NewerDatabaseError(revision)
    if revision is not None and back_up is not None:
        await back_up(revision)
    await asyncio.to_thread(_upgrade, url)
    log("database.migrated", before=revision or "", after=HEAD)
    return True


def read_revision(url: str) -> str | None:
    """Give the revision that the database is at; None when it is empty.

    Raises:
        Unavailable: the database cannot be reached.
    """
    try:
        with _connect(url) as connection:
            return _read_revision(connection)
    except OperationalError as error:
        lines = str(error.orig).splitlines() or [""]
        raise Unavailable(f"The database cannot be reached: {lines[0]}") from error


def _read_revision(connection: Connection) -> str | None:
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except ProgrammingError:
        connection.rollback()
        return None


def _upgrade(url: str) -> None:
    # Alembic takes a quarter of a second to import, and most starts have nothing to migrate.
    from alembic import command  # noqa: PLC0415  # see above
    from alembic.config import Config  # noqa: PLC0415  # see above

    with _connect(url) as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
        connection.commit()
        config = Config()
        config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.commit()


def _connect(url: str) -> Connection:
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg2"),
        connect_args={"connect_timeout": 5, "application_name": "taskapp migrations"},
    )
    connection = engine.connect()
    engine.dispose()
    return connection
