"""The folder of backups: what lies where, what is whole, and what is kept.

backups/
    20261126T030000.000000Z-base/     a backup of the embedded cluster; has its name when whole
    20261126T030000.000000Z-dump/     a dump of one moment; `-before-0003` precedes a migration
    20261127T030000.000000Z-base.partial/    being made, or left over by what was killed
    wal-7712475508080139766/          the archive of one cluster, by its system identifier
"""

import asyncio
import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from taskapp.backups.checksums import Tables
from taskapp.config.installation import COMMAND
from taskapp.postgres.cluster import synchronize

LOCK_TIMEOUT = 60.0  # seconds for which one backup waits for another
DESCRIPTION = "backup.json"
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_PARTIAL = ".partial"
_BLOCK = 1024 * 1024  # bytes
# Names in the descriptions of backups made before the first release.
_OLD_NAMES = {
    "moment": "timestamp",
    "marked_wal": "restore_point_segment",
    "mark": "restore_point_lsn",
}


class BackupError(Exception):
    """A backup could not be made, found, verified or restored; the message says why."""


@dataclass(frozen=True)
class Backup:
    """A whole backup: its folder, and what `backup.json` in it says."""

    path: Path
    kind: str  # base or dump
    timestamp: datetime  # whose state it holds
    database: str  # system identifier/name
    revision: str  # of the schema
    tables: Tables
    files: Mapping[str, str]  # SHA-256 by name
    first_wal: str = ""  # of a base: the file of WAL with which its recovery begins
    restore_point_segment: str = ""  # of a base: the file of WAL with the mark of its moment
    restore_point_lsn: int = 0  # of a base: the byte of the log at which the mark ends

    @property
    def name(self) -> str:
        """Give the name of its folder."""
        return self.path.name

    @property
    def is_routine(self) -> bool:
        """Tell whether it was made by time or by hand, and not because something was changed."""
        return label_of(self.name) == self.kind

    @property
    def system(self) -> str:
        """Give the system identifier of the cluster that it is a backup of."""
        return self.database.partition("/")[0]

    @property
    def bytes(self) -> int:
        """Give the room that it takes, without its archive."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    def damage(self) -> list[str]:
        """Name the files that are not as they were written."""
        return [name for name, digest in self.files.items() if _digest(self.path / name) != digest]


class BackupRepository:
    """The backups in a folder, which belong to whom the data folder belongs to."""

    def __init__(self, path: Path, data_dir: Path) -> None:
        """Take the folder, which need not be there, and the data folder."""
        self.path = path
        self._data_dir = data_dir

    @asynccontextmanager
    async def lock(self) -> AsyncIterator[None]:
        """Keep other processes from making, removing or using backups meanwhile.

        Raises:
            BackupError: another one does so for a minute; or there is no such folder.
        """
        if not self.path.is_dir():
            raise BackupError(f"There is no backup in {self.path}.")
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            await self._take(descriptor)
            for left in self.path.glob(f"*{_PARTIAL}"):
                shutil.rmtree(left)
            yield
        finally:
            os.close(descriptor)

    async def _take(self, descriptor: int) -> None:
        deadline = asyncio.get_running_loop().time() + LOCK_TIMEOUT
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if asyncio.get_running_loop().time() >= deadline:
                    raise BackupError(
                        f"Another process is at work on the backups in {self.path}. Try again "
                        f"when it has ended."
                    ) from None
                await asyncio.sleep(0.1)
            else:
                return

    def list_backups(self) -> list[Backup]:
        """List the whole backups, the newest first."""
        return [_read(path) for path in self._paths()]

    def newest_timestamp(self, *labels: str) -> datetime | None:
        """Give when the newest backup with one of these labels was begun."""
        paths = (path for path in self._paths() if label_of(path.name) in labels)
        return next(map(_begun, paths), None)

    def require(self, name: str) -> Backup:
        """Give the backup of that name, or raise BackupError."""
        for backup in self.list_backups():
            if backup.name == name:
                return backup
        raise BackupError(
            f"There is no backup {name} in {self.path}; `{COMMAND} backup list` lists them."
        )

    @contextmanager
    def staging(self, label: str) -> Iterator[Path]:
        """Give a folder to make a backup in; it is renamed when the block ends, else removed."""
        path = self.path / f"{datetime.now(UTC):{_STAMP}}-{label}"
        partial = path.with_name(path.name + _PARTIAL)
        partial.mkdir(mode=0o700)
        try:
            yield partial
            for file in partial.iterdir():
                synchronize(file)
            synchronize(partial)
            self.give_to_owner(partial, *partial.iterdir())
            partial.rename(path)
            synchronize(self.path)
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(partial)
            raise

    def remove_old(self, newest: Backup, keep: int) -> list[Backup]:
        """Remove what is older than the newest few of the same database and sort; give the rest.

        Backups of other databases stay: who began anew by mistake still has them.
        """
        alike = [
            backup
            for backup in self.list_backups()
            if backup.database == newest.database and backup.is_routine == newest.is_routine
        ]
        for backup in alike[keep:]:
            gone = backup.path.with_name(backup.name + _PARTIAL)  # half of it is no backup
            backup.path.rename(gone)
            shutil.rmtree(gone)
        return alike[:keep]

    def give_to_owner(self, *paths: Path) -> None:
        """Leave nothing of root's in a folder whose owner has to read and write there later."""
        if os.geteuid() == 0 and self._data_dir.exists():
            owner = self._data_dir.stat()
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)

    def archive(self, system: str) -> Path:
        """Name the folder of the archive of a cluster."""
        return self.path / f"wal-{system}"

    def make(self) -> None:
        """Make the folder if it is not there."""
        if not self.path.is_dir():
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, parents=True)
            self.give_to_owner(self.path)

    def _paths(self) -> list[Path]:
        if not self.path.exists():
            return []
        names = sorted((path.name for path in self.path.iterdir()), reverse=True)
        return [
            self.path / name
            for name in names
            if not name.endswith(_PARTIAL) and (self.path / name / DESCRIPTION).exists()
        ]


def describe(staging: Path, **facts: object) -> None:
    """Write into a draft what it holds, with the digests of its files."""
    files = {path.name: _digest(path) for path in sorted(staging.iterdir())}
    description = Backup(staging, files=files, **facts)  # type: ignore[arg-type]  # named alike
    members = {name: value for name, value in asdict(description).items() if name != "path"}
    text = json.dumps(members | {"timestamp": description.timestamp.isoformat()}, indent=1)
    path = staging / DESCRIPTION
    path.touch(mode=0o600)
    path.write_text(text + "\n", encoding="utf-8")


def label_of(name: str) -> str:
    """Give the label of a backup's name: base, dump, or what it precedes."""
    return name.partition("-")[2]


def _read(path: Path) -> Backup:
    try:
        members = json.loads((path / DESCRIPTION).read_text(encoding="utf-8"))
        members = {_OLD_NAMES.get(name, name): value for name, value in members.items()}
        timestamp = datetime.fromisoformat(members.pop("timestamp"))
        tables = {name: (rows, digest) for name, (rows, digest) in members.pop("tables").items()}
        return Backup(path, timestamp=timestamp, tables=tables, **members)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BackupError(
            f"The description {path / DESCRIPTION} is damaged ({error}). Move that folder away."
        ) from error


def _begun(path: Path) -> datetime:
    return datetime.strptime(path.name.partition("-")[0], _STAMP).replace(tzinfo=UTC)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    except FileNotFoundError:
        return "missing"
    return digest.hexdigest()
