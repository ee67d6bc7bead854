"""Making a backup of whichever PostgreSQL there is, and removing those that are too old."""

from collections.abc import Callable

from taskapp.backups.base_backup import make_base_backup
from taskapp.backups.dump import make_dump
from taskapp.backups.repository import Backup, BackupError, BackupRepository
from taskapp.backups.wal_archive import remove_wal_before
from taskapp.config.settings import Settings
from taskapp.core.errors import TaskappError
from taskapp.db.migrations import MigrationError
from taskapp.observability.logs import log
from taskapp.postgres.server import EmbeddedPostgresError


def backup_repository(settings: Settings) -> BackupRepository:
    """Give the folder of backups of a set-up."""
    return BackupRepository(settings.backup_dir or settings.data_dir / "backups", settings.data_dir)


async def make_backup(
    settings: Settings, url: str, *, only_if: Callable[[], bool] = lambda: True
) -> Backup | None:
    """Back the database up, and remove the backups and the WAL that are no longer to be kept.

    Of the embedded PostgreSQL it is a base backup, unless its WAL is not archived. `only_if` is
    asked when no other process is at work on backups any more; None when it says no. Raises
    BackupError, after which all earlier backups are there as before.
    """
    folder = backup_repository(settings)
    try:
        folder.make()
        async with folder.lock():
            if not only_if():
                return None
            if settings.archives_wal:
                backup = await make_base_backup(folder, settings.data_dir, url)
            else:
                backup = await make_dump(folder, url)
            _remove_old(folder, backup, settings.backup_keep)
    except (OSError, EmbeddedPostgresError, MigrationError) as error:
        raise BackupError(f"The backup in {folder.path} could not be made: {error}") from error
    except TaskappError as error:
        raise BackupError(f"The database could not be backed up: {error.detail}") from error
    log("backup.made", path=str(backup.path), bytes=backup.bytes)
    return backup


async def make_dump_before(settings: Settings, url: str, event: str) -> Backup:
    """Dump the database before an event that changes much of it; raise BackupError."""
    folder = backup_repository(settings)
    try:
        folder.make()
        async with folder.lock():
            backup = await make_dump(folder, url, f"before-{event}")
            folder.remove_old(backup, settings.backup_keep)
    except (OSError, BackupError, EmbeddedPostgresError, MigrationError) as error:
        raise BackupError(
            f"The backup in {folder.path} that has to precede a {event.partition('-')[0]} could "
            f"not be made, so the database was left as it is: {error}"
        ) from error
    log("backup.made", path=str(backup.path), bytes=backup.bytes)
    return backup


def _remove_old(folder: BackupRepository, newest: Backup, keep: int) -> None:
    kept = folder.remove_old(newest, keep)
    needed = [backup.first_wal for backup in kept if backup.kind == "base"]
    archive = folder.archive(newest.system)
    if needed and archive.is_dir():
        remove_wal_before(archive, min(needed, key=lambda name: name[8:]))
