"""Programs of other versions than this one: of the history, and of what may come next."""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest

from taskapp.db.migrations import HEAD
from tests.support.server_process import CHECKOUT

# While no version has a tag: a commit at revision 0002, and one at 0003 that can restore backups.
UNTAGGED = [
    "8188c2e8878fca53d1ccc33d358418c891b84597",
    "01ad51680f2311581a13d4a18979c5b1d3d8e0d0",
]
# Earlier versions got their event loop from a package that is no longer installed.
LOOP_OF_THE_LIBRARY = "from asyncio import run\n"
PARTS = ("handlers", "schema", "static", "taskapp", "templates")
NEXT = f"{int(HEAD) + 1:04}"  # revision
MIGRATION = """
from alembic import op

revision = "{revision}"
down_revision = "{before}"
oldest_program = "{oldest_program}"


def upgrade() -> None:
    op.execute("{statement}")
"""


def earlier_versions() -> list[str]:
    """Return the tags of versions, oldest first, or the commits that replace them."""
    tags = git("tag", "--list", "v*", "--sort=version:refname").stdout.decode().split()
    return tags or UNTAGGED


def git(*arguments: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        ["git", "-C", str(CHECKOUT), *arguments], capture_output=True, check=False
    )


@contextmanager
def checked_out(version: str) -> Iterator[Path]:
    """Yield the checkout of an earlier version."""
    archive = git("archive", version)
    if archive.returncode != 0:
        pytest.fail(
            f"The history of this checkout has no {version}: "
            f"{archive.stderr.decode().strip()}. Get all of it: git fetch --unshallow --tags"
        )
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as place:
        with tarfile.open(fileobj=BytesIO(archive.stdout)) as files:
            files.extractall(place, filter="data")
        Path(place, "uvloop.py").write_text(LOOP_OF_THE_LIBRARY)
        yield Path(place, "server.py")


def copy_program(place: Path) -> Path:
    """Copy what this program consists of to a new folder, and return the copy of `server.py`."""
    for name in PARTS:
        shutil.copytree(CHECKOUT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "server.py"):
        shutil.copy(CHECKOUT / name, place / name)
    return place / "server.py"


def add_migration(program: Path, oldest_program: str, statement: str) -> None:
    """Write a migration after the newest into a copy; it states its oldest program."""
    text = MIGRATION.format(
        revision=NEXT, before=HEAD, oldest_program=oldest_program, statement=statement
    )
    (program.parent / "schema" / "versions" / f"{NEXT}_next.py").write_text(text)


def run_command(program: Path, folder: Path, *words: str, **settings: str) -> str:
    """Run a command of a version on a data folder, and return what it prints."""
    done = subprocess.run(
        [sys.executable, str(program), *words],
        env={"TASKAPP_DATA_DIR": str(folder), **settings},
        cwd=program.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
