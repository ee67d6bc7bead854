"""Makes backups, of the embedded PostgreSQL or of another one, and removes old ones."""

import asyncio
import os
import shutil
from contextlib import suppress
from pathlib import Path

from taskapp.backups.after_backup import note_command_due
from taskapp.backups.base_backup import make_base_backup
from taskapp.backups.catalog import Catalog, read_catalog
from taskapp.backups.dump import make_dump
from taskapp.backups.identity import find_database, find_known_database
from taskapp.backups.repository import (
    Backup,
    BackupError,
    BackupRepository,
    backup_repository,
)
from taskapp.backups.status import inspect_backups
from taskapp.backups.wal_archive import remove_wal
from taskapp.config.settings import Settings
from taskapp.core.errors import TaskappError
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.migrations import MigrationError
from taskapp.observability.logs import log
from taskapp.postgres.programs import EmbeddedPostgresError


def read_own_catalog(settings: Settings) -> Catalog:
    """Return the catalog of the backup folder for the database in use; raise BackupError."""
    return read_repository(backup_repository(settings), find_known_database(settings))


async def make_backup(settings: Settings, url: str, *, only_if_due: bool = False) -> Backup | None:
    """Back the database up, and remove the backups and the WAL that exceed the number to keep.

    It is a base backup if the WAL is archived, else a dump. With `only_if_due`, return None unless
    a backup is due once no other process makes one. Raises BackupError; all earlier backups are
    unchanged then.
    """
    repository = backup_repository(settings)
    try:
        repository.make()
        async with repository.lock():
            await asyncio.to_thread(_remove, find_leftovers(settings))
            database = await run_in_daemon_thread(find_database, settings) or ""
            report = await asyncio.to_thread(inspect_backups, settings, database)
            if only_if_due and not report.is_due:
                return None
            if settings.archives_wal:
                backup = await make_base_backup(repository, settings, url, database)
            else:
                backup = await make_dump(
                    repository, url, database, bin_folder=settings.postgresql_bin
                )
            repository.record_location()
            await asyncio.to_thread(_remove_old, repository, backup, settings.backup_keep)
    except (OSError, EmbeddedPostgresError, MigrationError) as error:
        raise BackupError(f"The backup in {repository.path} could not be made: {error}") from error
    except TaskappError as error:
        raise BackupError(f"The database could not be backed up: {error.detail}") from error
    log("backup.made", path=str(backup.path), bytes=backup.bytes)
    note_command_due(settings, backup)
    return backup


async def remove_leftovers(settings: Settings) -> None:
    """Remove what a killed `backup verify`, `restore` or upgrade left, unless one works now."""
    if leftovers := find_leftovers(settings):
        with suppress(BackupError):  # somebody is at work
            async with backup_repository(settings).lock(patience=0):
                await asyncio.to_thread(_remove, leftovers)
                log("backup.leftovers_removed", paths=", ".join(map(str, leftovers)))


def find_leftovers(settings: Settings) -> list[Path]:
    """Return the folders in which a backup is or was started aside.

    Who works in them holds the lock of the folder of backups.
    """
    paths = [settings.data_dir / name for name in ("verify", "restore", "upgrade")]
    # Unlike Path.is_dir before Python 3.14, this is False in a folder that cannot be searched.
    return [p for p in paths if os.path.isdir(p) and not os.path.islink(p)]  # noqa: PTH112, PTH114  # see above


def _remove(folders: list[Path]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


async def make_dump_before(settings: Settings, url: str, event: str) -> Backup:
    """Dump the database before an event that changes much of it; raise BackupError."""
    repository = backup_repository(settings)
    try:
        repository.make()
        async with repository.lock():
            database = await run_in_daemon_thread(find_database, settings) or ""
            backup = await make_dump(
                repository, url, database, f"before-{event}", bin_folder=settings.postgresql_bin
            )
            repository.record_location()
            await asyncio.to_thread(_remove_old, repository, backup, settings.backup_keep)
    except (OSError, BackupError, EmbeddedPostgresError, MigrationError) as error:
        raise BackupError(
            f"The backup in {repository.path} that has to precede the {event.partition('-')[0]} "
            f"could not be made, so the database was left as it is: {error}"
        ) from error
    log("backup.made", path=str(backup.path), bytes=backup.bytes)
    return backup


def read_repository(repository: BackupRepository, database: str | None) -> Catalog:
    """Return the catalog of a folder for a database; raise BackupError."""
    try:
        return read_catalog(repository.path, database)
    except OSError as error:
        raise BackupError(
            f"The backups in {repository.path} cannot be read: {error.strerror or error}."
        ) from error


def _remove_old(repository: BackupRepository, newest: Backup, keep: int) -> None:
    """Remove all but the newest `keep` backups like this one: of its database, routine or not.

    Backups of other databases, with a date in the future, renamed or copied ones stay. WAL that no
    remaining backup needs is removed: a renamed one needs only the WAL to its own restore point.
    """
    catalog = read_catalog(repository.path, newest.database)
    rotated = [
        backup
        for backup in catalog.own
        if backup.is_rotated and backup.is_routine == newest.is_routine
    ]
    old = [backup for backup in rotated if backup.name != newest.name][keep - 1 :]
    repository.remove(old)
    archive = repository.archive(newest.identity)
    if any(entry.is_unreachable for entry in catalog.damaged) or not archive.is_dir():
        return
    left = [b for b in (*catalog.own, *catalog.future) if b.kind == "base" and b not in old]
    remove_wal(
        archive,
        before=[backup.first_wal for backup in left if backup.is_rotated],
        but=[
            (backup.first_wal, backup.restore_point_segment)
            for backup in left
            if not backup.is_rotated
        ],
    )
