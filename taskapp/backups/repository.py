"""The backup folder: its layout, how a backup is written to it, and what is removed from it.

backups/
    20261126T030000.000000Z-base/     a backup of the embedded cluster; has this name when complete;
                                      contains a dump of the same state
    20261126T030000.000000Z-dump/     a dump of one state; `-before-0003` precedes a migration
    20261127T030000.000000Z-base.partial/    in progress, or left by a killed process
    wal-7712475508080139766/          the archive of one cluster, by its identity
"""

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from taskapp.backups.checksums import Contents, Tables
from taskapp.backups.unmounted_disk import find_missing_disk, record_location
from taskapp.config.settings import Settings
from taskapp.core.errors import OperatorError
from taskapp.core.files import (
    NotAFile,
    folder_size,
    is_own_folder,
    open_file,
    read_file,
    synchronize,
)
from taskapp.core.progress import advance_step, begin_step
from taskapp.db.migrations import Revision
from taskapp.observability.logs import log

LOCK_TIMEOUT = 60.0  # seconds for which one backup waits for another
DESCRIPTION = "backup.json"
PARTIAL = ".partial"
_STAMP = "%Y%m%dT%H%M%S.%fZ"
_NAME = re.compile(r"\d{8}T\d{6}\.\d{6}Z-(base|dump|before-[a-z0-9-]+)", re.ASCII)
_BLOCK = 1024 * 1024  # bytes
_MAX_DESCRIPTION = 1024 * 1024  # bytes; one has 2,000
# Names in the file where they differ: a version from before the renaming reads these too, so that
# the dump made before an upgrade leads back to it.
NAMES_IN_FILE = {
    "timestamp": "moment",
    "restore_point_segment": "marked_wal",
    "restore_point_lsn": "mark",
}
DUMP = "database.dump"
Kind = Literal["base", "dump"]
_FILES: dict[Kind, set[str]] = {
    "base": {"base.tar.gz", "pg_wal.tar.gz", "backup_manifest"},
    "dump": {DUMP},
}
_Segment = Annotated[str, msgspec.Meta(pattern="^([0-9A-F]{24})?$")]
_FileName = Annotated[str, msgspec.Meta(pattern="^[^/]+$")]


class BackupError(OperatorError):
    """A backup could not be made, found, verified or restored; the message says why."""


class Backup(msgspec.Struct, frozen=True, kw_only=True, rename=NAMES_IN_FILE):
    """A complete backup: its folder, and the contents of its `backup.json`."""

    path: Path
    kind: Kind
    timestamp: Annotated[datetime, msgspec.Meta(tz=True)]  # whose state it holds
    database: str  # see taskapp/backups/identity.py
    revision: str  # of the schema
    oldest_program: str = ""  # the oldest revision whose program may use it; empty: `revision`
    tables: Tables
    files: dict[_FileName, str]  # SHA-256 by name
    schema: str = "public"  # of its dump: where the tables are
    made_as: str = ""  # the name that its folder had at first; empty before the first release
    first_wal: _Segment = ""  # of a base: the WAL segment with which its recovery begins
    restore_point_segment: _Segment = ""  # of a base: the WAL segment with its restore point
    restore_point_lsn: int = 0  # of a base: the LSN at which the restore point ends
    postgresql: int = 18  # of a base: the major version that starts it; once it was always 18
    dump_failure: str = ""  # of a base: why it holds no dump; empty also before there were any

    @property
    def name(self) -> str:
        """Return the name of its folder."""
        return self.path.name

    @property
    def schema_revision(self) -> Revision:
        """Return the revision of the schema, with the oldest program that may use it."""
        return Revision(self.revision, self.oldest_program or self.revision)

    @property
    def is_routine(self) -> bool:
        """Return whether it was made by schedule or by command, and not before a change."""
        return label_of(self.made_as or self.name) in (self.kind, "")

    @property
    def is_rotated(self) -> bool:
        """Return whether rotation may remove it: it is no copy, link or renamed backup."""
        return self.name == (self.made_as or self.name) and (
            has_backup_name(self.name) and not self.path.is_symlink()
        )

    @property
    def identity(self) -> str:
        """Return the identity of the cluster that it is a backup of."""
        return self.database.partition("/")[0]

    @property
    def bytes(self) -> int:
        """Return its size, without its archive."""
        with suppress(OSError):  # another process is removing it
            return folder_size(self.path)
        return 0

    @property
    def has_dump(self) -> bool:
        """Return whether it holds a dump, which any later PostgreSQL takes."""
        return DUMP in self.files

    def damage(self, part: Kind | None = None) -> list[str]:
        """Return the names of the files, by default all, that are not as they were written."""
        names = _FILES[part] if part else self.files
        begin_step("Reading the backup", total=self.bytes)
        return sorted(
            name for name in names if _digest(self.path / name) != self.files.get(name, "")
        )


class BackupRepository:
    """The backup folder, whose files belong to the owner of the data folder."""

    def __init__(self, path: Path, data_dir: Path) -> None:
        self.path = path
        self._data_dir = data_dir

    @asynccontextmanager
    async def lock(self, patience: float = LOCK_TIMEOUT) -> AsyncIterator[None]:
        """Hold the lock of the folder, which all that makes, removes or uses backups takes.

        Raises:
            BackupError: another process holds it for `patience` seconds; or there is no folder.
        """
        if not self.path.is_dir():
            raise BackupError(f"There is no backup in {self.path}.")
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            await self._take(descriptor, patience)
            self._remove_partial()
            yield
        finally:
            os.close(descriptor)

    async def _take(self, descriptor: int, patience: float) -> None:
        deadline = asyncio.get_running_loop().time() + patience
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

    def is_in_use(self) -> bool:
        """Return whether another process makes, removes or uses backups now."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _remove_partial(self) -> None:
        """Remove what a killed backup left; links, files and other names are not ours."""
        for path in self.path.glob(f"*{PARTIAL}"):
            if has_backup_name(path.name.removesuffix(PARTIAL)) and is_own_folder(path):
                try:
                    shutil.rmtree(path)
                except OSError as error:  # it only takes space
                    log("backup.left", "warning", path=str(path), reason=str(error))

    @contextmanager
    def staging(self, label: str) -> Iterator[Path]:
        """Yield a folder to make a backup in; it is renamed when the block ends, else removed."""
        partial = self.path / f"{datetime.now(UTC):{_STAMP}}-{label}{PARTIAL}"
        partial.mkdir(mode=0o700)
        try:
            yield partial
            for file in partial.iterdir():
                synchronize(file)
            synchronize(partial)
            self.give_to_owner(partial, *partial.iterdir())
            partial.rename(finished(partial))
            synchronize(self.path)
        except BaseException:
            with suppress(OSError):
                shutil.rmtree(partial)
            raise

    def remove(self, backups: Sequence[Backup]) -> None:
        """Remove backups; one that cannot be removed is logged, and left as it is."""
        for backup in backups:
            gone = backup.path.with_name(backup.name + PARTIAL)  # half a backup does not count
            try:
                backup.path.rename(gone)
                shutil.rmtree(gone)
            except OSError as error:
                log("backup.left", "warning", path=str(backup.path), reason=str(error))

    def record_location(self) -> None:
        """Record that there are backups here, so that they are missed when the disk is away."""
        record_location(self.path, self._data_dir)

    def give_to_owner(self, *paths: Path) -> None:
        """Change the owner of what root has created to that of the data folder."""
        if os.geteuid() == 0 and self._data_dir.exists():
            owner = self._data_dir.stat()
            for path in paths:
                os.chown(path, owner.st_uid, owner.st_gid)

    def archive(self, identity: str) -> Path:
        """Return the folder of the archive of a cluster."""
        return self.path / f"wal-{identity}"

    def find_obstacle(self, min_free: int) -> str:
        """Return a sentence if no backup could be written here; empty if one could.

        `min_free` is in bytes.
        """
        try:
            if missing := self._find_missing():
                return missing
            if not self.path.exists():  # it will be made
                return f"{self.path} leads nowhere" if self.path.is_symlink() else ""
            reason = _find_refusal(self.path, min_free)
        except OSError as error:
            reason = error.strerror or str(error)
        return f"{self.path} is not writable: {reason}" if reason else ""

    def _find_missing(self) -> str:
        is_ours = self.path.is_dir() and any(
            has_backup_name(entry.name) or entry.name.startswith("wal-")
            for entry in self.path.iterdir()
        )
        return find_missing_disk(self.path, self._data_dir, is_ours=is_ours)

    def make(self) -> None:
        """Make the folder if it is not there.

        Raises:
            BackupError: it was there, and its disk is away.
            OSError: it cannot be made.
        """
        if missing := self._find_missing():
            raise BackupError(f"{missing}.")
        if not self.path.is_dir():
            self._data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.mkdir(mode=0o700, parents=True)
            self.give_to_owner(self.path)


def _find_refusal(folder: Path, min_free: int) -> str:
    if not folder.is_dir():
        return os.strerror(errno.ENOTDIR)
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        return os.strerror(errno.EACCES)
    if shutil.disk_usage(folder).free < min_free:
        return f"less than {min_free // 1024**2} MiB are free on its disk"
    return ""


def backup_repository(settings: Settings) -> BackupRepository:
    """Return the folder of backups of a set-up."""
    return BackupRepository(settings.backup_dir or settings.data_dir / "backups", settings.data_dir)


def describe(staging: Path, contents: Contents, **facts: Any) -> None:
    """Write into a staging folder what it holds, with the digests of its files."""
    number, oldest_program = contents.revision or ("", "")
    files = {path.name: _digest(path) for path in sorted(staging.iterdir())}
    name = finished(staging).name
    # Only a routine backup is counted, so only its name has to be recognized after a copy.
    made_as = name if label_of(name) in _FILES else ""
    description = Backup(
        path=staging,
        files=files,
        made_as=made_as,
        revision=number,
        oldest_program="" if oldest_program == number else oldest_program,
        tables=contents.tables,
        schema=contents.schema,
        **facts,
    )
    # Defaults are left out, since an earlier version knows only some of the members.
    defaults = {field.encode_name: field.default for field in msgspec.structs.fields(Backup)}
    members = {
        name: value
        for name, value in msgspec.to_builtins(description, enc_hook=str).items()
        if name != "path" and value != defaults[name]
    }
    path = staging / DESCRIPTION
    path.touch(mode=0o600)
    path.write_text(json.dumps(members, indent=1) + "\n", encoding="utf-8")


def finished(staging: Path) -> Path:
    """Return the folder that a staging folder becomes when it is whole."""
    return staging.with_name(staging.name.removesuffix(PARTIAL))


def has_backup_name(name: str) -> bool:
    """Return whether a name has the form that taskapp gives to backups."""
    return _NAME.fullmatch(name) is not None


def label_of(name: str) -> str:
    """Return the label of a backup's name: base, dump, or what it precedes; empty without one."""
    return name.partition("-")[2] if has_backup_name(name) else ""


def read_backup(path: Path) -> Backup:
    """Read the description of a backup.

    Raises:
        BackupError: it is damaged, or is not the description of a backup.
        OSError: it cannot be read.
    """
    try:
        content = read_file(path / DESCRIPTION, _MAX_DESCRIPTION)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink() and not path.exists():
            raise  # to a disk that is away
        raise BackupError(f"it has no {DESCRIPTION}") from None
    except (NotAFile, ValueError) as error:
        reason = (isinstance(error, NotAFile) and error.strerror) or error
        raise BackupError(f"its {DESCRIPTION} cannot be read ({reason})") from error
    try:
        members = msgspec.json.decode(content, type=dict[str, Any])
        backup = msgspec.convert(members | {"path": path}, Backup)
        backup.timestamp.astimezone(UTC)  # OverflowError at the ends of time
    except (ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BackupError(f"its {DESCRIPTION} cannot be read ({error})") from error
    if missing := _FILES[backup.kind] - {*backup.files}:
        raise BackupError(f"its {DESCRIPTION} does not name {', '.join(sorted(missing))}")
    if backup.kind == "base" and not (backup.first_wal and backup.restore_point_segment):
        raise BackupError(f"its {DESCRIPTION} does not name its WAL")
    return backup


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with open_file(path) as file:
            while block := file.read(_BLOCK):
                digest.update(block)
                advance_step(len(block))
    except OSError as error:
        return error.strerror or "unreadable"
    return digest.hexdigest()
