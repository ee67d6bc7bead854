"""A disk of the backups that is away, full, read-only or behind a link; and gaps in the archive."""

import asyncio
import gzip
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from taskapp.backups import unmounted_disk
from taskapp.backups.repository import BackupError
from taskapp.backups.status import BackupReport, BackupStatus
from taskapp.backups.verify import verify_backup
from taskapp.cli.backups import backup
from taskapp.core.files import synchronize
from taskapp.doctor.backups import check_backups
from taskapp.doctor.check_results import Level
from tests.support.backup_tools import Instance, instance, original, short_parent
from tests.support.server_process import server_process, wait_until

__all__ = ["instance", "original"]  # fixtures


def look(instance: Instance) -> BackupReport:
    return BackupStatus(instance.settings()).inspect()


def failing(instance: Instance) -> str:
    """Return why backups fail, which doctor says as well."""
    failures = look(instance).failures
    results = asyncio.run(check_backups(instance.settings()))
    assert [result.text for result in results if result.level is Level.PROBLEM] == [*failures]
    return " ".join(failures)


@pytest.fixture
def disk(instance: Instance) -> Iterator[Path]:
    """The instance with its backups on a disk of their own, in a folder of it."""
    with short_parent() as parent:
        disk = parent / "mnt"
        disk.mkdir(mode=0o755)
        parent.chmod(0o755)
        instance.backup_dir = disk / "taskapp"
        instance.back_up()
        instance.write("on the disk")
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
    instance: Instance, disk: Path
) -> None:
    with away(disk):
        with pytest.raises(BackupError, match="are gone"):
            instance.back_up()
        assert "are gone. Mount their disk" in failing(instance)
        assert BackupStatus(instance.settings()).inspect().is_due
        instance.write("while it was away")
        assert not any(disk.iterdir())
    assert look(instance).failures == ()
    instance.write("later")
    instance.restore()
    assert instance.titles()[-3:] == ["on the disk", "while it was away", "later"]


def test_a_folder_that_is_the_mount_itself_is_missed_too(instance: Instance, disk: Path) -> None:
    instance.backup_dir = disk
    instance.back_up()
    with away(disk):
        with pytest.raises(BackupError, match="are gone"):
            instance.back_up()
        assert "are gone" in failing(instance)
        assert not any(disk.iterdir())


def test_a_mount_that_is_gone_is_missed_even_if_something_lies_there(
    instance: Instance, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.path.ismount
    with monkeypatch.context() as mounted:
        mounted.setattr(os.path, "ismount", lambda path: path in (disk, str(disk)) or real(path))
        instance.back_up()
        assert look(instance).failures == ()
    assert f"is not mounted at {disk}" in failing(instance)
    with pytest.raises(BackupError, match="is not mounted at"):
        instance.back_up()


def test_a_link_to_a_disk_that_is_away_is_missed(instance: Instance, disk: Path) -> None:
    link = instance.data_dir / "link"
    link.symlink_to(disk / "taskapp")
    instance.backup_dir = link
    instance.back_up()
    assert look(instance).failures == ()
    with away(disk):
        assert "are gone" in failing(instance)
        with pytest.raises(BackupError, match="are gone"):
            instance.back_up()
        assert not any(disk.iterdir())


def test_a_new_disk_is_taken_when_one_says_so(instance: Instance, disk: Path) -> None:
    shutil.rmtree(disk / "taskapp")
    cli = CliRunner()
    environment = dict(instance.settings().texts)
    refused = cli.invoke(backup, [], env=environment)
    assert refused.exit_code == 1
    assert "backup --init` once" in refused.output
    assert cli.invoke(backup, ["--init"], env=environment).exit_code == 0
    assert look(instance).failures == ()
    instance.write("later")
    shutil.rmtree(instance.cluster)
    instance.restore()
    assert instance.titles()[-1] == "later"


def test_another_place_is_taken_without_a_word_and_a_return_to_the_first_too(
    instance: Instance, disk: Path
) -> None:
    instance.backup_dir = disk / "second"
    assert look(instance).is_due
    instance.back_up()
    instance.write("on the second")
    assert look(instance).failures == ()
    instance.backup_dir = disk / "taskapp"
    instance.write("on the first again")
    assert "has a gap between" in failing(instance)
    assert look(instance).is_due
    instance.back_up()
    assert look(instance).failures == ()
    instance.restore()
    assert instance.titles()[-2:] == ["on the second", "on the first again"]


def test_a_data_folder_whose_own_folder_of_backups_was_removed_begins_anew(
    instance: Instance,
) -> None:
    instance.back_up()
    shutil.rmtree(instance.data_dir / "backups")
    assert look(instance).is_due
    instance.back_up()
    assert look(instance).failures == ()


def test_a_record_that_cannot_be_read_stops_nothing(instance: Instance, disk: Path) -> None:
    for content in (b"", b"\0", b"[]", b'{"path": 1}'):
        (instance.data_dir / unmounted_disk.RECORD).write_bytes(content)
        assert look(instance).failures == ()
    assert disk.exists()


# Gaps


def remove_segment(instance: Instance) -> None:
    instance.write("third")
    instance.wal[-2].unlink()


def remove_newest_segment(instance: Instance) -> None:
    instance.wal[-1].unlink()
    instance.write("third")


def remove_first_segment(instance: Instance) -> None:
    (base,) = instance.backups
    (instance.archive / f"{base.first_wal}.gz").unlink()
    (instance.cluster / "pg_wal" / base.first_wal).unlink(missing_ok=True)


def remove_archive(instance: Instance) -> None:
    shutil.rmtree(instance.archive)


@pytest.mark.parametrize(
    "damage", [remove_segment, remove_newest_segment, remove_first_segment, remove_archive]
)
def test_a_gap_is_seen_when_it_arises_and_a_new_backup_closes_it(
    instance: Instance, damage: Callable[[Instance], None]
) -> None:
    assert look(instance).failures == ()
    damage(instance)
    assert "lacks" in failing(instance) or "has a gap" in failing(instance)
    assert look(instance).is_due
    instance.back_up()
    assert look(instance).failures == ()
    assert not look(instance).is_due
    instance.write("later")
    shutil.rmtree(instance.cluster)
    instance.restore()
    assert instance.titles()[-1] == "later"


def test_a_segment_that_was_never_written_makes_no_backup_due(instance: Instance) -> None:
    (instance.archive / "0000000100000000000000FF.gz").touch()
    assert "0000000100000000000000FF, which this database has yet to write" in failing(instance)
    assert not look(instance).is_due  # each would push out an earlier one, and mend nothing
    instance.back_up()
    instance.write("third")
    assert "has yet to write" in failing(instance)


@pytest.mark.parametrize(
    "content",
    [b"", b"no gzip", gzip.compress(b"1\n\xff", mtime=0), gzip.compress(b"1\tnowhere\n", mtime=0)],
)
def test_a_timeline_that_cannot_be_read_is_told_before_a_restore_needs_it(
    instance: Instance, content: bytes
) -> None:
    (name,) = (backup.name for backup in instance.backups)
    (instance.archive / "00000002.history.gz").write_bytes(content)
    assert "00000002.history.gz does not say where timeline 2 begins" in failing(instance)
    assert not look(instance).is_due
    for work in (
        lambda: asyncio.run(verify_backup(instance.settings())),
        instance.restore,
        lambda: instance.restore(datetime.now(UTC)),
    ):
        with pytest.raises(BackupError, match="timeline 2"):
            work()
    (instance.archive / "00000002.history.gz").unlink()  # as the sentence says
    instance.restore(name=name)
    assert instance.titles() == ["before the backup"]


def test_a_restore_to_an_earlier_state_makes_a_backup_due(instance: Instance) -> None:
    name = instance.backups[0].name
    instance.back_up()
    instance.restore(name=name)
    instance.write("third")
    assert "leads to" in failing(instance) or look(instance).failures == ()
    assert instance.titles() == ["before the backup", "third"]


def test_a_folder_whose_names_the_file_system_cannot_flush_is_no_failure() -> None:
    """As on SMB, and on /proc: EINVAL."""
    synchronize(Path("/proc/self"))
    with pytest.raises(OSError, match="Invalid argument"):
        synchronize(Path("/proc/self/stat"))


def test_a_full_disk_is_a_failure(instance: Instance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskapp.backups.status.MIN_FREE_SPACE", 2**62)
    assert "MiB are free on its disk" in failing(instance)


# What the server says within a minute


def test_the_server_says_what_is_wrong_with_its_backups(instance: Instance, disk: Path) -> None:
    name = "20361126T030000.000000Z-base"
    with server_process(
        instance.data_dir,
        settings={"TASKAPP_BACKUP_DIR": str(disk / "taskapp")},
        constant=("taskapp.jobs.backup_schedule", "MAX_CHECK_INTERVAL", 0.5),
    ) as server:
        client = server.wait_until_ready().client()

        def health() -> str:
            return str(client.send("GET", "/api/health").json["backup"])

        def logged(words: str) -> bool:
            return any(
                words in line["problem"]
                for line in server.log
                if line["event"] == "backup.problem_found"
            )

        wait_until(lambda: health() == "current")
        (disk / "taskapp" / name).mkdir()
        wait_until(lambda: logged(f"{name} is damaged"))
        assert health() == "current"
        (problem,) = client.send("GET", "/api/health").json["backupProblems"]
        assert f"{name} is damaged" in problem
        metrics = client.send("GET", "/metrics").body.decode()
        assert "taskapp_backup_problems 1.0\n" in metrics
        (disk / "taskapp" / name).rmdir()
        with away(disk):
            wait_until(lambda: health() == "failing")
            wait_until(lambda: logged("are gone. Mount their disk"))
        wait_until(lambda: health() == "current")
        assert server.end() == 0
        assert server.surprises() == []
