"""Which PostgreSQL is used, and how its database reaches the revision of this code.

The server at its start and the command `migrate` migrate the database. Every other command
creates the tables of an empty database, and refuses one at an older revision: listing accounts must
not change the tables under a running server.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from taskapp.backups.create import make_dump_before
from taskapp.backups.identity import read_identity
from taskapp.backups.repository import backup_repository
from taskapp.backups.upgrade import upgrade_cluster
from taskapp.backups.wal_archive import archive_settings
from taskapp.config.installation import COMMAND
from taskapp.config.settings import Settings
from taskapp.core.errors import OperatorError
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.database import Database
from taskapp.db.migrations import HEAD, is_migrated, migrate, read_revision
from taskapp.observability.metrics import Metrics
from taskapp.postgres.server import ExtraSettings, embedded_postgres
from taskapp.queries.users import count_users


class OlderDatabaseError(OperatorError):
    """The database has not been migrated to the revision of this code yet."""

    def __init__(self, revision: str) -> None:
        super().__init__(
            f"The database is at revision {revision}, but this taskapp needs {HEAD}. Run "
            f"`{COMMAND} migrate` first, or start the server, which does the same."
        )


@dataclass(frozen=True)
class MigrationResult:
    """Whether a database was migrated, and the backup made before that."""

    migrated: bool
    backup: Path | None = None


@asynccontextmanager
async def database_server(
    settings: Settings, *, share: bool = False, upgrades: bool = False
) -> AsyncIterator[str]:
    """Yield the URL of the database: the configured one, or the embedded one.

    The embedded server runs for the length of the block. With `share`, a server that another
    process runs in this data folder is used instead. With `upgrades`, a cluster of an older major
    version of PostgreSQL is upgraded first; else its own version runs.

    Raises:
        BackupError: the upgrade failed; the database is as before.
        DataFolderInUse: another process has the data folder.
        EmbeddedPostgresError: the embedded PostgreSQL cannot be run.
    """
    if not settings.uses_embedded_database:
        yield settings.database_url
        return
    more = _archiving(settings) if settings.archives_wal else None
    async with embedded_postgres(
        settings.data_dir,
        share=share,
        bin_folder=settings.postgresql_bin,
        extra_settings=more,
        upgrade=partial(upgrade_cluster, settings, more) if upgrades else None,
    ) as url:
        yield url


def _archiving(settings: Settings) -> ExtraSettings:
    repository = backup_repository(settings)
    return lambda cluster: archive_settings(repository.archive(read_identity(cluster)))


async def prepare_database(
    settings: Settings, url: str, *, only_compatible: bool = False
) -> MigrationResult:
    """Migrate the database to the revision of this code, an embedded one with data after a backup.

    Raises:
        BackupError: the backup failed, so nothing was changed.
        IncompatibleMigrationError: programs of the old revision would be shut out.
        NewerDatabaseError: the database is newer, and this code may not use it.
        MigrationError: the database refuses.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    backups: list[Path] = []

    async def back_up(_revision: str) -> None:
        if await _holds_data(url):
            backup = await make_dump_before(settings, url, f"migration-{HEAD}")
            backups.append(backup.path)

    if settings.uses_embedded_database:
        migrated = await migrate(url, back_up, only_compatible=only_compatible)
    else:
        own_url = settings.migration_database_url or url
        migrated = await migrate(own_url, only_compatible=only_compatible)
    return MigrationResult(migrated, backups[0] if backups else None)


async def require_prepared_database(settings: Settings, url: str) -> None:
    """Refuse a database that this code cannot use; create the tables of an empty one.

    Raises:
        OlderDatabaseError, NewerDatabaseError: it is at another revision.
        MigrationError: the database refuses.
        SettingsError: the address of the database cannot be parsed.
        Unavailable: the database cannot be reached.
    """
    revision = await run_in_daemon_thread(read_revision, url)
    if revision is None:
        await prepare_database(settings, url)
    elif not is_migrated(revision):
        raise OlderDatabaseError(revision.number)


async def _holds_data(url: str) -> bool:
    database = Database(1, Metrics())
    await database.open(url)
    try:
        return await count_users(database) > 0
    finally:
        await database.close()
