"""Nothing in the place of a file of the data folder blocks a start: it goes on, or says so."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taskapp.backups.after_backup import BackupCommandError, note_command_due, run_due_command
from taskapp.backups.repository import Backup
from taskapp.config.secret_key import load_secret_keys
from taskapp.config.settings import SettingsError, load_settings
from taskapp.doctor.checks import check_database
from taskapp.maintenance_mode import read_window
from taskapp.postgres.programs import EmbeddedPostgresError
from taskapp.postgres.server import EmbeddedPostgres
from tests.conftest import TEST_SETTINGS
from tests.postgres.conftest import start_and_stop
from tests.support.backup_tools import short_parent


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


KINDS: dict[str, Callable[[Path], None]] = {
    "a pipe": os.mkfifo,
    "a socket": put_socket,
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("/nowhere/at/all"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
}


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name."""
    with short_parent() as parent:
        yield parent


of_each_kind = pytest.mark.parametrize("kind", KINDS)


@of_each_kind
def test_the_secret_key_is_refused_by_name(folder: Path, kind: str) -> None:
    KINDS[kind](folder / "secret-key")
    settings = load_settings({"TASKAPP_DATA_DIR": str(folder)})
    with pytest.raises(SettingsError, match=f"{folder}/secret-key cannot be used"):
        load_secret_keys(settings)


@of_each_kind
def test_the_lock_of_the_data_folder_is_refused_by_name(folder: Path, kind: str) -> None:
    KINDS[kind](folder / "taskapp.lock")

    async def scenario() -> None:
        async with EmbeddedPostgres(folder).locked():
            pass

    with pytest.raises(
        EmbeddedPostgresError, match=r"can't run in the data folder .*taskapp\.lock"
    ):
        asyncio.run(scenario())


@of_each_kind
def test_the_lock_of_the_command_after_a_backup_is_refused_by_name(folder: Path, kind: str) -> None:
    KINDS[kind](folder / "backup-command.lock")
    names = {"TASKAPP_DATA_DIR": str(folder), "TASKAPP_BACKUP_COMMAND": "true"}
    settings = load_settings(TEST_SETTINGS | names)
    made = Backup(
        path=folder / "backups" / "made",
        kind="dump",
        timestamp=datetime.now(UTC),
        database="a database",
        revision="0001",
        tables={},
        files={},
    )
    note_command_due(settings, made)
    with pytest.raises(BackupCommandError, match=r"cannot run: .*backup-command\.lock"):
        asyncio.run(run_due_command(settings))


@of_each_kind
def test_the_flag_of_maintenance_means_maintenance_without_a_message(
    folder: Path, kind: str
) -> None:
    flag = folder / "maintenance"
    KINDS[kind](flag)
    window = read_window(flag)
    assert window is None if kind == "a link to nothing" else window and window.message == ""


def test_a_database_behind_a_link_that_leads_nowhere_is_missed_and_not_created_anew(
    folder: Path,
) -> None:
    data, disk = folder / "data", folder / "disk"
    data.mkdir()
    (data / "postgres").symlink_to(disk)
    settings = load_settings({"TASKAPP_DATA_DIR": str(data), "TASKAPP_PORT": "0"})

    async def scenario() -> None:
        async with EmbeddedPostgres(data).locked():
            pass

    sentence = f"is a link to {disk}, which is not there. Mount its disk"
    with pytest.raises(EmbeddedPostgresError, match=sentence):
        asyncio.run(start_and_stop(data))
    with pytest.raises(EmbeddedPostgresError, match=sentence):  # as a restore
        asyncio.run(scenario())
    [finding] = asyncio.run(check_database(settings))
    assert sentence in finding.text
    assert not disk.exists()
    assert not (data / "postgres.new").exists()
