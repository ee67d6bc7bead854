"""Helpers of the tests of backups: a data folder with an account, its backups and tasks."""

import asyncio
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskapp.backups.checksums import Contents
from taskapp.backups.create import make_backup, read_own_catalog
from taskapp.backups.repository import DESCRIPTION, NAMES_IN_FILE, Backup, describe, finished
from taskapp.backups.restore import RestoreResult, restore_embedded
from taskapp.config.settings import Settings, load_settings
from taskapp.db.migrations import Revision
from taskapp.runtime.database_server import database_server, prepare_database
from tests.conftest import TEST_SETTINGS
from tests.support.database_fixtures import add_session, add_user, execute


@contextmanager
def short_parent() -> Iterator[Path]:
    """Yield a folder whose path leaves room for a socket's name."""
    parent = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))
    try:
        yield parent
    finally:
        shutil.rmtree(parent)


def without_progress(text: str) -> str:
    """Return what a command printed without what it says each ten seconds on a slow machine."""
    return re.sub(r"^[A-Z].*\b\d+ seconds\n", "", text, flags=re.MULTILINE)


def make_backup_folder(data_dir: Path, database: str, *, age: float) -> Path:
    """Create a folder that looks like a dump of `age` days ago; it cannot be restored."""
    timestamp = datetime.now(UTC) - timedelta(days=age)
    staging = data_dir / "backups" / f"{timestamp:%Y%m%dT%H%M%S.%fZ}-dump.partial"
    staging.mkdir(parents=True)
    (staging / "database.dump").touch()
    contents = Contents(tables={}, schema="public", revision=Revision("0001", "0001"))
    describe(staging, contents, kind="dump", timestamp=timestamp, database=database)
    return staging.rename(finished(staging))


def change_description(backup: Path, **members: object) -> None:
    """Change values in the description of a backup."""
    path = backup / DESCRIPTION
    changes = {NAMES_IN_FILE.get(name, name): value for name, value in members.items()}
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@dataclass
class Instance:
    """A data folder with its backups; its PostgreSQL runs during an operation."""

    data_dir: Path
    backup_dir: Path | None = None
    always: dict[str, str] = field(default_factory=dict)  # settings of every operation

    def settings(self, **changes: str) -> Settings:
        changed = self.always | changes
        names = {f"TASKAPP_{name}": value for name, value in changed.items()}
        if self.backup_dir:
            names.setdefault("TASKAPP_BACKUP_DIR", str(self.backup_dir))
        return load_settings(TEST_SETTINGS | {"TASKAPP_DATA_DIR": str(self.data_dir)} | names)

    @property
    def cluster(self) -> Path:
        return self.data_dir / "postgres"

    @property
    def backups(self) -> list[Backup]:
        return [*read_own_catalog(self.settings()).all]

    @property
    def archive(self) -> Path:
        (archive,) = (self.data_dir / "backups").glob("wal-*")
        return archive

    @property
    def wal(self) -> list[Path]:
        """Return the archived WAL segments, oldest first."""
        return sorted(self.archive.glob("0" * 7 + "?" * 17 + ".gz"))

    def copied_to(self, parent: Path) -> "Instance":
        shutil.copytree(self.data_dir, parent / "data", symlinks=True)
        if os.geteuid() == 0:
            for path in self.data_dir.rglob("*"):
                owner = path.lstat()
                copy = parent / "data" / path.relative_to(self.data_dir)
                os.chown(copy, owner.st_uid, owner.st_gid, follow_symlinks=False)
        return Instance(parent / "data", always=dict(self.always))

    def fill_and_back_up(self) -> None:
        """Create Alice and a base backup, with one task before it and two after it."""
        self.fill()
        self.write("before the backup")
        self.back_up()
        self.write("first", "second")

    def fill(self) -> None:
        """Create the database with Alice, her session and her API token."""

        async def scenario() -> None:
            async with database_server(self.settings()) as url:
                await prepare_database(self.settings(), url)
                alice = add_user(url, "alice")
                token = add_session(url, alice)
                execute(
                    url,
                    "UPDATE sessions SET name = 'Backup script', expires_at = 'infinity'"
                    " WHERE secret_hash = %s",
                    token.secret_hash,
                )
                add_session(url, alice)

        asyncio.run(scenario())

    def back_up(self, **changes: str) -> Backup:
        """Make a backup with a running server."""

        async def scenario() -> Backup:
            settings = self.settings(**changes)
            async with database_server(settings, share=True) as url:
                made = await make_backup(settings, url)
                assert made
                return made

        return asyncio.run(scenario())

    def write(self, *titles: str) -> list[datetime]:
        """Write tasks one by one; return for each a timestamp between it and the next."""
        timestamps = []

        async def scenario() -> None:
            async with database_server(self.settings()) as url:
                for title in titles:
                    insert(url, title)
                    await asyncio.sleep(0.05)
                    timestamps.append(datetime.now(UTC))
                    await asyncio.sleep(0.05)

        asyncio.run(scenario())
        return timestamps

    def restore(
        self,
        timestamp: datetime | None = None,
        name: str = "",
        database: str = "",
        **changes: str,
    ) -> RestoreResult:
        return asyncio.run(restore_embedded(self.settings(**changes), timestamp, name, database))

    def titles(self) -> list[str]:
        async def scenario() -> list[str]:
            async with database_server(self.settings()) as url:
                return titles(url)

        return asyncio.run(scenario())


def insert(url: str, title: str) -> None:
    execute(
        url,
        "INSERT INTO tasks (id, user_id, title)"
        " SELECT gen_random_uuid(), id, %s FROM users LIMIT 1",
        title,
    )


def titles(url: str) -> list[str]:
    return [title for (title,) in execute(url, "SELECT title FROM tasks ORDER BY created_at")]


@pytest.fixture(scope="module")
def original() -> Iterator[Instance]:
    """A data folder with Alice, one base backup and two later tasks; no server runs."""
    with short_parent() as parent:
        instance = Instance(parent / "data")
        instance.fill_and_back_up()
        yield instance


@pytest.fixture
def instance(original: Instance) -> Iterator[Instance]:
    """A copy of `original` for one test."""
    with short_parent() as parent:
        yield original.copied_to(parent)


def flip(path: Path, position: int = 1000) -> None:
    """Flip one bit of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)
