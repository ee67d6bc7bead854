"""Which PostgreSQL there is, and how its database is made ready for this code.

The database is brought to the revision of this code by the server when it starts, and by the
command `migrate`. Every other command gives tables to an empty database and leaves one that is
older or newer alone: to list accounts is no reason to change what a running server works with.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from taskapp.database import Database
from taskapp.embedded import EmbeddedPostgresError, embedded_postgres, program
from taskapp.logs import log
from taskapp.metrics import Metrics
from taskapp.migrations import HEAD, NewerDatabaseError, migrate, read_revision
from taskapp.postgres_cluster import synchronize
from taskapp.postgres_process import run_program
from taskapp.queries.users import count_users
from taskapp.settings import Settings


class BackupError(Exception):
    """The backup that precedes a migration could not be made; the message says why."""


class OlderDatabaseError(Exception):
    """The database has not been migrated to the revision of this code yet."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, and this taskapp needs {HEAD}. Run "
            "`python server.py migrate` first, or start the server, which does the same."
        )


@dataclass(frozen=True)
class Preparation:
    """What was done to a database: whether it was migrated, and the backup made before that."""

    migrated: bool
    backup: Path | None = None


@asynccontextmanager
async def database_server(settings: Settings, *, share: bool = False) -> AsyncIterator[str]:
    """Give the URL of the database: the one that was set, or the embedded one.

    The embedded one runs for the length of the block; with `share`, one that another process
    runs will do.

    Raises:
        DataFolderInUse: another process has the data folder.
        EmbeddedPostgresError: the embedded PostgreSQL cannot be run.
    """
    if not settings.uses_embedded_database:
        yield settings.database_url
        return
    async with embedded_postgres(settings.data_dir, share=share) as url:
        yield url


async def prepare_database(settings: Settings, url: str) -> Preparation:
    """Bring the database to the revision of this code; back up an embedded one that holds data.

    Raises:
        BackupError: there is no backup, so nothing was changed.
        NewerDatabaseError: the database has a revision that this code does not know.
        MigrationError: the database refuses.
        SettingsError: the address of the database cannot be read.
        Unavailable: the database cannot be reached.
    """
    backups: list[Path] = []

    async def back_up(_revision: str) -> None:
        if await _holds_data(url):
            backups.append(await _back_up(settings.data_dir, url))

    migrated = await migrate(url, back_up if settings.uses_embedded_database else None)
    return Preparation(migrated, backups[0] if backups else None)


async def require_prepared_database(settings: Settings, url: str) -> None:
    """Make sure that the database is at the revision of this code; give tables to an empty one.

    Raises:
        OlderDatabaseError, NewerDatabaseError: it is at another revision.
        MigrationError: the database refuses.
        SettingsError: the address of the database cannot be read.
        Unavailable: the database cannot be reached.
    """
    revision = await asyncio.to_thread(read_revision, url)
    if revision is None:
        await prepare_database(settings, url)
    elif revision > HEAD:
        raise NewerDatabaseError(revision)
    elif revision < HEAD:
        raise OlderDatabaseError(revision)


async def _holds_data(url: str) -> bool:
    database = Database(1, Metrics())
    await database.open(url)
    try:
        return await count_users(database) > 0
    finally:
        await database.close()


async def _back_up(data_dir: Path, url: str) -> Path:
    """Dump the database into the folder of backups, under its name only when it is whole."""
    name = f"before-{HEAD}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.dump"
    path = data_dir / "backups" / name
    draft = path.with_suffix(".partial")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        path.parent.chmod(0o700)
        try:
            draft.touch(mode=0o600, exist_ok=False)
            await _dump(url, draft)
            _give_to_owner_of(data_dir, [path.parent, draft])
            draft.rename(path)
            synchronize(path.parent)
        finally:
            draft.unlink(missing_ok=True)
    except (OSError, EmbeddedPostgresError) as error:
        raise BackupError(
            f"The backup in {path.parent} that has to precede a migration could not be made, so "
            f"the database was left as it is: {error}"
        ) from error
    log("database.backed_up", path=str(path), bytes=path.stat().st_size)
    return path


async def _dump(url: str, path: Path) -> None:
    command = (str(program("pg_dump")), "--format=custom", f"--file={path}", f"--dbname={url}")
    code, complaint = await run_program(command, account=None)
    if code != 0:
        raise EmbeddedPostgresError(" ".join(complaint.split()) or f"pg_dump ended with {code}")


def _give_to_owner_of(folder: Path, paths: list[Path]) -> None:
    """Leave nothing of root's in a folder whose owner has to read and write there later."""
    if os.geteuid() == 0:
        owner = folder.stat()
        for path in paths:
            os.chown(path, owner.st_uid, owner.st_gid)
