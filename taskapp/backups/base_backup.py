"""A base backup: a copy of the running embedded cluster, which the WAL archive continues."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from taskapp.backups.checksums import (
    PURPOSE,
    Tables,
    read_revision,
    read_tables,
    restore_point_snapshot,
)
from taskapp.backups.dump import NICENESS
from taskapp.backups.identity import read_identity
from taskapp.backups.repository import (
    Backup,
    BackupError,
    BackupRepository,
    describe,
    finished,
    read_backup,
)
from taskapp.backups.wal_archive import READY, WalSource, archive_lag, prepare_archive
from taskapp.backups.wal_segments import SEGMENT_BYTES, parse_lsn, segment_name
from taskapp.core.threads import run_in_daemon_thread
from taskapp.core.waiting import wait_until
from taskapp.db.migrations import MigrationError, connected
from taskapp.postgres.cluster import program
from taskapp.postgres.permissions import FolderAccessError, postgres_account
from taskapp.postgres.processes import run_program

ARCHIVE_TIMEOUT = 60.0  # seconds that a WAL segment may take to be in the archive
_ATTEMPTS = 5  # to lock the tables while transactions run
_OPTIONS = (
    *("--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"),
    *("--manifest-checksums=SHA256", "--no-password"),
)


@dataclass(frozen=True)
class _RestorePoint:
    """A state that a backup can be recovered to: its place in the WAL, and its contents."""

    timestamp: datetime
    revision: str
    tables: Tables
    wal: str
    lsn: int


async def make_base_backup(
    folder: BackupRepository, data_dir: Path, url: str, database: str
) -> Backup:
    """Copy the embedded cluster while it is used. Call it with the folder's lock held.

    It is complete when its restore point is in the archive, which proves that archiving works.

    Raises:
        BackupError: a program fails, or WAL is not archived.
        MigrationError, Unavailable: the database cannot be asked.
        OSError: a folder cannot be written to.
    """
    cluster = data_dir / "postgres"
    archive = folder.archive(read_identity(cluster))
    try:
        prepare_archive(archive, cluster, postgres_account(cluster))
    except FolderAccessError as error:
        raise BackupError(str(error)) from error
    folder.note_place()  # from now on a missing archive is noticed
    with folder.staging("base") as staging:
        command = (
            str(program("pg_basebackup")),
            *_OPTIONS,
            f"--pgdata={staging}",
            f"--dbname={url}",
        )
        code, complaint = await run_program(command, account=None, niceness=NICENESS)
        if code != 0:
            raise BackupError(" ".join(complaint.split()) or f"pg_basebackup ended with {code}")
        name = f"taskapp {staging.name.partition('-')[0]}"
        restore_point = await _create_restore_point(url, name)
        await _await_archived(archive, cluster, restore_point.wal)
        await asyncio.to_thread(
            describe,
            staging,
            kind="base",
            timestamp=restore_point.timestamp,
            database=database,
            revision=restore_point.revision,
            tables=restore_point.tables,
            first_wal=_first_wal(staging),
            restore_point_segment=restore_point.wal,
            restore_point_lsn=restore_point.lsn,
        )
    return read_backup(finished(staging))


async def _create_restore_point(url: str, name: str) -> _RestorePoint:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await run_in_daemon_thread(_create_restore_point_now, url, name)
        except MigrationError:  # a transaction ran for longer than RESTORE_POINT_TIMEOUT
            await asyncio.sleep(1)
    return await run_in_daemon_thread(_create_restore_point_now, url, name)


def _create_restore_point_now(url: str, name: str) -> _RestorePoint:
    with restore_point_snapshot(url, name) as (connection, lsn):
        timestamp = datetime.now(UTC)
        with connected(url, PURPOSE) as other:
            wal = str(other.execute(text("SELECT pg_walfile_name(pg_switch_wal())")).scalar())
        tables = read_tables(connection)
        return _RestorePoint(
            timestamp,
            read_revision(connection, tables),
            tables,
            wal,
            parse_lsn(lsn),
        )


async def _await_archived(archive: Path, cluster: Path, name: str) -> None:
    # The name alone proves nothing: a copy of this cluster may have archived its own segment.
    waits = cluster / f"pg_wal/archive_status/{name}{READY}"

    def is_archived() -> bool:
        return not waits.exists() and WalSource(archive).is_archived(name)

    if not await wait_until(is_archived, ARCHIVE_TIMEOUT, interval=0.1):
        number, seconds = archive_lag(cluster)
        raise BackupError(
            f"The archive {archive} does not take what is to be archived: {number} files wait, "
            f"the first for {seconds:.0f} s. The log says why; look at the disk, at whom that "
            f"folder belongs to, and whether a copy of this database archives there."
        )


def _first_wal(staging: Path) -> str:
    manifest = json.loads((staging / "backup_manifest").read_text(encoding="utf-8"))
    begin = manifest["WAL-Ranges"][0]
    return segment_name(begin["Timeline"], parse_lsn(begin["Start-LSN"]) // SEGMENT_BYTES)
