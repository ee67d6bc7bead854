"""Recovering a backup aside: a cluster of its own, at the moment that is wanted.

Nothing that is in use is touched. What a base backup needs is planned first, so that a moment
that cannot be reached is refused before any work.
"""

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from taskapp.backups.base_backup import name_of_mark
from taskapp.backups.dump import restore_dump
from taskapp.backups.repository import Backup, BackupError, BackupFolder
from taskapp.backups.wal_archive import (
    SEGMENT_BYTES,
    Timeline,
    WalFiles,
    parse_position,
    restore_command,
    segment_number,
)
from taskapp.config.installation import COMMAND
from taskapp.postgres.permissions import Account, give, open_parents, postgres_account
from taskapp.postgres.server import EmbeddedPostgres, EmbeddedPostgresError

_TARGET_NOT_REACHED = "recovery ended before configured recovery target was reached"


@dataclass(frozen=True)
class Plan:
    """From which backup, along which WAL, and up to where."""

    backup: Backup
    archive: Path
    left: Path  # the pg_wal of the cluster that is replaced, with what is not archived yet
    timeline: int = 1
    last_archived: str = ""  # the file of WAL that a recovery of all there is has to reach
    target: Mapping[str, str] = field(default_factory=dict)  # none: all there is


def plan_moment(folder: BackupFolder, left: Path, moment: datetime | None) -> Plan:
    """Plan to restore a moment, or all there is; raise BackupError where that is impossible."""
    backups = [backup for backup in folder.list_backups() if backup.is_routine]
    bases = [backup for backup in backups if backup.kind == "base"]
    if not backups:
        raise BackupError(f"There is no backup in {folder.path}.")
    if moment and not bases:
        raise BackupError(
            f"The backups in {folder.path} are dumps, which hold one moment each. Restore one of "
            f"them with --backup; `{COMMAND} backup list` lists them."
        )
    if moment and moment > datetime.now(UTC):
        raise BackupError(f"{in_words(moment)} is still to come.")
    earlier = [backup for backup in bases if backup.moment <= moment] if moment else backups
    if not earlier:
        raise BackupError(
            f"There is no backup from before {in_words(moment or bases[-1].moment)}: the oldest is "
            f"of {in_words(bases[-1].moment)}."
        )
    newest = max(earlier, key=lambda backup: backup.moment)
    if newest.kind == "dump":
        return plan_backup(folder, newest)
    archive = folder.archive(newest.system)
    wal = WalFiles(archive, left, newest.system)
    timeline = wal.timeline_at(moment)
    for backup in earlier:
        on = int(backup.marked_wal[:8] or "0", 16)
        if backup.database == newest.database and timeline.goes_through(on, backup.mark):
            return _plan_base(Plan(backup, archive, left), wal, timeline, moment)
    raise BackupError(f"No backup in {folder.path} leads to timeline {timeline.number}.")


def _plan_base(plan: Plan, wal: WalFiles, timeline: Timeline, moment: datetime | None) -> Plan:
    chain = wal.chain(plan.backup.first_wal, timeline)
    if not chain or segment_number(chain[-1]) < segment_number(plan.backup.marked_wal):
        raise BackupError(
            f"The archive {plan.archive} lacks WAL of the backup {plan.backup.name} itself. "
            f"Restore an earlier moment, or bring the archive back."
        )
    end = max(map(wal.moment, chain))
    if moment and moment > end:
        raise BackupError(
            f"{in_words(moment)} lies after the last change that is kept, of {in_words(end)}. "
            f"Without --to, everything up to that is restored."
        )
    if not moment and (after := wal.after_gap(chain, timeline)):
        raise BackupError(
            f"The archive {plan.archive} has a gap between {chain[-1]} and {after}. What comes "
            f'before it can be restored with --to "{end:%Y-%m-%d %H:%M:%S}".'
        )
    return replace(
        plan,
        timeline=timeline.number,
        last_archived=next(filter(wal.is_archived, reversed(chain)), ""),
        target={"recovery_target_time": moment.isoformat(sep=" ")} if moment else {},
    )


def plan_backup(folder: BackupFolder, backup: Backup) -> Plan:
    """Plan to restore a backup as it is described: a dump, or a base up to its mark."""
    archive = folder.archive(backup.system)
    if backup.kind == "dump":
        return Plan(backup, archive, archive)
    target = {"recovery_target_name": name_of_mark(backup.name)}
    return Plan(backup, archive, archive, int(backup.marked_wal[:8], 16), target=target)


@asynccontextmanager
async def recovered(plan: Plan, aside: Path, owner: Account | None) -> AsyncIterator[str]:
    """Run what was planned in the folder `aside`, which is made anew, and give its URL.

    The cluster is `aside/postgres`, owned by `owner` (for root, else None). Raises BackupError.
    """
    damaged = await asyncio.to_thread(plan.backup.damage)
    if damaged:
        raise BackupError(f"The backup {plan.backup.path} is damaged: {', '.join(damaged)}.")
    with tempfile.TemporaryDirectory(prefix="taskapp-") as socket_folder:
        try:
            postgres = await _start(plan, aside, Path(socket_folder), owner)
        except (EmbeddedPostgresError, OSError, tarfile.TarError) as error:
            raise BackupError(f"The backup {plan.backup.path} can't be started: {error}") from error
        try:
            if plan.backup.kind == "dump":
                await restore_dump(plan.backup, postgres.url)
            yield postgres.url
        finally:
            await postgres.stop()


async def _start(
    plan: Plan, aside: Path, socket_folder: Path, owner: Account | None
) -> EmbeddedPostgres:
    if plan.backup.kind == "dump":
        _make_anew(aside)
        postgres = EmbeddedPostgres(aside, socket_folder=socket_folder)
        await postgres.start()
        return postgres
    try:
        return await _start_recovery(plan, aside, socket_folder, owner)
    except EmbeddedPostgresError as error:
        # Nothing was changed after the moment: all there is, which was planned, is the answer.
        if _TARGET_NOT_REACHED not in str(error) or "recovery_target_time" not in plan.target:
            raise
    return await _start_recovery(replace(plan, target={}), aside, socket_folder, owner)


async def _start_recovery(
    plan: Plan, aside: Path, socket_folder: Path, owner: Account | None
) -> EmbeddedPostgres:
    _make_anew(aside)
    cluster = aside / "postgres"
    await asyncio.to_thread(_extract, plan.backup, cluster)
    account = owner or postgres_account(cluster)
    if account:
        give(account, cluster)
        open_parents(account, [cluster])
        if plan.archive.is_dir():
            open_parents(account, [plan.archive])
            if plan.archive.stat().st_uid != account.uid:
                give(account, plan.archive)
    settings = {
        "restore_command": restore_command(plan.archive, plan.left),
        "recovery_target_timeline": str(plan.timeline),
        "recovery_target_action": "promote",
        "hot_standby": "off",
        "archive_mode": "off",
        **plan.target,
    }
    postgres = EmbeddedPostgres(
        aside, socket_folder=socket_folder, more_settings=lambda _cluster: settings
    )
    await postgres.start()
    try:
        _check_end(plan, cluster)
    except BackupError:
        await postgres.stop()
        raise
    return postgres


def _make_anew(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)


def _extract(backup: Backup, cluster: Path) -> None:
    for name, folder in (("base.tar.gz", cluster), ("pg_wal.tar.gz", cluster / "pg_wal")):
        folder.mkdir(mode=0o700, exist_ok=True)
        with tarfile.open(backup.path / name) as archive:
            archive.extractall(folder, filter="tar")  # nosec B202  # nothing leads out of it
    cluster.chmod(0o700)
    (cluster / "recovery.signal").touch(mode=0o600)


def _check_end(plan: Plan, cluster: Path) -> None:
    """Make sure that the recovery did not take a damaged file for the end of the log."""
    if plan.target or not plan.last_archived:
        return
    history = (cluster / "pg_wal" / new_history(cluster)).read_text(encoding="ascii")
    end = parse_position(history.strip().splitlines()[-1].split()[1])
    if end < segment_number(plan.last_archived) * SEGMENT_BYTES:
        raise BackupError(
            f"The archive {plan.archive} is damaged: its WAL ends in file {end // SEGMENT_BYTES} "
            f"of the log, before {plan.last_archived}."
        )


def new_history(cluster: Path) -> str:
    """Name the history file of the timeline that a recovery began; empty after a dump."""
    return max((path.name for path in (cluster / "pg_wal").glob("*.history")), default="")


def in_words(moment: datetime) -> str:
    """Write a moment so that nobody takes it for another time zone's."""
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
