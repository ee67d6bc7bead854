"""Backups of the embedded PostgreSQL: made whole or not at all, found damaged, kept for a while."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from taskapp.backups import base_backup as base_backups
from taskapp.backups.create import make_backup
from taskapp.backups.repository import DESCRIPTION, Backup, BackupError
from taskapp.backups.status import ARCHIVE_TIMEOUT, BackupStatus
from taskapp.backups.verify import verify_backup
from taskapp.backups.wal_archive import WANTED
from taskapp.config.settings import Settings
from taskapp.doctor.backups import check_backups, check_leftovers
from taskapp.doctor.check_results import Level
from taskapp.runtime.database_server import database_server
from tests.support.backup_tools import (
    Instance,
    change_description,
    flip,
    instance,
    original,
    short_parent,
)
from tests.support.server_process import (
    LONG_ENOUGH,
    Client,
    new_data_folder,
    server_process,
    stopped_processes,
    wait_until,
)

__all__ = ["instance", "original"]  # fixtures

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")


def verify(instance: Instance) -> str:
    """Verify the newest backup, and return what is wrong."""
    try:
        asyncio.run(verify_backup(instance.settings()))
    except BackupError as error:
        assert not (instance.data_dir / "verify").exists()
        return str(error)
    return ""


def copying(data_dir: Path) -> list[int]:
    """List the processes that copy the cluster of a data folder."""
    commands = {
        path.parent.name: path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline")
    }
    wanted = (b"pg_basebackup", os.fsencode(data_dir))
    return [int(pid) for pid, words in commands.items() if all(word in words for word in wanted)]


def test_a_stop_in_the_middle_of_a_backup_complains_of_nothing() -> None:
    with (
        new_data_folder() as folder,
        server_process(folder, settings={"TASKAPP_BACKUP_EVERY": "1s"}) as server,
    ):
        server.wait_until_ready().client().sign_up("alice@example.com")
        wait_until(lambda: bool(copying(folder)))
        with stopped_processes(lambda: copying(folder)):
            assert server.end() == 0
        assert server.complaints() == []


# Verifying


def test_a_good_backup_is_verified_with_its_archive(instance: Instance) -> None:
    (backup,) = instance.backups
    assert backup.tables["users"][0] == backup.tables["tasks"][0] == 1
    verified = asyncio.run(verify_backup(instance.settings()))
    assert (verified.backup, verified.rows) == (
        backup,
        5,
    )  # a session, a token and the revision, too
    assert verified.wal_segments == len(instance.wal) > 1
    assert not (instance.data_dir / "verify").exists()


@pytest.mark.parametrize("name", ["base.tar.gz", "pg_wal.tar.gz", "backup_manifest"])
def test_a_changed_bit_is_found_and_its_file_named(instance: Instance, name: str) -> None:
    flip(instance.backups[0].path / name)
    assert f"is damaged: {name}." in verify(instance)


def test_a_missing_file_is_found(instance: Instance) -> None:
    (instance.backups[0].path / "pg_wal.tar.gz").unlink()
    assert "is damaged: pg_wal.tar.gz." in verify(instance)


@pytest.mark.parametrize("noted", [[2, "0"], [1, "0"]], ids=["one row more", "other rows"])
def test_rows_that_are_not_those_that_were_there_are_found(
    instance: Instance, noted: list[object]
) -> None:
    path = instance.backups[0].path / DESCRIPTION
    content = json.loads(path.read_text())
    content["tables"]["tasks"] = noted
    path.write_text(json.dumps(content))
    assert f"does not hold what the database held: tasks has 1 rows, and had {noted[0]}" in verify(
        instance
    )


def test_a_damaged_or_missing_file_of_the_archive_is_found(instance: Instance) -> None:
    assert len(instance.wal) > 2
    flip(instance.wal[-1], -6)  # in its checksum
    assert f"is damaged: {instance.wal[-1].stem}." in verify(instance)
    instance.wal[-2].unlink()
    assert "has a gap between" in verify(instance)


def test_a_description_that_cannot_be_read_is_named(instance: Instance) -> None:
    (instance.backups[0].path / DESCRIPTION).write_text("{")
    assert "is damaged: its backup.json cannot be read" in verify(instance)


# What is whole, and what is not


def test_a_killed_backup_is_never_taken_for_one(instance: Instance) -> None:
    command = [sys.executable, "-m", "server", "backup"]
    environment = {**os.environ, "TASKAPP_DATA_DIR": str(instance.data_dir)}
    folder = instance.data_dir / "backups"
    before = instance.backups
    with subprocess.Popen(
        command, env=environment, cwd=Path(__file__).parents[2], stderr=subprocess.DEVNULL
    ) as process:
        wait_until(lambda: any(folder.glob("*.partial/base.tar.gz")))
        process.send_signal(signal.SIGKILL)
    assert any(folder.glob("*.partial"))
    assert instance.backups == before
    for left in ("verify", "restore"):  # by others that were killed
        (instance.data_dir / left / "postgres").mkdir(parents=True)
    instance.back_up()
    assert not any(folder.glob("*.partial"))
    assert not {"verify", "restore"} & {path.name for path in instance.data_dir.iterdir()}
    assert len(instance.backups) == 2


def test_an_archive_that_takes_nothing_fails_the_backup_and_is_told(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = instance.backups
    instance.archive.chmod(0o500)
    with monkeypatch.context() as impatient:
        impatient.setattr(base_backups, "ARCHIVE_TIMEOUT", 1)
        with pytest.raises(BackupError, match=r"not take what is to be archived: \d+ files wait"):
            instance.back_up()
    assert BackupStatus(instance.settings()).inspect().waiting_wal[0] > 0
    assert instance.backups == before
    assert not any((instance.data_dir / "backups").glob("*.partial"))
    instance.archive.chmod(0o700)
    instance.back_up()
    assert BackupStatus(instance.settings()).inspect().waiting_wal[0] == 0


def test_another_file_of_the_same_name_is_never_replaced(instance: Instance) -> None:
    newest = instance.wal[-1]
    number = int(newest.stem, 16) + 1
    stranger = newest.with_name(f"{number:024X}.gz")
    shutil.copy(newest, stranger)
    os.chown(stranger, newest.stat().st_uid, newest.stat().st_gid)
    content = stranger.read_bytes()
    instance.write("third")
    assert stranger.read_bytes() == content
    waiting, _ = BackupStatus(instance.settings()).inspect().waiting_wal
    assert waiting >= 1


def test_of_two_that_find_a_backup_due_one_makes_it(instance: Instance) -> None:
    settings = instance.settings()
    make_late(instance)

    async def scenario() -> list[Backup | None]:
        async with database_server(settings) as url:
            return await asyncio.gather(
                *(make_backup(settings, url, only_if_due=True) for _ in range(2))
            )

    assert BackupStatus(settings).inspect().is_due
    made = asyncio.run(scenario())
    assert made.count(None) == 1
    assert len(instance.backups) == 2


# What is kept


def test_old_backups_go_with_the_wal_that_only_they_needed(instance: Instance) -> None:
    (first,) = instance.backups
    stranger = first.path.with_name("20200101T000000.000000Z-base")
    shutil.copytree(first.path, stranger)
    content = json.loads((stranger / DESCRIPTION).read_text())
    (stranger / DESCRIPTION).write_text(json.dumps(content | {"database": "42/postgres"}))
    second = instance.back_up(BACKUP_KEEP="2")
    assert [backup.name for backup in instance.backups] == [second.name, first.name, stranger.name]
    third = instance.back_up(BACKUP_KEEP="2")
    assert [backup.name for backup in instance.backups] == [third.name, second.name, stranger.name]
    assert instance.wal[0].stem == second.first_wal
    instance.restore()
    assert instance.titles() == ["before the backup", "first", "second"]


def test_nothing_is_archived_before_the_first_backup(original: Instance) -> None:
    assert (original.cluster / WANTED).exists()
    with short_parent() as parent:
        fresh = Instance(parent / "data")
        fresh.fill()
        assert not (fresh.data_dir / "backups").exists()
        assert BackupStatus(fresh.settings()).inspect().waiting_wal == (0, 0.0)


def test_without_an_archive_a_backup_is_a_dump_that_can_be_restored(instance: Instance) -> None:
    dump = instance.back_up(BACKUP_EVERY="off")
    assert dump.kind == "dump"
    assert verify(instance) == ""
    instance.write("third")
    done = instance.restore(BACKUP_EVERY="off")
    assert done.timestamp == dump.timestamp
    assert instance.titles() == ["before the backup", "first", "second"]
    assert instance.back_up().kind == "base"  # of a new cluster, with an archive of its own
    assert len([*(instance.data_dir / "backups").glob("wal-*")]) == 2


@needs_root
def test_backups_belong_to_whom_the_data_folder_belongs_to(instance: Instance) -> None:
    os.chown(instance.data_dir, 65534, 65534)
    shutil.rmtree(instance.data_dir / "backups")
    backup = instance.back_up()
    for path in (backup.path.parent, backup.path, *backup.path.iterdir()):
        assert (path.stat().st_uid, path.stat().st_mode & 0o007) == (65534, 0)


# Health, metrics and doctor


def make_late(instance: Instance) -> None:
    """Change the only backup to be of long ago."""
    (backup,) = instance.backups
    change_description(backup.path, timestamp="2026-01-01T00:00:00+00:00")


def levels(settings: Settings) -> tuple[str, Level]:
    status = BackupStatus(settings)
    status.inspect()
    results = asyncio.run(check_backups(settings))
    return status.state(), results[0].level


def test_the_state_of_the_backups_is_told(instance: Instance) -> None:
    assert levels(instance.settings()) == ("current", Level.OK)
    assert levels(instance.settings(BACKUP_EVERY="off")) == ("off", Level.WARNING)
    waiting = instance.cluster / "pg_wal/archive_status/000000010000000000000099.ready"
    waiting.touch()
    assert levels(instance.settings()) == ("current", Level.OK)
    long_ago = waiting.stat().st_mtime - ARCHIVE_TIMEOUT - 1
    os.utime(waiting, (long_ago, long_ago))
    assert levels(instance.settings()) == ("failing", Level.PROBLEM)
    waiting.unlink()
    make_late(instance)
    assert levels(instance.settings()) == ("late", Level.PROBLEM)
    shutil.rmtree(instance.data_dir / "backups")
    assert levels(instance.settings()) == ("none", Level.INFO)
    assert instance.backups == []


def test_a_stop_does_not_wait_for_a_backup(instance: Instance) -> None:
    def programs() -> list[str]:  # pg_basebackup copies by one process and receives WAL by another
        pattern = f"pg_basebackup.*{instance.data_dir}"
        found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, check=False)
        return found.stdout.decode().split()

    shutil.rmtree(instance.data_dir / "backups")
    with server_process(instance.data_dir, settings={"TASKAPP_BACKUP_EVERY": "2s"}) as server:
        server.wait_until_ready()
        wait_until(lambda: len(programs()) == 2)
        assert server.end() == 0
        assert programs() == []
        assert server.surprises() == []


def test_the_server_backs_up_by_itself_and_says_so(instance: Instance) -> None:
    shutil.rmtree(instance.data_dir / "backups")
    often = ("taskapp.jobs.backup_schedule", "MAX_CHECK_INTERVAL", 0.5)
    with server_process(instance.data_dir, constant=often) as server:
        client = server.wait_until_ready().client()
        wait_until(lambda: client.send("GET", "/api/health").json["backup"] == "current")
        assert client.send("GET", "/api/health").json["backupAge"] < LONG_ENOUGH
        proxied = {"X-Forwarded-For": "198.51.100.9"}  # a stranger, who learns it in whole hours
        assert client.send("GET", "/api/health", **proxied).json["backupAge"] == 0
        wait_until(lambda: "taskapp_wal_archive_waiting 0.0\n" in metrics_of(client))
        metrics = metrics_of(client)
        made = [line for line in server.log if line["event"] == "backup.made"]
        assert made
        assert server.complaints() == []
        assert server.end() == 0
    for line in ("wal_archive_failures 0.0", "backup_failures_total 0.0"):
        assert f"taskapp_{line}\n" in metrics
    assert "taskapp_backup_last_success_timestamp_seconds 1." in metrics
    assert instance.backups


def metrics_of(client: Client) -> str:
    return client.send("GET", "/metrics").body.decode()


@pytest.mark.parametrize("name", ["verify", "restore", "upgrade"])
def test_what_a_killed_command_left_is_named_and_removed_by_the_next_start(
    instance: Instance, name: str
) -> None:
    left = instance.data_dir / name / "postgres"
    left.mkdir(parents=True)
    [named] = check_leftovers(instance.settings())
    assert (named.level, str(left.parent) in named.text) == (Level.WARNING, True)
    with server_process(instance.data_dir) as server:
        server.wait_until_ready()
        wait_until(lambda: not left.parent.exists())
        assert server.end() == 0
    assert check_leftovers(instance.settings()) == []
