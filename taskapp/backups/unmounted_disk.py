"""Records where the backups of a data folder are, so that an unmounted disk is noticed.

Without this, a backup would be written into the empty folder where the disk is usually mounted:
onto the system's disk, with a gap in the archive when the right one is back.
"""

import os
from contextlib import suppress
from pathlib import Path

import msgspec

from taskapp.config.installation import COMMAND
from taskapp.core.files import read_file

RECORD = "backup-folder"  # in the data folder
_MAX_RECORD = 64 * 1024  # bytes; two paths


class _Location(msgspec.Struct):
    path: str
    mount: str  # where the file system of the path is mounted


def record_location(path: Path, data_dir: Path) -> None:
    """Record the folder of the backups; do nothing if the data folder is not writable."""
    location = msgspec.json.encode(_Location(str(path), str(_mount_of(path))))
    record = data_dir / RECORD
    with suppress(OSError):
        if _read(record) != location:
            draft = record.with_name(f"{RECORD}.new")
            draft.write_bytes(location)
            draft.rename(record)


def forget_location(data_dir: Path) -> None:
    """Forget where the backups were, so that they may begin in a folder that holds none."""
    (data_dir / RECORD).unlink(missing_ok=True)


def find_missing_disk(path: Path, data_dir: Path, *, is_ours: bool) -> str:
    """Return a sentence if backups were in a folder that is not there now; empty if all is well.

    `is_ours` says that the folder holds backups or an archive. Within the data folder, backups
    that are gone were removed on purpose.
    """
    try:
        location = msgspec.json.decode(_read(data_dir / RECORD), type=_Location)
    except ValueError:
        return ""
    if location.path != str(path):
        return ""
    if not os.path.ismount(location.mount):
        return f"The disk of the backups is not mounted at {location.mount}"
    if is_ours or path.resolve().is_relative_to(data_dir.resolve()):
        return ""
    return (
        f"The backups that were in {path} are gone. Mount their disk; or, if it is a new one, "
        f"run `{COMMAND} backup --init` once"
    )


def _read(record: Path) -> bytes:
    with suppress(OSError, ValueError):
        return read_file(record, _MAX_RECORD)
    return b""


def _mount_of(path: Path) -> Path:
    path = path.resolve()
    return next(folder for folder in (path, *path.parents) if os.path.ismount(folder))
