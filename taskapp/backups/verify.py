"""Verifies a backup: starts it in a cluster of its own, and compares it with its database.

The dump in a base backup is restored to a second database, and compared as well.
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from taskapp.backups.catalog import Catalog
from taskapp.backups.checksums import PURPOSE, Tables, read_tables
from taskapp.backups.create import read_repository
from taskapp.backups.identity import find_known_database
from taskapp.backups.recovery import RestorePlan, fill, plan_backup, recovered
from taskapp.backups.repository import Backup, BackupError, Kind, backup_repository
from taskapp.backups.wal_archive import WalSource
from taskapp.backups.wal_segments import segment_number
from taskapp.config.settings import Settings
from taskapp.core.progress import advance_step, begin_step
from taskapp.db.migrations import MigrationError, connected
from taskapp.postgres.processes import run_program
from taskapp.postgres.server import EmbeddedPostgres

_BESIDE = "dump"  # the name of the database that the dump of a base is restored to


@dataclass(frozen=True)
class VerifyResult:
    """A backup that was verified: rows compared, and WAL segments after it that are whole."""

    backup: Backup
    rows: int
    wal_segments: int | None  # None: the archive has another timeline, and was not read
    is_started: bool  # False: a base whose PostgreSQL is not here; only its dump was restored


async def verify_backup(settings: Settings, name: str = "") -> VerifyResult:
    """Verify a backup, by default the newest, and the archive that follows it.

    Every WAL segment that was archived since is read. Then the backup's own files are compared
    with their digests, and it is started aside and recovered to its restore point, where every
    table must have the rows and the digest that were noted, and every index must fit its table. A
    dump in it is restored to a database beside, and compared in the same way.

    Raises:
        BackupError: something is not as it was; the message says what.
    """
    repository = backup_repository(settings)
    async with repository.lock():
        database = await asyncio.to_thread(find_known_database, settings)
        catalog = await asyncio.to_thread(read_repository, repository, database)
        backup = catalog.require(name) if name else _newest(catalog)
        if not backup.revision or not backup.tables:
            raise BackupError(f"The backup {backup.path} holds no tables of taskapp.")
        plan = plan_backup(repository, backup, settings.postgresql_bin)
        await asyncio.to_thread(_check_other_part, plan)
        wal_segments = await asyncio.to_thread(_check_archive, plan)
        aside = settings.data_dir / "verify"
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            async with recovered(plan, aside, None, settings.postgresql_bin) as postgres:
                begin_step("Reading every row")
                found = await asyncio.to_thread(read_all, postgres.url)
                require_same(backup, found)
                begin_step("Comparing indexes with tables")
                await _check_indexes(backup, postgres)
                if plan.kind == "base" and backup.has_dump:
                    await _check_dump(backup, postgres, settings.postgresql_bin)
        except MigrationError as error:
            raise BackupError(f"The backup {backup.path} is damaged: {error}") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    if not name and (problems := catalog.problems()):
        raise BackupError(f"The backup {backup.path} is good, but: {' '.join(problems)}")
    rows = sum(rows for rows, _ in found.values())
    return VerifyResult(backup, rows, wal_segments, is_started=plan.kind == backup.kind)


def _newest(catalog: Catalog) -> Backup:
    chosen = catalog.for_restore(is_empty=catalog.database is None)
    candidates = [*chosen.routine, *chosen.own, *chosen.future]
    return candidates[0]


def _check_other_part(plan: RestorePlan) -> None:
    """Raise BackupError if files are damaged that the plan does without."""
    other: Kind = "dump" if plan.kind == "base" else "base"
    has_other = plan.backup.has_dump if other == "dump" else plan.backup.kind == "base"
    if has_other and (damaged := plan.backup.damage(other)):
        raise BackupError(f"The backup {plan.backup.path} is damaged: {', '.join(damaged)}.")


def read_all(url: str) -> Tables:
    """Count and digest the rows of every table of a database."""
    with connected(url, PURPOSE) as connection:
        return read_tables(connection)


def require_same(backup: Backup, found: Tables) -> None:
    """Raise BackupError if what was found is not what a backup was made of."""
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


async def _check_indexes(backup: Backup, postgres: EmbeddedPostgres) -> None:
    if not await asyncio.to_thread(_has_amcheck, postgres.url):
        raise BackupError(
            f"The indexes of {backup.path} cannot be checked: PostgreSQL's extension amcheck is "
            f"not installed. Install postgresql-contrib."
        )
    pg_amcheck = str(postgres.programs.path("pg_amcheck"))
    command = (pg_amcheck, "--install-missing", "--heapallindexed", postgres.url)
    code, complaint = await run_program(command, account=None)
    if code != 0:
        said = " ".join(complaint.split()) or "its indexes do not fit its tables"
        raise BackupError(f"The backup {backup.path} is damaged: {said}")


def _has_amcheck(url: str) -> bool:
    with connected(url, PURPOSE) as connection:
        query = text("SELECT count(*) FROM pg_available_extensions WHERE name = 'amcheck'")
        return bool(connection.execute(query).scalar())


async def _check_dump(backup: Backup, postgres: EmbeddedPostgres, bin_folder: Path | None) -> None:
    await asyncio.to_thread(_create_database, postgres.url)
    url = postgres.url_of(_BESIDE)
    try:
        await fill(backup, url, bin_folder)
        require_same(backup, await asyncio.to_thread(read_all, url))
    except BackupError as error:
        raise BackupError(f"The dump in {backup.path} cannot be restored: {error}") from error


def _create_database(url: str) -> None:
    with connected(url, PURPOSE) as connection:
        connection.execution_options(isolation_level="AUTOCOMMIT")
        connection.execute(text(f"CREATE DATABASE {_BESIDE} TEMPLATE template0"))


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
    if damaged := _find_damaged(wal, chain):
        raise BackupError(f"The archive {plan.archive} is damaged: {', '.join(damaged)}.")
    return len(chain)


def _find_damaged(wal: WalSource, chain: Sequence[str]) -> list[str]:
    begin_step("Reading the archive", total=len(chain), unit="files")
    damaged = []
    for name in chain:
        if not wal.is_whole(name):
            damaged.append(name)
        advance_step(1)
    return damaged
