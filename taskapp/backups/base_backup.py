"""A base backup: a copy of the running embedded cluster, from which its archive leads on."""

import asyncio
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import text

from taskapp.backups.checksums import (
    PURPOSE,
    Tables,
    marked_snapshot,
    read_database,
    read_revision,
    read_tables,
)
from taskapp.backups.dump import NICENESS
from taskapp.backups.repository import Backup, BackupError, BackupFolder, describe
from taskapp.backups.wal_archive import (
    SEGMENT_BYTES,
    WalFiles,
    longest_wait,
    parse_position,
    prepare_archive,
    read_system,
    segment_name,
)
from taskapp.db.migrations import MigrationError, connected
from taskapp.postgres.cluster import program
from taskapp.postgres.permissions import FolderAccessError, postgres_account
from taskapp.postgres.processes import run_program

ARCHIVE_PATIENCE = 60.0  # seconds for which a file of WAL may take to be in the archive
_ATTEMPTS = 5  # at a moment in which nobody changes anything
_OPTIONS = (
    *("--format=tar", "--gzip", "--wal-method=stream", "--checkpoint=fast"),
    *("--manifest-checksums=SHA256", "--no-password"),
)


@dataclass(frozen=True)
class _Mark:
    """A moment that a backup can be recovered to: where it is in the WAL, and what was there."""

    moment: datetime
    database: str
    revision: str
    tables: Tables
    wal: str
    position: int


async def make_base_backup(folder: BackupFolder, data_dir: Path, url: str) -> Backup:
    """Copy the embedded cluster while it is used. Hold the folder's lock meanwhile.

    It is whole when its mark is in the archive, so that the archive is proven to work.

    Raises:
        BackupError: a program fails, or the archive does not take what is to be archived.
        MigrationError, Unavailable: the database cannot be asked.
        OSError: a folder cannot be written to.
    """
    cluster = data_dir / "postgres"
    archive = folder.archive(read_system(cluster))
    try:
        prepare_archive(archive, cluster, postgres_account(cluster))
    except FolderAccessError as error:
        raise BackupError(str(error)) from error
    with folder.draft("base") as draft:
        command = (str(program("pg_basebackup")), *_OPTIONS, f"--pgdata={draft}", f"--dbname={url}")
        code, complaint = await run_program(command, account=None, niceness=NICENESS)
        if code != 0:
            raise BackupError(" ".join(complaint.split()) or f"pg_basebackup ended with {code}")
        mark = await _mark(url, name_of_mark(draft.name))
        await _await_archived(archive, cluster, mark.wal)
        await asyncio.to_thread(
            describe,
            draft,
            kind="base",
            moment=mark.moment,
            database=mark.database,
            revision=mark.revision,
            tables=mark.tables,
            first_wal=_first_wal(draft),
            marked_wal=mark.wal,
            mark=mark.position,
        )
    return folder.list_backups()[0]


def name_of_mark(name: str) -> str:
    """Name the mark in the WAL of a backup with that name, whole or partial."""
    return f"taskapp {name.partition('-')[0]}"


async def _mark(url: str, name: str) -> _Mark:
    for _ in range(_ATTEMPTS - 1):
        try:
            return await asyncio.to_thread(_mark_now, url, name)
        except MigrationError:  # somebody was in the middle of a change for too long
            await asyncio.sleep(1)
    return await asyncio.to_thread(_mark_now, url, name)


def _mark_now(url: str, name: str) -> _Mark:
    with marked_snapshot(url, name) as (connection, position):
        moment = datetime.now(UTC)
        with connected(url, PURPOSE) as other:
            wal = str(other.execute(text("SELECT pg_walfile_name(pg_switch_wal())")).scalar())
        tables = read_tables(connection)
        return _Mark(
            moment,
            read_database(connection),
            read_revision(connection, tables),
            tables,
            wal,
            parse_position(position),
        )


async def _await_archived(archive: Path, cluster: Path, name: str) -> None:
    deadline = asyncio.get_running_loop().time() + ARCHIVE_PATIENCE
    while not WalFiles(archive).is_archived(name):
        if asyncio.get_running_loop().time() > deadline:
            number, seconds = longest_wait(cluster)
            raise BackupError(
                f"The archive {archive} does not take what is to be archived: {number} files wait, "
                f"the first for {seconds:.0f} s. The log says why; look at the disk and at whom "
                f"that folder belongs to."
            )
        await asyncio.sleep(0.1)


def _first_wal(draft: Path) -> str:
    manifest = json.loads((draft / "backup_manifest").read_text(encoding="utf-8"))
    begin = manifest["WAL-Ranges"][0]
    return segment_name(begin["Timeline"], parse_position(begin["Start-LSN"]) // SEGMENT_BYTES)
