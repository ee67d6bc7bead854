"""From a backup to the database that the server uses; what was there before is kept aside."""

import asyncio
import os
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from taskapp.backups.checksums import PURPOSE, read_tables
from taskapp.backups.create import backup_repository
from taskapp.backups.dump import make_dump, restore_dump
from taskapp.backups.recovery import (
    RestorePlan,
    new_history,
    plan_backup,
    plan_point_in_time,
    recovered,
)
from taskapp.backups.repository import Backup, BackupError
from taskapp.backups.wal_archive import READY, WANTED
from taskapp.config.settings import Settings
from taskapp.db.migrations import HEAD, NewerDatabaseError, connected
from taskapp.postgres.cluster import synchronize
from taskapp.postgres.permissions import UnixUser
from taskapp.postgres.server import EmbeddedPostgres

_COUNTED = ("users", "tasks")


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did: to which state, what is in it, and where the old database is."""

    timestamp: datetime | None  # None: everything there is
    last_change: datetime | None  # of a task or an account
    users: int
    tasks: int
    sessions: int  # that were ended
    aside: Path | None  # the old cluster, or a dump of the old database


async def restore_embedded(
    settings: Settings, timestamp: datetime | None = None, name: str = ""
) -> RestoreResult:
    """Restore the embedded database to a moment, to a backup by name, or to the last change.

    Until the end nothing is touched; then the old cluster is renamed.

    Raises:
        BackupError: it cannot be restored; all is as before.
        DataFolderInUse: the server runs.
        EmbeddedPostgresError: the data folder cannot be used.
    """
    folder = backup_repository(settings)
    cluster, aside = settings.data_dir / "postgres", settings.data_dir / "restore"
    async with EmbeddedPostgres(settings.data_dir).locked(), folder.lock():
        if name:
            plan = plan_backup(folder, folder.require(name))
        else:
            plan = plan_point_in_time(folder, cluster / "pg_wal", timestamp)
        _refuse_newer(plan.backup)
        owner = _owner(settings.data_dir)
        try:
            async with recovered(plan, aside, owner) as url:
                facts = await asyncio.to_thread(_settle, url)
            _continue_archive(plan, aside / "postgres")
            old = _swap(aside / "postgres", cluster)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        is_whole_backup = name or plan.backup.kind == "dump"
        return RestoreResult(plan.backup.timestamp if is_whole_backup else timestamp, *facts, old)


async def restore_own(
    settings: Settings, name: str = "", *, replace: bool = False
) -> RestoreResult:
    """Restore a dump, the newest or one by name, into the database that the settings name.

    It is done as the user who may change tables. A database that holds tables is refused, or with
    `replace` dumped and then emptied.

    Raises:
        BackupError: it cannot be restored; the database is as before, or empty.
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
    """
    folder, url = (
        backup_repository(settings),
        settings.migration_database_url or settings.database_url,
    )
    async with folder.lock():
        dumps = [backup for backup in folder.list_backups() if backup.kind == "dump"]
        routine = [backup for backup in dumps if backup.is_routine]
        if not name and not routine:
            raise BackupError(f"There is no dump in {folder.path}.")
        backup = folder.require(name) if name else routine[0]
        if backup.kind != "dump":
            raise BackupError(f"{backup.name} is no dump: only the embedded PostgreSQL takes it.")
        _refuse_newer(backup)
        if damaged := await asyncio.to_thread(backup.damage):
            raise BackupError(f"The backup {backup.path} is damaged: {', '.join(damaged)}.")
        old = None
        if await asyncio.to_thread(_holds_tables, url):
            if not replace:
                raise BackupError(
                    "The database holds tables already. Name an empty one in "
                    "TASKAPP_DATABASE_URL, or say --replace: it is then dumped and emptied first."
                )
            old = (await make_dump(folder, url, "before-restore")).path
            await asyncio.to_thread(_empty, url)
        try:
            await restore_dump(backup, url)
        except BackupError as error:
            kept = f" What was there is in {old}." if old else ""
            raise BackupError(f"The database is empty now: {error}.{kept}") from error
        return RestoreResult(backup.timestamp, *await asyncio.to_thread(_settle, url), old)


def _refuse_newer(backup: Backup) -> None:
    if backup.revision > HEAD:
        raise BackupError(str(NewerDatabaseError(backup.revision)))


def _owner(data_dir: Path) -> UnixUser | None:
    """Give whose the restored cluster has to be; None where that is clear without looking."""
    for folder in (data_dir / "postgres", data_dir):
        if os.geteuid() == 0 and folder.exists() and (owner := folder.stat()).st_uid != 0:
            return UnixUser(owner.st_uid, owner.st_gid)
    return None


def _settle(url: str) -> tuple[datetime | None, int, int, int]:
    """End all sessions, one of which may have been ended since, and look at what is there."""
    with connected(url, PURPOSE) as connection:
        tables = read_tables(connection)
        sessions = tables.get("sessions", (0, ""))[0]
        if sessions:
            connection.execute(text("DELETE FROM sessions"))
            connection.commit()
        changes = [
            connection.execute(text(f"SELECT max(updated_at) FROM {name}")).scalar()  # noqa: S608  # nosec B608  # names of ours
            for name in _COUNTED
            if name in tables
        ]
        users, tasks = (tables.get(name, (0, ""))[0] for name in _COUNTED)
        return max(filter(None, changes), default=None), users, tasks, sessions


def _continue_archive(plan: RestorePlan, cluster: Path) -> None:
    """Let the next start archive the history of the new timeline, which was begun without it."""
    if plan.backup.kind == "dump":
        return
    history = new_history(cluster)
    status = cluster.stat()
    for path in (cluster / "pg_wal/archive_status" / f"{history}{READY}", cluster / WANTED):
        path.touch(mode=0o600)
        if os.geteuid() == 0:
            os.chown(path, status.st_uid, status.st_gid)


def _swap(new: Path, cluster: Path) -> Path | None:
    """Put a cluster in the place of another; a start completes this if it is cut off."""
    restored = cluster.with_name("postgres.restored")
    if restored.exists():
        shutil.rmtree(restored)
    new.rename(restored)
    synchronize(cluster.parent)
    old = None
    if cluster.exists():
        old = cluster.with_name(f"postgres.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")
        cluster.rename(old)
    restored.rename(cluster)
    synchronize(cluster.parent)
    return old


def _holds_tables(url: str) -> bool:
    with connected(url, PURPOSE) as connection:
        return bool(read_tables(connection))


def _empty(url: str) -> None:
    with connected(url, PURPOSE) as connection:
        names = ", ".join(f'"{name}"' for name in read_tables(connection))
        connection.execute(text(f"DROP TABLE {names} CASCADE"))
        connection.commit()
