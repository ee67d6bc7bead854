"""Verifying: the newest backup is started aside, and has to hold what its database held."""

import asyncio
import shutil
from dataclasses import dataclass

from taskapp.backups.checksums import PURPOSE, Tables, read_tables
from taskapp.backups.create import backup_repository
from taskapp.backups.recovery import RestorePlan, plan_backup, recovered
from taskapp.backups.repository import Backup, BackupError
from taskapp.backups.wal_archive import WalSource
from taskapp.config.settings import Settings
from taskapp.db.migrations import MigrationError, connected
from taskapp.postgres.cluster import program
from taskapp.postgres.processes import run_program


@dataclass(frozen=True)
class VerifyResult:
    """A backup that was verified: rows compared, and files of WAL after it that are whole."""

    backup: Backup
    rows: int
    wal_files: int


async def verify_backup(settings: Settings, name: str = "") -> VerifyResult:
    """Verify a backup, by default the newest, and the archive that follows it.

    Every file of WAL that was archived since is read. Then the backup's own files are compared
    with their digests, and it is started aside and recovered to its mark, where every table must
    have the rows and the digest that were noted, and every index must fit its table.

    Raises:
        BackupError: something is not as it was; the message says what.
    """
    folder = backup_repository(settings)
    async with folder.lock():
        backups = folder.list_backups()
        if not backups:
            raise BackupError(f"There is no backup in {folder.path}.")
        backup = folder.require(name) if name else backups[0]
        plan = plan_backup(folder, backup)
        wal_files = await asyncio.to_thread(_check_archive, plan)
        aside = settings.data_dir / "verify"
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            async with recovered(plan, aside, None) as url:
                found = await asyncio.to_thread(_read, url)
                _compare(backup, found)
                await _check_indexes(backup, url)
        except MigrationError as error:
            raise BackupError(f"The backup {backup.path} is damaged: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return VerifyResult(backup, sum(rows for rows, _ in found.values()), wal_files)


def _read(url: str) -> Tables:
    with connected(url, PURPOSE) as connection:
        return read_tables(connection)


def _compare(backup: Backup, found: Tables) -> None:
    names = sorted({*backup.tables, *found})
    wrong = [name for name in names if backup.tables.get(name) != found.get(name)]
    if wrong:
        raise BackupError(
            f"The backup {backup.path} does not hold what the database held: "
            + "; ".join(
                f"{name} has {found.get(name, (0, ''))[0]} rows, and had "
                f"{backup.tables.get(name, (0, ''))[0]}"
                for name in wrong
            )
            + "."
        )


async def _check_indexes(backup: Backup, url: str) -> None:
    command = (str(program("pg_amcheck")), "--install-missing", "--heapallindexed", url)
    code, complaint = await run_program(command, account=None)
    if code != 0:
        said = " ".join(complaint.split()) or "its indexes do not fit its tables"
        raise BackupError(f"The backup {backup.path} is damaged: {said}")


def _check_archive(plan: RestorePlan) -> int:
    if plan.backup.kind == "dump":
        return 0
    wal = WalSource(plan.archive)
    timeline = wal.timeline_at(None)
    if not timeline.goes_through(plan.timeline, plan.backup.restore_point_lsn):
        return 0  # a restore has undone what followed
    chain = wal.chain(plan.backup.first_wal, timeline)
    if not chain:
        raise BackupError(f"The archive {plan.archive} lacks {plan.backup.first_wal}.")
    if after := wal.after_gap(chain, timeline):
        raise BackupError(f"The archive {plan.archive} has a gap between {chain[-1]} and {after}.")
    if damaged := [name for name in chain if not wal.is_whole(name)]:
        raise BackupError(f"The archive {plan.archive} is damaged: {', '.join(damaged)}.")
    return len(chain)
