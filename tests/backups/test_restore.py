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
from taskapp.postgres.server import DataFolderInUse
from taskapp.runtime.database_server import database_server
from tests.support.backup_tools import House, flip, house, insert, original, titles
from tests.support.database_fixtures import execute
from tests.support.server_process import server_process, wait_until

__all__ = ["house", "original"]  # fixtures

BASE = ["before the backup", "first", "second"]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")


def destroy(house: House) -> None:
    shutil.rmtree(house.cluster)


def test_a_destroyed_database_comes_back_as_it_was_last(house: House) -> None:
    destroy(house)
    done = house.restore()
    assert (done.timestamp, done.users, done.tasks, done.sessions) == (None, 1, 3, 2)
    assert done.aside is None
    assert house.titles() == BASE


def test_every_moment_can_be_restored_also_one_that_an_earlier_restore_undid(house: House) -> None:
    third, fourth = house.write("third", "fourth")
    destroy(house)
    assert house.restore(third).tasks == len([*BASE, "third"])
    (_, sixth) = house.write("fifth", "sixth")
    assert house.restore(fourth).tasks == len([*BASE, "third", "fourth"])
    assert house.titles() == [*BASE, "third", "fourth"]
    house.back_up()
    assert house.restore(sixth).tasks == len([*BASE, "third", "fifth", "sixth"])
    assert house.titles() == [*BASE, "third", "fifth", "sixth"]


def test_what_is_not_archived_yet_is_taken_from_the_cluster_that_is_replaced(house: House) -> None:
    house.archive.chmod(0o500)  # from now on nothing is archived
    house.write("third")
    house.archive.chmod(0o700)
    done = house.restore()
    assert house.titles() == [*BASE, "third"]
    assert done.aside
    assert (done.aside / "PG_VERSION").exists()


def test_a_moment_after_which_nothing_was_changed_can_be_restored(house: House) -> None:
    async def scenario() -> datetime:
        async with database_server(house.settings()) as url:
            insert(url, "third")
            timestamp = datetime.now(UTC)
            await asyncio.sleep(1.1)  # the archive notes whole seconds
            execute(url, "SELECT pg_create_restore_point('something that is no change')")
        return timestamp

    timestamp = asyncio.run(scenario())
    destroy(house)
    assert house.restore(timestamp).tasks == 4


def refused(house: House, timestamp: datetime | None = None) -> str:
    """Be refused to restore, with everything as it was before, and give the reason."""
    before = sorted(house.data_dir.iterdir())
    inode = house.cluster.stat().st_ino
    with pytest.raises(BackupError) as caught:
        house.restore(timestamp)
    assert sorted(house.data_dir.iterdir()) == before
    assert house.cluster.stat().st_ino == inode
    return str(caught.value)


def remove_all(house: House) -> None:
    shutil.rmtree(house.data_dir / "backups")


def remove_wal(house: House) -> None:
    for path in house.wal:
        path.unlink()
    shutil.rmtree(house.cluster / "pg_wal")
    (house.cluster / "pg_wal").mkdir()


def make_gap(house: House) -> None:
    house.write("third")
    house.wal[-2].unlink()
    for path in (house.cluster / "pg_wal").glob("0*"):
        path.unlink()


def tear_wal(house: House) -> None:
    house.wal[-1].write_bytes(house.wal[-1].read_bytes()[:-20])


def flip_base(house: House) -> None:
    flip(house.backups[0].path / "base.tar.gz")


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
    house: House,
    damage: Callable[[House], None] | None,
    age: timedelta | None,
    reason: str,
) -> None:
    if damage:
        damage(house)
    timestamp = None if age is None else datetime.now(UTC) - age
    assert reason in refused(house, timestamp)


def test_a_running_server_is_not_restored_under(house: House) -> None:
    async def scenario() -> None:
        async with database_server(house.settings()) as url:
            with pytest.raises(DataFolderInUse, match="Stop that one first"):
                await restore_embedded(house.settings())
            assert titles(url) == BASE

    asyncio.run(scenario())


def test_a_restore_that_was_cut_off_is_completed_or_forgotten(house: House) -> None:
    house.cluster.rename(house.data_dir / "postgres.restored")
    (house.data_dir / "restore" / "postgres").mkdir(parents=True)
    assert house.titles() == BASE  # the start renamed it
    shutil.copytree(house.cluster, house.data_dir / "postgres.restored")
    assert house.restore().tasks == 3
    names = {path.name.partition("-")[0] for path in house.data_dir.iterdir()}
    assert not {"restore", "postgres.restored"} & names


def test_a_killed_restore_has_touched_nothing(house: House) -> None:
    with server_process(house.data_dir, "restore") as process:
        wait_until((house.data_dir / "restore/postgres/pg_wal").exists)
        process.end(signal.SIGKILL)
    assert house.titles() == BASE
    assert house.restore().tasks == 3
    assert not (house.data_dir / "restore").exists()


def test_archiving_goes_on_after_a_restore_on_a_timeline_of_its_own(house: House) -> None:
    house.restore()
    house.write("third")
    assert (house.archive / "00000002.history.gz").exists()
    assert house.wal[-1].name.startswith("00000002")
    destroy(house)
    house.restore()
    assert house.titles() == [*BASE, "third"]


@needs_root
def test_a_restored_cluster_belongs_to_whom_the_old_one_belonged_to(house: House) -> None:
    for path in [house.cluster, *house.cluster.rglob("*"), house.data_dir / "socket"]:
        os.chown(path, 65534, 65534)
    house.restore()
    assert {path.stat().st_uid for path in house.cluster.rglob("*")} == {65534}
    assert house.titles() == BASE
