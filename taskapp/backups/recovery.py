"""Recovers a backup in a cluster of its own, to a target state.

The database in use is not touched. A plan comes first, so that a state that cannot be reached is
refused before any work.
"""

import asyncio
import shutil
import tarfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath

from sqlalchemy import text

from taskapp.backups.catalog import Catalog
from taskapp.backups.checksums import PUBLIC, PURPOSE
from taskapp.backups.dump import restore_dump
from taskapp.backups.repository import Backup, BackupError, BackupRepository, Kind
from taskapp.backups.wal_archive import WalSource, restore_command
from taskapp.backups.wal_segments import (
    SEGMENT_BYTES,
    Timeline,
    format_lsn,
    parse_lsn,
    segment_number,
    timeline_of,
)
from taskapp.config.installation import COMMAND
from taskapp.core.progress import begin_step
from taskapp.db.migrations import connected
from taskapp.postgres.permissions import UnixUser, chown_tree, grant_traverse, postgres_account
from taskapp.postgres.programs import EmbeddedPostgresError, can_run
from taskapp.postgres.server import EmbeddedPostgres

_NewPostgres = Callable[..., EmbeddedPostgres]
_TARGET_NOT_REACHED = "recovery ended before configured recovery target was reached"


@dataclass(frozen=True)
class RestorePlan:
    """The backup, or the dump in it, the WAL and the target of a recovery."""

    backup: Backup
    kind: Kind  # a base that cannot be started here is restored by its dump, of the same state
    archive: Path
    unarchived: Path  # the pg_wal of the cluster that is replaced, with what is not archived yet
    timeline: int = 1
    last_archived: str = ""  # the WAL segment that a recovery without a target has to reach
    target: Mapping[str, str] = field(default_factory=dict)  # empty: the end of the WAL


def plan_point_in_time(
    repository: BackupRepository, catalog: Catalog, unarchived: Path, timestamp: datetime | None
) -> RestorePlan:
    """Return the plan that restores a database to a time, or to the end of the WAL.

    `unarchived` is the `pg_wal` of the same database. Raises BackupError if it is impossible.
    """
    if timestamp and timestamp > datetime.now(UTC):
        raise BackupError(f"{format_utc(timestamp)} is still to come.")
    if timestamp is None and catalog.routine and catalog.routine[0].kind == "dump":
        return _plan_dump(repository, catalog.routine[0])
    bases = _require_bases(repository, catalog, timestamp)
    identity = bases[0].identity
    archive = repository.archive(identity)
    wal = WalSource(archive, unarchived, identity.partition(".")[0])
    timeline = wal.timeline_at(timestamp)
    usable = [
        base
        for base in bases
        if timeline.goes_through(timeline_of(base.restore_point_segment), base.restore_point_lsn)
    ]
    if not usable:
        raise BackupError(f"No backup in {repository.path} leads to timeline {timeline.number}.")
    # By the LSN, which does not depend on a clock. Each base leads to the same state, so one whose
    # files are damaged is passed over.
    usable.sort(key=lambda base: base.restore_point_lsn, reverse=True)
    backup = next((base for base in usable if not base.damage("base")), usable[0])
    return _plan_base(RestorePlan(backup, "base", archive, unarchived), wal, timeline, timestamp)


def _require_bases(
    repository: BackupRepository, catalog: Catalog, timestamp: datetime | None
) -> list[Backup]:
    """Return the base backups from before a time, or all; raise BackupError if there is none."""
    bases = [
        backup
        for backup in (*catalog.own, *catalog.future)
        if backup.is_routine and backup.kind == "base"
    ]
    if not bases:
        raise BackupError(
            f"The backups in {repository.path} that could be restored are dumps, which hold one "
            f"state each. Restore one with --backup; `{COMMAND} backup list` lists them."
        )
    earlier = [base for base in bases if not timestamp or base.timestamp <= timestamp]
    if not earlier:
        oldest = min(base.timestamp for base in bases)
        raise BackupError(
            f"There is no backup from before {format_utc(timestamp or oldest)}: the oldest is of "
            f"{format_utc(oldest)}."
        )
    return earlier


def _plan_base(
    plan: RestorePlan, wal: WalSource, timeline: Timeline, timestamp: datetime | None
) -> RestorePlan:
    chain = wal.chain(plan.backup.first_wal, timeline)
    if not chain or segment_number(chain[-1]) < segment_number(plan.backup.restore_point_segment):
        raise BackupError(
            f"The archive {plan.archive} lacks WAL of the backup {plan.backup.name} itself. "
            f"Restore an earlier time, or bring the archive back."
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


def plan_backup(
    repository: BackupRepository, backup: Backup, bin_folder: Path | None
) -> RestorePlan:
    """Return the plan that restores one backup: a dump, or a base up to its restore point.

    A base of a PostgreSQL that cannot be started here is restored by the dump in it, which has the
    same state. Raises EmbeddedPostgresError if there is no PostgreSQL at all.
    """
    if backup.kind == "dump":
        return _plan_dump(repository, backup)
    archive = repository.archive(backup.identity)
    # By its LSN: its name is unknown if the folder was renamed. The next record begins there.
    target = {
        "recovery_target_lsn": format_lsn(backup.restore_point_lsn),
        "recovery_target_inclusive": "off",
    }
    is_started = can_run(backup.postgresql, bin_folder) or not backup.has_dump
    return RestorePlan(
        backup,
        "base" if is_started else "dump",
        archive,
        archive,
        timeline_of(backup.restore_point_segment),
        target=target,
    )


def _plan_dump(repository: BackupRepository, backup: Backup) -> RestorePlan:
    archive = repository.archive(backup.identity)
    return RestorePlan(backup, "dump", archive, archive)


@asynccontextmanager
async def recovered(
    plan: RestorePlan, aside: Path, owner: UnixUser | None, bin_folder: Path | None
) -> AsyncIterator[EmbeddedPostgres]:
    """Recover by a plan in the folder `aside`, which is emptied first, and yield the server.

    The cluster is `aside/postgres`, owned by `owner` (for root, else None). Raises BackupError.
    """
    damaged = await asyncio.to_thread(plan.backup.damage, plan.kind)
    if damaged:
        raise BackupError(f"The backup {plan.backup.path} is damaged: {', '.join(damaged)}.")
    new = partial(EmbeddedPostgres, aside, bin_folder=bin_folder, socket_folder=aside)
    try:
        async with new().locked():  # ends what a killed process left running there
            pass
        postgres = await _start(plan, aside, new, owner)
    except (EmbeddedPostgresError, OSError, tarfile.TarError) as error:
        raise BackupError(
            f"The backup {plan.backup.path} can't be started: {error}{_other_way(plan, bin_folder)}"
        ) from error
    try:
        if plan.kind == "dump":
            await fill(plan.backup, postgres.url, bin_folder)
        yield postgres
    finally:
        await postgres.stop()


def _other_way(plan: RestorePlan, bin_folder: Path | None) -> str:
    backup = plan.backup
    if plan.kind == "dump" or not backup.has_dump or can_run(backup.postgresql, bin_folder):
        return ""
    return (
        f" Its dump can be restored with --backup {backup.name}: it holds the state of "
        f"{format_utc(backup.timestamp)}, and nothing that was written since."
    )


async def fill(backup: Backup, url: str, bin_folder: Path | None) -> None:
    """Restore the dump of a backup into an empty database; raise BackupError."""
    await restore_dump(backup, url, bin_folder)
    if backup.schema != PUBLIC:
        await asyncio.to_thread(_set_schema, url, backup.schema)


async def _start(
    plan: RestorePlan, aside: Path, new: _NewPostgres, owner: UnixUser | None
) -> EmbeddedPostgres:
    if plan.kind == "dump":
        _make_anew(aside)
        postgres = new()
        await postgres.start()
        return postgres
    try:
        return await _start_recovery(plan, aside, new, owner)
    except EmbeddedPostgresError as error:
        # No transaction after the target time: recovering everything gives the same state.
        if _TARGET_NOT_REACHED not in str(error) or "recovery_target_time" not in plan.target:
            raise
    return await _start_recovery(replace(plan, target={}), aside, new, owner)


async def _start_recovery(
    plan: RestorePlan, aside: Path, new: _NewPostgres, owner: UnixUser | None
) -> EmbeddedPostgres:
    _make_anew(aside)
    cluster = aside / "postgres"
    await asyncio.to_thread(extract_base, plan.backup.path, cluster)
    account = owner or postgres_account(cluster)
    if account:
        chown_tree(account, cluster)
        grant_traverse(account, [cluster])
        _open_archive(plan.archive, account)
    settings = {
        "restore_command": restore_command(plan.archive, plan.unarchived),
        "recovery_target_timeline": str(plan.timeline),
        "recovery_target_action": "promote",
        "hot_standby": "off",
        "archive_mode": "off",
        **plan.target,
    }
    postgres = new(extra_settings=lambda _cluster: settings)
    begin_step("Starting it, and reading the archive")
    await postgres.start()
    try:
        _check_end(plan, cluster)
    except BackupError:
        await postgres.stop()
        raise
    return postgres


def _open_archive(archive: Path, account: UnixUser) -> None:
    """Make an archive readable for the account; one on a read-only disk stays as it is."""
    if archive.is_dir():
        grant_traverse(account, [archive])
        if archive.stat().st_uid != account.uid:
            with suppress(OSError):  # on a read-only disk
                chown_tree(account, archive)


def _set_schema(url: str, schema: str) -> None:
    with connected(url, PURPOSE) as connection:
        quoted = schema.replace('"', '""')
        name = connection.execute(text("SELECT quote_ident(current_database())")).scalar()
        connection.execute(text(f'ALTER DATABASE {name} SET search_path = "{quoted}"'))
        connection.commit()


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
        size = (backup / name).stat().st_size
        with (backup / name).open("rb") as file, tarfile.open(fileobj=file) as archive:
            begin_step("Unpacking the backup", total=size, measure=file.tell)
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
    """Raise BackupError if the recovery took a damaged segment for the end of the WAL."""
    if plan.target or not plan.last_archived:
        return
    history = (cluster / "pg_wal" / new_history(cluster)).read_text(encoding="ascii")
    end = parse_lsn(history.strip().splitlines()[-1].split()[1])
    if end < segment_number(plan.last_archived) * SEGMENT_BYTES:
        raise BackupError(
            f"The archive {plan.archive} is damaged: its WAL ends in segment "
            f"{end // SEGMENT_BYTES}, before {plan.last_archived}."
        )


def new_history(cluster: Path) -> str:
    """Return the history file of the timeline that a recovery began; empty after a dump."""
    return max((path.name for path in (cluster / "pg_wal").glob("*.history")), default="")


def format_utc(timestamp: datetime) -> str:
    """Return a time with its time zone, UTC."""
    return f"{timestamp.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
