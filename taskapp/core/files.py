"""Files that no process sees half-written, also after a power cut."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
    finally:
        os.close(descriptor)
