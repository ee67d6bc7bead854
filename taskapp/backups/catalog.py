"""Which backups in a folder are of this database, readable, and not dated in the future.

All that counts or chooses backups reads this: schedule, list, verify, restore, rotation, metrics,
health and doctor. A folder may be shared with other databases and may hold copies, links and other
files: what is not ours is left alone, and an unreadable entry hides no readable one.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from taskapp.backups.repository import (
    DESCRIPTION,
    Backup,
    BackupError,
    has_backup_name,
    read_backup,
)
from taskapp.config.installation import COMMAND

CLOCK_TOLERANCE = timedelta(minutes=5)  # by which the clocks of two machines may differ


@dataclass(frozen=True)
class DamagedEntry:
    """Something that has the name or the description of a backup, and cannot be read as one."""

    path: Path
    reason: str
    is_unreachable: bool  # the disk or its rights keep it from being read; it may well be whole


@dataclass(frozen=True)
class Catalog:
    """The backups of a folder, newest first, as they are for one database at one time."""

    path: Path
    database: str | None  # None: there is no database yet
    own: tuple[Backup, ...] = ()
    future: tuple[Backup, ...] = ()  # of this database, made while a clock was ahead
    foreign: tuple[Backup, ...] = ()
    damaged: tuple[DamagedEntry, ...] = ()

    @property
    def all(self) -> tuple[Backup, ...]:
        """Return every backup that can be read, of any database."""
        return tuple(_newest_first([*self.own, *self.future, *self.foreign]))

    @property
    def routine(self) -> tuple[Backup, ...]:
        """Return this database's backups, without those that precede a change."""
        return tuple(backup for backup in self.own if backup.is_routine)

    @property
    def newest(self) -> datetime | None:
        """Return the time of the newest routine backup of this database."""
        return self.routine[0].timestamp if self.routine else None

    def is_due(self, seconds: float, now: datetime | None = None) -> bool:
        """Return whether no routine backup was made within so many seconds."""
        now = now or datetime.now(UTC)
        return self.newest is None or now - self.newest >= timedelta(seconds=seconds)

    def require(self, name: str) -> Backup:
        """Return the backup of that name, of any database; raise BackupError."""
        for backup in self.all:
            if backup.name == name:
                return backup
        for entry in self.damaged:
            if entry.path.name == name:
                raise BackupError(f"The backup {entry.path} is damaged: {entry.reason}.")
        raise BackupError(
            f"There is no backup {name} in {self.path}; `{COMMAND} backup list` lists them."
        )

    def only(self, kind: str) -> "Catalog":
        """Return the same folder without backups of another kind."""

        def keep(backups: tuple[Backup, ...]) -> tuple[Backup, ...]:
            return tuple(backup for backup in backups if backup.kind == kind)

        own, future, foreign = map(keep, (self.own, self.future, self.foreign))
        return replace(self, own=own, future=future, foreign=foreign)

    def of(self, database: str) -> "Catalog":
        """Return the same folder as it is for another database; raise BackupError if unknown."""
        matches = (b.database for b in self.all if database in (b.database, b.identity))
        asked = _divide(
            self.path, next(matches, database), self.all, self.damaged, datetime.now(UTC)
        )
        if not asked.own and not asked.future:
            raise BackupError(f"There is no backup of the database {database} in {self.path}.")
        return asked

    def for_restore(self, *, is_empty: bool) -> "Catalog":
        """Return the catalog of the database that a restore chooses by itself.

        It is this database. Without one, such as on a new machine, it is the only database that
        the folder has backups of. Raises BackupError.
        """
        if self.own or self.future:
            return self
        databases = sorted({backup.database for backup in self.foreign})
        if is_empty and len(databases) == 1:
            return self.of(databases[0])
        if not databases:
            raise BackupError(f"There is no backup in {self.path}.{self._say_damaged()}")
        listed = ", ".join(databases)
        which = (
            f"The backups in {self.path} are of several databases ({listed})"
            if self.database is None or is_empty
            else f"No backup in {self.path} is of this database ({self.database}); there are "
            f"some of {listed}"
        )
        raise BackupError(
            f"{which}. Name the database that you want with --database, or a backup with "
            f"--backup; `{COMMAND} backup list` lists them."
        )

    def problems(self) -> list[str]:
        """Return a sentence for each entry that does not count as it should."""
        sentences = [
            f"The backup {entry.path} is damaged: {entry.reason}. Move it away."
            for entry in self.damaged
        ]
        sentences += [
            f"The backup {backup.path} is of {backup.timestamp:%Y-%m-%d %H:%M} UTC, which is still "
            f"to come. Set the clock, or move it away."
            for backup in self.future
        ]
        if self.routine and (reason := self.routine[0].dump_failure):
            sentences.append(
                f"The newest backup {self.routine[0].path} is good, but lacks the dump that other "
                f"versions of PostgreSQL take: {reason}"
            )
        return sentences

    def _say_damaged(self) -> str:
        return "".join(f" {entry.path} is damaged: {entry.reason}." for entry in self.damaged)


def read_catalog(path: Path, database: str | None, now: datetime | None = None) -> Catalog:
    """Read all that is in a folder, which need not be there.

    Raises:
        OSError: the folder itself cannot be read.
    """
    backups, damaged = [], []
    for entry in _entries(path):
        try:
            backups.append(read_backup(entry))
        except OSError as error:
            reason = error.strerror or str(error)
            damaged.append(DamagedEntry(entry, reason, is_unreachable=True))
        except BackupError as error:
            damaged.append(DamagedEntry(entry, str(error), is_unreachable=False))
    return _divide(path, database, backups, tuple(damaged), now or datetime.now(UTC))


def _entries(path: Path) -> Iterator[Path]:
    """Yield what is named or described like a backup."""
    if not path.exists():
        return
    for entry in sorted(path.iterdir(), reverse=True):
        if entry.name.endswith(".partial"):
            continue
        try:
            is_described = (entry / DESCRIPTION).exists()
        except OSError:  # such as lost+found, which is closed to others
            is_described = False
        if is_described or has_backup_name(entry.name):
            yield entry


def _divide(
    path: Path,
    database: str | None,
    backups: Iterable[Backup],
    damaged: tuple[DamagedEntry, ...],
    now: datetime,
) -> Catalog:
    own, future, foreign = [], [], []
    for backup in _newest_first(backups):
        if backup.database != database:
            foreign.append(backup)
        elif backup.timestamp - now > CLOCK_TOLERANCE:
            future.append(backup)
        else:
            own.append(backup)
    return Catalog(path, database, tuple(own), tuple(future), tuple(foreign), damaged)


def _newest_first(backups: Iterable[Backup]) -> list[Backup]:
    return sorted(backups, key=lambda backup: (backup.timestamp, backup.name), reverse=True)
