"""Verifies a backup: starts it in a cluster of its own, and compares it with its database."""

import asyncio
import shutil
from dataclasses import dataclass

from taskapp.backups.catalog import Catalog
from taskapp.backups.checksums import PURPOSE, Tables, read_tables
from taskapp.backups.create import read_folder
from taskapp.backups.identity import find_known_database
from taskapp.backups.recovery import RestorePlan, plan_backup, recovered
from taskapp.backups.repository import Backup, BackupError, backup_repository
from taskapp.backups.wal_archive import WalSource
from taskapp.backups.wal_segments import segment_number
from taskapp.config.settings import Settings
from taskapp.db.migrations import MigrationError, connected
from taskapp.postgres.cluster import program
from taskapp.postgres.processes import run_program


@dataclass(frozen=True)
class VerifyResult:
    """A backup that was verified: rows compared, and WAL segments after it that are whole."""

    backup: Backup
    rows: int
    wal_segments: int | None  # None: the archive has another timeline, and was not read


async def verify_backup(settings: Settings, name: str = "") -> VerifyResult:
    """Verify a backup, by default the newest, and the archive that follows it.

    Every WAL segment that was archived since is read. Then the backup's own files are compared
    with their digests, and it is started aside and recovered to its restore point, where every
    table must have the rows and the digest that were noted, and every index must fit its table.

    Raises:
        BackupError: something is not as it was; the message says what.
    """
    folder = backup_repository(settings)
    async with folder.lock():
        database = await asyncio.to_thread(find_known_database, settings)
        catalog = await asyncio.to_thread(read_folder, folder, database)
        backup = catalog.require(name) if name else _newest(catalog)
        if not backup.revision or not backup.tables:
            raise BackupError(f"The backup {backup.path} holds no tables of taskapp.")
        plan = plan_backup(folder, backup)
        wal_segments = await asyncio.to_thread(_check_archive, plan)
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
    if not name and (problems := catalog.problems()):
        raise BackupError(f"The backup {backup.path} is good, but: {' '.join(problems)}")
    return VerifyResult(backup, sum(rows for rows, _ in found.values()), wal_segments)


def _newest(catalog: Catalog) -> Backup:
    chosen = catalog.for_restore(is_empty=catalog.database is None)
    candidates = [*chosen.routine, *chosen.own, *chosen.future]
    return candidates[0]


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


def _check_archive(plan: RestorePlan) -> int | None:
    if plan.backup.kind == "dump":
        return None
    wal = WalSource(plan.archive)
    timeline = wal.timeline_at(None)
    if not timeline.goes_through(plan.timeline, plan.backup.restore_point_lsn):
        return None  # a restore has undone what followed
    chain = wal.chain(plan.backup.first_wal, timeline)
    if not chain:
        raise BackupError(f"The archive {plan.archive} lacks {plan.backup.first_wal}.")
    end = segment_number(plan.backup.restore_point_segment)
    if segment_number(chain[-1]) < end:
        raise BackupError(f"The archive {plan.archive} lacks WAL of the backup itself.")
    if not plan.backup.is_rotated:  # what follows may have been removed
        chain = [name for name in chain if segment_number(name) <= end]
    elif after := wal.after_gap(chain, timeline):
        raise BackupError(f"The archive {plan.archive} has a gap between {chain[-1]} and {after}.")
    if damaged := [name for name in chain if not wal.is_whole(name)]:
        raise BackupError(f"The archive {plan.archive} is damaged: {', '.join(damaged)}.")
    return len(chain)
