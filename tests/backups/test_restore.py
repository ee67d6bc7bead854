"""Any second since the first backup can be restored; what cannot be is refused before any work."""

import asyncio
import os
import shutil
import signal
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from taskapp.backups.repository import BackupError
from taskapp.backups.restore import restore_embedded
from taskapp.db.migrations import HEAD
from taskapp.postgres.server import DataFolderInUse
from taskapp.runtime.database_server import database_server
from tests.support.backup_tools import Instance, flip, insert, instance, original, titles
from tests.support.database_fixtures import NEWER, execute, make_newer
from tests.support.server_process import server_process, wait_until

__all__ = ["instance", "original"]  # fixtures

BASE = ["before the backup", "first", "second"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")


def destroy(instance: Instance) -> None:
    shutil.rmtree(instance.cluster)


def test_a_destroyed_database_comes_back_as_it_was_last(instance: Instance) -> None:
    destroy(instance)
    done = instance.restore()
    assert (done.timestamp, done.users, done.tasks, done.sessions) == (None, 1, 3, 2)
    assert done.aside is None
    assert instance.titles() == BASE


def test_every_moment_can_be_restored_also_one_that_an_earlier_restore_undid(
    instance: Instance,
) -> None:
    third, fourth = instance.write("third", "fourth")
    destroy(instance)
    assert instance.restore(third).tasks == len([*BASE, "third"])
    (_, sixth) = instance.write("fifth", "sixth")
    assert instance.restore(fourth).tasks == len([*BASE, "third", "fourth"])
    assert instance.titles() == [*BASE, "third", "fourth"]
    instance.back_up()
    assert instance.restore(sixth).tasks == len([*BASE, "third", "fifth", "sixth"])
    assert instance.titles() == [*BASE, "third", "fifth", "sixth"]


def test_what_is_not_archived_yet_is_taken_from_the_cluster_that_is_replaced(
    instance: Instance,
) -> None:
    instance.archive.chmod(0o500)  # from now on nothing is archived
    instance.write("third")
    instance.archive.chmod(0o700)
    done = instance.restore()
    assert instance.titles() == [*BASE, "third"]
    assert done.aside
    assert (done.aside / "PG_VERSION").exists()


def test_a_moment_after_which_nothing_was_changed_can_be_restored(instance: Instance) -> None:
    async def scenario() -> datetime:
        async with database_server(instance.settings()) as url:
            insert(url, "third")
            timestamp = datetime.now(UTC)
            await asyncio.sleep(1.1)  # the archive notes whole seconds
            execute(url, "SELECT pg_create_restore_point('something that is no change')")
        return timestamp

    timestamp = asyncio.run(scenario())
    destroy(instance)
    assert instance.restore(timestamp).tasks == 4


def refused(instance: Instance, timestamp: datetime | None = None) -> str:
    """Assert that a restore is refused and changes nothing; return the reason."""
    before = sorted(instance.data_dir.iterdir())
    inode = instance.cluster.stat().st_ino
    with pytest.raises(BackupError) as caught:
        instance.restore(timestamp)
    assert sorted(instance.data_dir.iterdir()) == before
    assert instance.cluster.stat().st_ino == inode
    return str(caught.value)


@pytest.mark.parametrize("oldest_program", [HEAD, NEWER], ids=["may be used", "may not"])
def test_a_migration_after_the_backup_counts_when_it_is_restored(
    instance: Instance, oldest_program: str
) -> None:
    async def migrate_after_the_backup() -> None:
        async with database_server(instance.settings()) as url:
            make_newer(url, oldest_program)

    asyncio.run(migrate_after_the_backup())
    if oldest_program == HEAD:
        assert instance.restore().tasks == len(BASE)
    else:
        assert f"The database is at revision {NEWER}" in refused(instance)


def remove_all(instance: Instance) -> None:
    shutil.rmtree(instance.data_dir / "backups")


def remove_wal(instance: Instance) -> None:
    for path in instance.wal:
        path.unlink()
    shutil.rmtree(instance.cluster / "pg_wal")
    (instance.cluster / "pg_wal").mkdir()


def make_gap(instance: Instance) -> None:
    instance.write("third")
    instance.wal[-2].unlink()
    for path in (instance.cluster / "pg_wal").glob("0*"):
        path.unlink()


def tear_wal(instance: Instance) -> None:
    instance.wal[-1].write_bytes(instance.wal[-1].read_bytes()[:-20])


def flip_base(instance: Instance) -> None:
    flip(instance.backups[0].path / "base.tar.gz")


@pytest.mark.parametrize(
    ("damage", "age", "reason"),
    [
        (None, timedelta(days=365), "There is no backup from before"),
        (None, timedelta(seconds=-60), "is still to come"),
        (None, timedelta(0), "lies after the last change that is kept"),
        (remove_all, None, "There is no backup in"),
        (remove_wal, None, "lacks WAL of the backup"),
        (make_gap, None, "has a gap between"),
        (tear_wal, None, "exit code 200"),
        (flip_base, None, "is damaged: base.tar.gz"),
    ],
    ids=["too early", "future", "too late", "no backup", "no archive", "gap", "torn", "flipped"],
)
def test_what_cannot_be_restored_is_refused_and_nothing_is_touched(
    instance: Instance,
    damage: Callable[[Instance], None] | None,
    age: timedelta | None,
    reason: str,
) -> None:
    if damage:
        damage(instance)
    timestamp = None if age is None else datetime.now(UTC) - age
    assert reason in refused(instance, timestamp)


def test_a_running_server_is_not_restored_under(instance: Instance) -> None:
    async def scenario() -> None:
        async with database_server(instance.settings()) as url:
            with pytest.raises(DataFolderInUse, match="Stop that one first"):
                await restore_embedded(instance.settings())
            assert titles(url) == BASE

    asyncio.run(scenario())


def test_a_restore_that_was_cut_off_is_completed_or_forgotten(instance: Instance) -> None:
    instance.cluster.rename(instance.data_dir / "postgres.restored")
    (instance.data_dir / "restore" / "postgres").mkdir(parents=True)
    assert instance.titles() == BASE  # the start renamed it
    shutil.copytree(instance.cluster, instance.data_dir / "postgres.restored")
    assert instance.restore().tasks == 3
    names = {path.name.partition("-")[0] for path in instance.data_dir.iterdir()}
    assert not {"restore", "postgres.restored"} & names


def test_a_killed_restore_has_touched_nothing(instance: Instance) -> None:
    with server_process(instance.data_dir, "restore") as process:
        wait_until((instance.data_dir / "restore/postgres/pg_wal").exists)
        process.end(signal.SIGKILL)
    assert instance.titles() == BASE
    assert instance.restore().tasks == 3
    assert not (instance.data_dir / "restore").exists()


def test_archiving_goes_on_after_a_restore_on_a_timeline_of_its_own(instance: Instance) -> None:
    instance.restore()
    instance.write("third")
    assert (instance.archive / "00000002.history.gz").exists()
    assert instance.wal[-1].name.startswith("00000002")
    destroy(instance)
    instance.restore()
    assert instance.titles() == [*BASE, "third"]


@needs_root
def test_a_restored_cluster_belongs_to_whom_the_old_one_belonged_to(instance: Instance) -> None:
    for path in [instance.cluster, *instance.cluster.rglob("*"), instance.data_dir / "socket"]:
        os.chown(path, 65534, 65534)
    instance.restore()
    assert {path.stat().st_uid for path in instance.cluster.rglob("*")} == {65534}
    assert instance.titles() == BASE
