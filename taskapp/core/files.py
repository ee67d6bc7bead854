"""Files that no process sees half-written, also after a power cut."""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CANNOT_FLUSH_NAMES = {errno.EBADF, errno.EINVAL, errno.ENOENT, errno.ENOTSUP}


class NotAFile(OSError):
    """What is to be read is a folder, a pipe, a socket or a device."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EINVAL, "not a file", str(path))


def open_file(path: Path) -> BinaryIO:
    """Open a file in a folder that others may write to; a pipe there could block for ever.

    Raises NotAFile, which is an OSError, for what is no regular file.
    """
    return os.fdopen(_open_regular(path, os.O_RDONLY), "rb")


def open_lock(path: Path) -> int:
    """Open a file for `flock`, or create it; return its descriptor. Raise NotAFile as above."""
    return _open_regular(path, os.O_RDWR | os.O_CREAT)


def _open_regular(path: Path, flags: int) -> int:
    try:
        descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise NotAFile(path) from error
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise NotAFile(path)
    return descriptor


def read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a file; raise NotAFile, and ValueError if it is longer."""
    with open_file(path) as file:
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise ValueError(f"it is longer than {max_bytes} bytes")
    return content


def is_own_folder(path: Path) -> bool:
    """Return whether a path is a folder itself, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def folder_size(folder: Path) -> int:
    """Return the bytes of the files in a folder, without those in its folders."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


@contextmanager
def draft_of(path: Path, text: str, mode: int) -> Iterator[Path]:
    """Yield a new file beside `path`, with a text and a mode, to be renamed or linked to it.

    It is removed at the end of the block unless it was renamed.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    try:
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_text(text, encoding="utf-8")
        draft.chmod(mode)
        yield draft
    finally:
        draft.unlink(missing_ok=True)


def synchronize(path: Path) -> None:
    """Flush a file, or the names in a folder, to the disk (fsync)."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Of folders, not every file system can, such as SMB; PostgreSQL and restic go on, too.
        if error.errno not in _CANNOT_FLUSH_NAMES or not path.is_dir():
            raise
    finally:
        os.close(descriptor)
