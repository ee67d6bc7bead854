"""Recovering a backup aside: a cluster of its own, at the moment that is wanted.

Nothing that is in use is touched. What a base backup needs is planned first, so that a moment
that cannot be reached is refused before any work.
"""

import asyncio
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from taskapp.backups.base_backup import restore_point_name
from taskapp.backups.dump import restore_dump
from taskapp.backups.repository import Backup, BackupError, BackupRepository
from taskapp.backups.wal_archive import (
    SEGMENT_BYTES,
    Timeline,
    WalSource,
    parse_lsn,
    restore_command,
    segment_number,
)
from taskapp.config.installation import COMMAND
from taskapp.postgres.permissions import UnixUser, chown_tree, grant_traverse, postgres_account
from taskapp.postgres.server import EmbeddedPostgres, EmbeddedPostgresError

_TARGET_NOT_REACHED = "recovery ended before configured recovery target was reached"


@dataclass(frozen=True)
class RestorePlan:
    """From which backup, along which WAL, and up to where."""

    backup: Backup
    archive: Path
    unarchived: Path  # the pg_wal of the cluster that is replaced, with what is not archived yet
    timeline: int = 1
    last_archived: str = ""  # the file of WAL that a recovery of all there is has to reach
    target: Mapping[str, str] = field(default_factory=dict)  # none: all there is


def plan_point_in_time(
    folder: BackupRepository, unarchived: Path, timestamp: datetime | None
) -> RestorePlan:
    """Plan to restore a moment, or all there is; raise BackupError where that is impossible."""
    backups = [backup for backup in folder.list_backups() if backup.is_routine]
    bases = [backup for backup in backups if backup.kind == "base"]
    if not backups:
        raise BackupError(f"There is no backup in {folder.path}.")
    if timestamp and not bases:
        raise BackupError(
            f"The backups in {folder.path} are dumps, which hold one moment each. Restore one of "
            f"them with --backup; `{COMMAND} backup list` lists them."
        )
    if timestamp and timestamp > datetime.now(UTC):
        raise BackupError(f"{format_utc(timestamp)} is still to come.")
    earlier = (
        [backup for backup in bases if backup.timestamp <= timestamp] if timestamp else backups
    )
    if not earlier:
        raise BackupError(
            f"There is no backup from before {format_utc(timestamp or bases[-1].timestamp)}: "
            f"the oldest is of {format_utc(bases[-1].timestamp)}."
        )
    newest = max(earlier, key=lambda backup: backup.timestamp)
    if newest.kind == "dump":
        return plan_backup(folder, newest)
    archive = folder.archive(newest.system)
    wal = WalSource(archive, unarchived, newest.system)
    timeline = wal.timeline_at(timestamp)
    for backup in earlier:
        on = int(backup.restore_point_segment[:8] or "0", 16)
        if backup.database == newest.database and timeline.goes_through(
            on, backup.restore_point_lsn
        ):
            return _plan_base(RestorePlan(backup, archive, unarchived), wal, timeline, timestamp)
    raise BackupError(f"No backup in {folder.path} leads to timeline {timeline.number}.")


def _plan_base(
    plan: RestorePlan, wal: WalSource, timeline: Timeline, timestamp: datetime | None
) -> RestorePlan:
    chain = wal.chain(plan.backup.first_wal, timeline)
    if not chain or segment_number(chain[-1]) < segment_number(plan.backup.restore_point_segment):
        raise BackupError(
            f"The archive {plan.archive} lacks WAL of the backup {plan.backup.name} itself. "
            f"Restore an earlier moment, or bring the archive back."
        )
    end = max(map(wal.timestamp, chain))
    if timestamp and timestamp > end:
        raise BackupError(
            f"{format_utc(timestamp)} lies after the last change that is kept, of "
            f"{format_utc(end)}. Without --to, everything up to that is restored."
        )
    if not timestamp and (after := wal.after_gap(chain, timeline)):
        raise BackupError(
            f"The archive {plan.archive} has a gap between {chain[-1]} and {after}. What comes "
            f'before it can be restored with --to "{end:%Y-%m-%d %H:%M:%S}".'
        )
    return replace(
        plan,
        timeline=timeline.number,
        last_archived=next(filter(wal.is_archived, reversed(chain)), ""),
        target={"recovery_target_time": timestamp.isoformat(sep=" ")} if timestamp else {},
    )


def plan_backup(folder: BackupRepository, backup: Backup) -> RestorePlan:
    """Plan to restore a backup as it is described: a dump, or a base up to its mark."""
    archive = folder.archive(backup.system)
    if backup.kind == "dump":
        return RestorePlan(backup, archive, archive)
    target = {"recovery_target_name": restore_point_name(backup.name)}
    return RestorePlan(
        backup, archive, archive, int(backup.restore_point_segment[:8], 16), target=target
    )


@asynccontextmanager
async def recovered(plan: RestorePlan, aside: Path, owner: UnixUser | None) -> AsyncIterator[str]:
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
    plan: RestorePlan, aside: Path, socket_folder: Path, owner: UnixUser | None
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
    plan: RestorePlan, aside: Path, socket_folder: Path, owner: UnixUser | None
) -> EmbeddedPostgres:
    _make_anew(aside)
    cluster = aside / "postgres"
    await asyncio.to_thread(extract_base, plan.backup.path, cluster)
    account = owner or postgres_account(cluster)
    if account:
        chown_tree(account, cluster)
        grant_traverse(account, [cluster])
        if plan.archive.is_dir():
            grant_traverse(account, [plan.archive])
            if plan.archive.stat().st_uid != account.uid:
                chown_tree(account, plan.archive)
    settings = {
        "restore_command": restore_command(plan.archive, plan.unarchived),
        "recovery_target_timeline": str(plan.timeline),
        "recovery_target_action": "promote",
        "hot_standby": "off",
        "archive_mode": "off",
        **plan.target,
    }
    postgres = EmbeddedPostgres(
        aside, socket_folder=socket_folder, extra_settings=lambda _cluster: settings
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


def extract_base(backup: Path, cluster: Path) -> None:
    """Extract the archives of a base backup into a cluster that recovery can start in.

    Raises OSError and tarfile.TarError.
    """
    for name, folder in (("base.tar.gz", cluster), ("pg_wal.tar.gz", cluster / "pg_wal")):
        folder.mkdir(mode=0o700, exist_ok=True)
        with tarfile.open(backup / name) as archive:
            # The parameter `filter` is missing before Python 3.11.4 (Debian 12 has 3.11.2), and
            # its default is another from 3.14 on. This attribute does without: the versions that
            # have no filter ignore it, and `_checked` is the same in all of them.
            archive.extraction_filter = _unfiltered
            archive.extractall(folder, members=_checked(archive))  # noqa: S202  # nosec B202  # see _checked
    cluster.chmod(0o700)
    (cluster / "recovery.signal").touch(mode=0o600)


def _checked(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members of an archive; raise tarfile.ReadError at what could lead out of it.

    `pg_basebackup` writes files and folders only, for the embedded cluster has no tablespaces.
    """
    for member in archive:
        path = PurePosixPath(member.name)
        if path.is_absolute() or ".." in path.parts or not (member.isreg() or member.isdir()):
            raise tarfile.ReadError(f"{member.name!r} is no file or folder of a cluster")
        member.mode &= 0o700
        yield member


def _unfiltered(member: tarfile.TarInfo, _path: str) -> tarfile.TarInfo:
    return member


def _check_end(plan: RestorePlan, cluster: Path) -> None:
    """Make sure that the recovery did not take a damaged file for the end of the log."""
    if plan.target or not plan.last_archived:
        return
    history = (cluster / "pg_wal" / new_history(cluster)).read_text(encoding="ascii")
    end = parse_lsn(history.strip().splitlines()[-1].split()[1])
    if end < segment_number(plan.last_archived) * SEGMENT_BYTES:
        raise BackupError(
            f"The archive {plan.archive} is damaged: its WAL ends in file {end // SEGMENT_BYTES} "
            f"of the log, before {plan.last_archived}."
        )


def new_history(cluster: Path) -> str:
    """Name the history file of the timeline that a recovery began; empty after a dump."""
    return max((path.name for path in (cluster / "pg_wal").glob("*.history")), default="")


def format_utc(timestamp: datetime) -> str:
    """Write a moment so that nobody takes it for another time zone's."""
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
