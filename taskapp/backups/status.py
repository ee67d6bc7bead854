"""The state of the backups, for health, metrics, the log and doctor."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from taskapp.backups.after_backup import find_command_failure
from taskapp.backups.catalog import Catalog, read_catalog
from taskapp.backups.identity import find_database, read_identity, read_system, read_timeline
from taskapp.backups.repository import Backup, BackupError, backup_repository
from taskapp.backups.wal_archive import (
    ARCHIVE_INTERVAL,
    WANTED,
    WalSource,
    archive_lag,
    find_conflict,
    tell_unwritten,
)
from taskapp.backups.wal_segments import Timeline, timeline_of
from taskapp.config.settings import Settings

# Seconds after which a WAL segment that waits means a broken archive.
ARCHIVE_TIMEOUT = 5 * ARCHIVE_INTERVAL
LATE_AFTER = 2  # intervals without a backup
INSPECTION_INTERVAL = 15.0  # seconds between inspections of the folder
REPORT_INTERVAL = 3600.0  # seconds between two lines of the log about the same problem
INSPECTION_TIMEOUT = 60.0  # seconds after which an unfinished inspection means a disk that hangs
MIN_FREE_SPACE = 64 * 1024 * 1024  # bytes; a dump or an hour of archived segments fits


@dataclass(frozen=True)
class BackupReport:
    """The result of one inspection of the folder."""

    newest: datetime | None = None  # of this database's routine backups
    failures: tuple[str, ...] = ()  # why nothing can be backed up, or restored to the last minute
    command_failure: str = ""  # of the operator's command after the newest backup
    warnings: tuple[str, ...] = ()  # entries that do not count, and should
    is_due: bool = False
    waiting_wal: tuple[int, float] = (0, 0.0)  # segments to be archived, seconds of the oldest

    @property
    def problems(self) -> tuple[str, ...]:
        """Return all sentences, the worst first."""
        return tuple(filter(None, (*self.failures, self.command_failure, *self.warnings)))


def inspect_backups(settings: Settings, database: str | None = None) -> BackupReport:
    """Inspect the folder of backups, the archive and what waits for it.

    It may take as long as a disk does. Without `database`, the database is asked which it is.

    Raises:
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
    """
    repository, cluster = backup_repository(settings), settings.data_dir / "postgres"
    failures = [repository.find_obstacle(MIN_FREE_SPACE)]
    try:
        database = database or find_database(settings)
        catalog = read_catalog(repository.path, database)
        is_gap = False
        if settings.archives_wal and (cluster / WANTED).exists():
            archive = repository.archive(read_identity(cluster))
            problems, is_gap = _inspect_archive(archive, cluster, catalog)
            failures += problems
    except OSError as error:
        where = error.filename or repository.path
        failures.append(f"{where} cannot be read: {error.strerror or error}")
        return BackupReport(failures=(next(filter(None, failures)),))
    lag = _archive_lag(settings, cluster)
    if lag[1] > ARCHIVE_TIMEOUT:
        failures.append(f"WAL waits to be archived for more than {ARCHIVE_TIMEOUT // 60} minutes")
    every = settings.backup_every
    return BackupReport(
        newest=catalog.newest,
        failures=tuple(filter(None, failures)),
        command_failure=find_command_failure(settings),
        warnings=tuple(catalog.problems()),
        is_due=bool(every) and (is_gap or catalog.is_due(every)),
        waiting_wal=lag,
    )


def _archive_lag(settings: Settings, cluster: Path) -> tuple[int, float]:
    if settings.archives_wal:
        with suppress(OSError):  # they belong to another user, or come and go
            return archive_lag(cluster)
    return 0, 0.0


def _inspect_archive(archive: Path, cluster: Path, catalog: Catalog) -> tuple[list[str], bool]:
    """Return what is wrong with the archive, and whether a new backup mends it.

    While a segment is just being archived, nothing is found.
    """
    problems, gap = [find_conflict(archive, cluster)], ""
    try:
        wal = WalSource(archive, cluster / "pg_wal", read_system(cluster))
        timeline = wal.timeline(read_timeline(cluster))
        if unwritten := wal.find_unwritten(timeline):
            # Not even a new backup leads there; one each minute would push out all earlier ones.
            problems.append(tell_unwritten(archive, unwritten))
        else:
            gap = _find_gap(archive, wal, timeline, catalog)
    except BackupError as error:
        problems.append(str(error))
    except FileNotFoundError:
        return problems, False
    return [*problems, gap], bool(gap)


def _find_gap(archive: Path, wal: WalSource, timeline: Timeline, catalog: Catalog) -> str:
    """Return a sentence if the newest backup does not lead to what the database is now."""
    bases = [backup for backup in catalog.routine if backup.kind == "base"]
    if not bases:
        return ""
    base = _newest_on(bases, timeline)
    if base is None:
        return f"No backup in {catalog.path} leads to timeline {timeline.number}, the present"
    chain = wal.chain(base.first_wal, timeline)
    if not chain:
        return f"The archive {archive} lacks {base.first_wal}"
    if after := wal.after_gap(chain, timeline):
        return f"The archive {archive} has a gap between {chain[-1]} and {after}"
    return ""


def _newest_on(bases: Sequence[Backup], timeline: Timeline) -> Backup | None:
    on_it = (
        base
        for base in bases
        if timeline.goes_through(timeline_of(base.restore_point_segment), base.restore_point_lsn)
    )
    return next(on_it, None)


class BackupStatus:
    """The result of the last inspection, which a job repeats: no request waits for the disk."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._report = BackupReport()
        self._database: str | None = None
        self._began: float | None = None  # when the running inspection began
        self.has_failed = False  # the last attempt of this process to make a backup
        self._archiver_fails = False
        self._reported: dict[str, float] = {}  # when, by problem

    def inspect(self) -> BackupReport:
        """Inspect the folder now, as `inspect_backups` does, and keep the report."""
        if self._began is None:
            self._began = monotonic()
        try:
            # An own PostgreSQL is asked once: it does not become another while it is in use.
            if not self._settings.uses_embedded_database and self._database is None:
                self._database = find_database(self._settings)
            self._report = inspect_backups(self._settings, self._database)
        finally:
            self._began = None
        return self._report

    def note_archiver(self, *, is_failing: bool) -> None:
        """Record whether PostgreSQL's last attempt to archive a segment failed."""
        self._archiver_fails = is_failing

    @property
    def newest(self) -> datetime | None:
        """Return the time of the newest backup; None when there is none."""
        return self._report.newest

    @property
    def age(self) -> int | None:
        """Return the age of the newest backup in seconds."""
        newest = self.newest
        return None if newest is None else max(0, int((datetime.now(UTC) - newest).total_seconds()))

    @property
    def waiting_wal(self) -> tuple[int, float]:
        """Return how many segments wait to be archived, and for how many seconds the first has."""
        return self._report.waiting_wal

    @property
    def is_due(self) -> bool:
        """Return whether the next backup was due at the last inspection."""
        return self._report.is_due

    @property
    def failures(self) -> tuple[str, ...]:
        """Return why nothing can be backed up, or restored to the last minute."""
        failures = self._report.failures
        if self._began is not None and monotonic() - self._began > INSPECTION_TIMEOUT:
            path = backup_repository(self._settings).path
            failures += (f"The disk of the backups, {path}, does not answer",)
        if self._archiver_fails:
            failures += ("PostgreSQL cannot archive its WAL; the log says why",)
        return failures

    @property
    def problems(self) -> tuple[str, ...]:
        """Return a sentence for all that is wrong, the worst first."""
        report = self._report
        return tuple(filter(None, (*self.failures, report.command_failure, *report.warnings)))

    def unreported(self) -> list[str]:
        """Return the problems that are new, or that were returned an hour ago; note that."""
        now = monotonic()
        self._reported = {
            problem: at
            for problem, at in self._reported.items()
            if problem in self.problems and now - at < REPORT_INTERVAL
        }
        new = [problem for problem in self.problems if problem not in self._reported]
        self._reported |= dict.fromkeys(new, now)
        return new

    def has_recovered(self) -> bool:
        """Return whether all problems that were returned are over now; note that."""
        if not self._reported or self.problems:
            return False
        self._reported.clear()
        return True

    def state(self) -> str:
        """Return the state of the backups: off, failing, none, late, or current."""
        age, every = self.age, self._settings.backup_every
        if not every:
            return "off"
        if self.has_failed or self.failures or self._report.command_failure:
            return "failing"
        if age is None:
            return "none"
        return "late" if self.is_late else "current"

    @property
    def is_late(self) -> bool:
        """Return whether the newest backup is older than it should be."""
        return self.age is not None and self.age > LATE_AFTER * self._settings.backup_every
