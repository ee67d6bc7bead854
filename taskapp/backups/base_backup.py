"""A base backup: a copy of the running embedded cluster, which the WAL archive continues."""

import asyncio
import json
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, text

from taskapp.backups.checksums import (
    PURPOSE,
    export_snapshot,
    read_contents,
    restore_point_snapshot,
)
from taskapp.backups.dump import NICENESS, dump_snapshot, find_exclusions
from taskapp.backups.identity import read_identity
from taskapp.backups.repository import (
    DUMP,
    Backup,
    BackupError,
    BackupRepository,
    describe,
    finished,
    read_backup,
)
from taskapp.backups.wal_archive import READY, WalSource, archive_lag, prepare_archive
from taskapp.backups.wal_segments import SEGMENT_BYTES, parse_lsn, segment_name
from taskapp.config.settings import Settings
from taskapp.core.files import folder_size
from taskapp.core.progress import begin_step
from taskapp.core.threads import entered_in_daemon_thread, run_in_daemon_thread
from taskapp.core.waiting import wait_until
from taskapp.db.migrations import MigrationError, connected
from taskapp.observability.logs import log
from taskapp.postgres.permissions import FolderAccessError, postgres_account
from taskapp.postgres.processes import run_program
from taskapp.postgres.programs import EmbeddedPostgresError, PostgresPrograms, programs_for

ARCHIVE_TIMEOUT = 60.0  # seconds that a WAL segment may take to be in the archive
_ATTEMPTS = 5  # to lock the tables while transactions run
_OPTIONS = (
    *("--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"),
    *("--manifest-checksums=SHA256", "--no-password"),
)


async def make_base_backup(
    repository: BackupRepository, settings: Settings, url: str, database: str
) -> Backup:
    """Copy the embedded cluster while it is used. Call it with the folder's lock held.

    It is complete when its restore point is in the archive, which proves that archiving works. It
    contains a dump of the state at the restore point, which other major versions of PostgreSQL can
    restore; if that fails, the backup is kept without it, and says why.

    Raises:
        BackupError: a program fails, or WAL is not archived.
        EmbeddedPostgresError: the programs of this PostgreSQL are not installed.
        MigrationError, Unavailable: the database cannot be asked.
        OSError: a folder cannot be written to.
    """
    cluster = settings.data_dir / "postgres"
    programs = programs_for(cluster, settings.postgresql_bin)
    archive = repository.archive(read_identity(cluster))
    try:
        prepare_archive(archive, cluster, postgres_account(cluster))
    except FolderAccessError as error:
        raise BackupError(str(error)) from error
    repository.record_location()  # from now on a missing archive is noticed
    with repository.staging("base") as staging:
        await _copy_cluster(programs, url, staging)
        begin_step("Reading every row")
        name = f"taskapp {staging.name.partition('-')[0]}"
        async with AsyncExitStack() as stack:
            connection, lsn = await _enter_restore_point(stack, url, name)
            timestamp = datetime.now(UTC)
            segment = await run_in_daemon_thread(_switch_segment, url)
            contents = await run_in_daemon_thread(read_contents, connection)
            failure = await _try_dump(staging, url, connection, settings.postgresql_bin)
        begin_step("Waiting for the archive")
        await _await_archived(archive, cluster, segment)
        begin_step("Reading what was copied", total=folder_size(staging))
        await asyncio.to_thread(
            describe,
            staging,
            contents,
            kind="base",
            timestamp=timestamp,
            database=database,
            first_wal=_first_wal(staging),
            restore_point_segment=segment,
            restore_point_lsn=parse_lsn(lsn),
            postgresql=programs.major,
            dump_failure=failure,
        )
    return read_backup(finished(staging))


async def _copy_cluster(programs: PostgresPrograms, url: str, staging: Path) -> None:
    begin_step("Copying the database", measure=lambda: folder_size(staging))
    command = (
        str(programs.path("pg_basebackup")),
        *_OPTIONS,
        f"--pgdata={staging}",
        f"--dbname={url}",
    )
    code, complaint = await run_program(command, account=None, niceness=NICENESS)
    if code != 0:
        raise BackupError(" ".join(complaint.split()) or f"pg_basebackup ended with {code}")


async def _enter_restore_point(
    stack: AsyncExitStack, url: str, name: str
) -> tuple[Connection, str]:
    for _ in range(_ATTEMPTS - 1):
        try:
            point = entered_in_daemon_thread(restore_point_snapshot(url, name))
            return await stack.enter_async_context(point)
        except MigrationError:  # a transaction ran for longer than RESTORE_POINT_TIMEOUT
            await asyncio.sleep(1)
    point = entered_in_daemon_thread(restore_point_snapshot(url, name))
    return await stack.enter_async_context(point)


def _switch_segment(url: str) -> str:
    """End the WAL segment that is written to, so that it is archived; return its name."""
    with connected(url, PURPOSE) as connection:
        return str(connection.execute(text("SELECT pg_walfile_name(pg_switch_wal())")).scalar())


async def _try_dump(
    staging: Path, url: str, connection: Connection, bin_folder: Path | None
) -> str:
    """Dump what a connection sees beside the base; return why that failed, else nothing."""
    try:
        seen = await run_in_daemon_thread(export_snapshot, connection)
        exclusions = await run_in_daemon_thread(find_exclusions, connection)
        await dump_snapshot(staging, url, seen, exclusions, bin_folder)
    except (BackupError, EmbeddedPostgresError) as error:
        (staging / DUMP).unlink(missing_ok=True)
        log("backup.dump_failed", "error", reason=str(error))
        return str(error)
    return ""


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
