"""A disk of the backups that is away, full, read-only or behind a link; and gaps in the archive."""

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskapp.backups import place
from taskapp.backups.repository import BackupError
from taskapp.backups.status import BackupReport, BackupStatus
from taskapp.cli.backups import BACKUP_COMMANDS
from taskapp.doctor.backups import check_backups
from taskapp.doctor.check_results import Level
from tests.support.backup_tools import House, house, original, short_parent
from tests.support.server_process import server_process, wait_until

__all__ = ["house", "original"]  # fixtures


def look(house: House) -> BackupReport:
    return BackupStatus(house.settings()).look()


def failing(house: House) -> str:
    """Return why backups fail, which doctor says as well."""
    failures = look(house).failures
    results = asyncio.run(check_backups(house.settings()))
    assert [result.text for result in results if result.level is Level.PROBLEM] == [*failures]
    return " ".join(failures)


@pytest.fixture
def disk(house: House) -> Iterator[Path]:
    """The house with its backups on a disk of their own, in a folder of it."""
    with short_parent() as parent:
        disk = parent / "mnt"
        disk.mkdir(mode=0o755)
        parent.chmod(0o755)
        house.backup_dir = disk / "taskapp"
        house.back_up()
        house.write("on the disk")
        yield disk


@contextmanager
def away(disk: Path) -> Iterator[None]:
    """Move the disk away: in its place is the empty folder that it was mounted on."""
    disk.rename(disk.with_name("away"))
    disk.mkdir(mode=0o755)
    yield
    shutil.rmtree(disk)
    disk.with_name("away").rename(disk)


def test_a_disk_that_is_away_is_missed_and_nothing_is_written_in_its_place(
    house: House, disk: Path
) -> None:
    with away(disk):
        with pytest.raises(BackupError, match="are gone"):
            house.back_up()
        assert "are gone. Mount their disk" in failing(house)
        assert BackupStatus(house.settings()).look().is_due
        house.write("while it was away")
        assert not any(disk.iterdir())
    assert look(house).failures == ()
    house.write("later")
    house.restore()
    assert house.titles()[-3:] == ["on the disk", "while it was away", "later"]


def test_a_folder_that_is_the_mount_itself_is_missed_too(house: House, disk: Path) -> None:
    house.backup_dir = disk
    house.back_up()
    with away(disk):
        with pytest.raises(BackupError, match="are gone"):
            house.back_up()
        assert "are gone" in failing(house)
        assert not any(disk.iterdir())


def test_a_mount_that_is_gone_is_missed_even_if_something_lies_there(
    house: House, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.ismount
    with monkeypatch.context() as mounted:
        mounted.setattr(os.path, "ismount", lambda path: path in (disk, str(disk)) or real(path))
        house.back_up()
        assert look(house).failures == ()
    assert f"is not mounted at {disk}" in failing(house)
    with pytest.raises(BackupError, match="is not mounted at"):
        house.back_up()


def test_a_link_to_a_disk_that_is_away_is_missed(house: House, disk: Path) -> None:
    link = house.data_dir / "link"
    link.symlink_to(disk / "taskapp")
    house.backup_dir = link
    house.back_up()
    assert look(house).failures == ()
    with away(disk):
        assert "are gone" in failing(house)
        with pytest.raises(BackupError, match="are gone"):
            house.back_up()
        assert not any(disk.iterdir())


def test_a_new_disk_is_taken_when_one_says_so(house: House, disk: Path) -> None:
    shutil.rmtree(disk / "taskapp")
    cli = CliRunner()
    environment = dict(house.settings().texts)
    refused = cli.invoke(BACKUP_COMMANDS[0], [], env=environment)
    assert refused.exit_code == 1
    assert "backup --init` once" in refused.output
    assert cli.invoke(BACKUP_COMMANDS[0], ["--init"], env=environment).exit_code == 0
    assert look(house).failures == ()
    house.write("later")
    shutil.rmtree(house.cluster)
    house.restore()
    assert house.titles()[-1] == "later"


def test_another_place_is_taken_without_a_word_and_a_return_to_the_first_too(
    house: House, disk: Path
) -> None:
    house.backup_dir = disk / "second"
    assert look(house).is_due
    house.back_up()
    house.write("on the second")
    assert look(house).failures == ()
    house.backup_dir = disk / "taskapp"
    house.write("on the first again")
    assert "has a gap between" in failing(house)
    assert look(house).is_due
    house.back_up()
    assert look(house).failures == ()
    house.restore()
    assert house.titles()[-2:] == ["on the second", "on the first again"]


def test_a_data_folder_whose_own_folder_of_backups_was_removed_begins_anew(house: House) -> None:
    house.back_up()
    shutil.rmtree(house.data_dir / "backups")
    assert look(house).is_due
    house.back_up()
    assert look(house).failures == ()


def test_a_record_that_cannot_be_read_stops_nothing(house: House, disk: Path) -> None:
    for content in (b"", b"\0", b"[]", b'{"path": 1}'):
        (house.data_dir / place.RECORD).write_bytes(content)
        assert look(house).failures == ()
    assert disk.exists()


# Gaps


def remove_segment(house: House) -> None:
    house.write("third")
    house.wal[-2].unlink()


def remove_newest_segment(house: House) -> None:
    house.wal[-1].unlink()
    house.write("third")


def remove_first_segment(house: House) -> None:
    (base,) = house.backups
    (house.archive / f"{base.first_wal}.gz").unlink()
    (house.cluster / "pg_wal" / base.first_wal).unlink(missing_ok=True)


def remove_archive(house: House) -> None:
    shutil.rmtree(house.archive)


@pytest.mark.parametrize(
    "damage", [remove_segment, remove_newest_segment, remove_first_segment, remove_archive]
)
def test_a_gap_is_seen_when_it_arises_and_a_new_backup_closes_it(
    house: House, damage: Callable[[House], None]
) -> None:
    assert look(house).failures == ()
    damage(house)
    assert "lacks" in failing(house) or "has a gap" in failing(house)
    assert look(house).is_due
    house.back_up()
    assert look(house).failures == ()
    assert not look(house).is_due
    house.write("later")
    shutil.rmtree(house.cluster)
    house.restore()
    assert house.titles()[-1] == "later"


def test_a_restore_to_an_earlier_state_makes_a_backup_due(house: House) -> None:
    name = house.backups[0].name
    house.back_up()
    house.restore(name=name)
    house.write("third")
    assert "leads to" in failing(house) or look(house).failures == ()
    assert house.titles() == ["before the backup", "third"]


def test_a_full_disk_is_a_failure(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskapp.backups.status.MIN_FREE_SPACE", 2**62)
    assert "MiB are free on its disk" in failing(house)


# What the server says within a minute


def test_the_server_says_what_is_wrong_with_its_backups(house: House, disk: Path) -> None:
    name = "20361126T030000.000000Z-base"
    with server_process(
        house.data_dir,
        settings={"TASKAPP_BACKUP_DIR": str(disk / "taskapp")},
        constant=("taskapp.jobs.backup_schedule", "MAX_CHECK_INTERVAL", 0.5),
    ) as server:
        client = server.wait_until_ready().client()

        def health() -> str:
            return str(client.send("GET", "/api/health").json["backup"])

        def logged(words: str) -> bool:
            return any(
                words in line["problem"] for line in server.log if line["event"] == "backup.problem"
            )

        wait_until(lambda: health() == "current", 30)
        (disk / "taskapp" / name).mkdir()
        wait_until(lambda: logged(f"{name} is damaged"), 60)
        assert health() == "current"
        (problem,) = client.send("GET", "/api/health").json["backupProblems"]
        assert f"{name} is damaged" in problem
        metrics = client.send("GET", "/metrics").body.decode()
        assert "taskapp_backup_problems 1.0\n" in metrics
        (disk / "taskapp" / name).rmdir()
        with away(disk):
            wait_until(lambda: health() == "failing", 60)
            wait_until(lambda: logged("are gone. Mount their disk"), 60)
        wait_until(lambda: health() == "current", 60)
        assert server.end() == 0
        assert server.surprises() == []
