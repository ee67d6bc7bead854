"""A folder of backups that is shared, renamed, copied, damaged or from the future."""

import asyncio
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from taskapp.backups.catalog import CLOCK_TOLERANCE, Catalog, read_catalog
from taskapp.backups.create import find_leftovers
from taskapp.backups.identity import read_identity
from taskapp.backups.repository import DESCRIPTION, BackupError
from taskapp.backups.status import BackupStatus
from taskapp.backups.verify import verify_backup
from taskapp.doctor.backups import check_backups
from taskapp.doctor.check_results import Level
from tests.support.backup_tools import (
    Instance,
    change_description,
    instance,
    make_backup_folder,
    original,
    short_parent,
)

__all__ = ["instance", "original"]  # fixtures

OURS, THEIRS = "1/postgres", "2/postgres"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one backup of ours, of two hours ago."""
    return make_backup_folder(tmp_path, OURS, age=2 / 24).parent


def newest(folder: Path, database: str | None = OURS) -> str:
    catalog = read_catalog(folder, database)
    return catalog.routine[0].name if catalog.routine else ""


def add_nothing(folder: Path) -> None:
    pass


def add_theirs(folder: Path) -> None:
    make_backup_folder(folder.parent, THEIRS, age=0)


def add_future(folder: Path) -> None:
    make_backup_folder(folder.parent, OURS, age=-3650)


def add_renamed(folder: Path) -> None:
    theirs = make_backup_folder(folder.parent, THEIRS, age=0)
    theirs.rename(folder / "monday")


def add_without_description(folder: Path) -> None:
    (folder / "20361126T030000.000000Z-base").mkdir()


def add_file(folder: Path) -> None:
    (folder / "20361126T030000.000000Z-dump").write_text("a file")


def add_dangling_link(folder: Path) -> None:
    (folder / "20361126T030000.000000Z-base").symlink_to("/nowhere")


def add_link_to_itself(folder: Path) -> None:
    (folder / "20361126T030000.000000Z-base").symlink_to("20361126T030000.000000Z-base")


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "20361126T030000.000000Z-base")


def describe_by(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        description = make_backup_folder(folder.parent, OURS, age=-1) / DESCRIPTION
        description.unlink()
        make(description)

    return add


def make_socket(path: Path) -> None:
    os.mknod(path, stat.S_IFSOCK | 0o600)  # bound to a socket, a path may have 107 bytes


def make_huge_file(path: Path) -> None:
    path.touch()
    os.truncate(path, 1024**4)


def add_rubbish(folder: Path) -> None:
    (folder / ".DS_Store").write_bytes(b"\0")
    (folder / "lost+found").mkdir(mode=0)
    (folder / "._20361126T030000.000000Z-base").write_bytes(b"\0")
    (folder / "x.partial").write_text("a download of somebody's")
    (folder / "2036-base").mkdir()
    (folder / "wal-x").write_text("")


def describe_as(content: object) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        made = make_backup_folder(folder.parent, OURS, age=-1)
        text = content if isinstance(content, str) else json.dumps(content)
        (made / DESCRIPTION).write_text(text)

    return add


def describe_with(**members: object) -> Callable[[Path], None]:
    def add(folder: Path) -> None:
        change_description(make_backup_folder(folder.parent, OURS, age=0), **members)

    return add


STRANGE = {
    "nothing": add_nothing,
    "of another database": add_theirs,
    "from the future": add_future,
    "renamed, of another database": add_renamed,
    "no description": add_without_description,
    "a file": add_file,
    "a link to nowhere": add_dangling_link,
    "a link to itself": add_link_to_itself,
    "rubbish": add_rubbish,
    "a pipe": add_pipe,
    "a pipe as description": describe_by(os.mkfifo),
    "a socket as description": describe_by(make_socket),
    "a folder as description": describe_by(Path.mkdir),
    "an endless description": describe_by(lambda path: path.symlink_to("/dev/zero")),
    "a huge description": describe_by(make_huge_file),
    "a deep description": describe_as('{"a":' + "[" * 100_000 + "]" * 100_000 + "}"),
    "empty description": describe_as(""),
    "half a description": describe_as('{"kind": "dump", "time'),
    "no object": describe_as([1, 2]),
    "no members": describe_as({}),
    "NUL": describe_as("\0" * 100),
    "no time": describe_with(timestamp=None),
    "a time without zone": describe_with(timestamp="2026-11-26T03:00:00"),
    "a time at the end of time": describe_with(timestamp="9999-12-31T23:59:59-14:00"),
    "another kind": describe_with(kind="tape"),
    "no files": describe_with(files={}),
    "files elsewhere": describe_with(files={"../database.dump": "x", "database.dump": "x"}),
    "tables that are none": describe_with(tables=[1]),
    "a base without WAL": describe_with(kind="base"),
}


@pytest.mark.parametrize("add", STRANGE.values(), ids=STRANGE.keys())
def test_what_lies_in_the_folder_besides_hides_no_backup(
    folder: Path, add: Callable[[Path], None]
) -> None:
    expected = newest(folder)
    assert expected
    add(folder)
    assert newest(folder) == expected


@pytest.mark.parametrize("add", STRANGE.values(), ids=STRANGE.keys())
def test_what_lies_in_the_folder_alone_is_no_backup_of_ours(
    folder: Path, add: Callable[[Path], None]
) -> None:
    shutil.rmtree(next(folder.iterdir()))
    add(folder)
    assert newest(folder) == ""
    assert read_catalog(folder, OURS).is_due(3600)


SILENT = {"nothing", "of another database", "renamed, of another database", "rubbish"}


@pytest.mark.parametrize("name", STRANGE)
def test_what_does_not_count_and_should_is_named(folder: Path, name: str) -> None:
    STRANGE[name](folder)
    problems = read_catalog(folder, OURS).problems()
    assert len(problems) == (0 if name in SILENT else 1), problems
    assert all(str(folder) in problem for problem in problems)


def test_a_clock_that_is_a_little_ahead_is_no_future(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    folder = make_backup_folder(tmp_path, OURS, age=0).parent
    minute = timedelta(minutes=1)
    for ahead, counts in ((CLOCK_TOLERANCE - minute, True), (CLOCK_TOLERANCE + minute, False)):
        assert bool(read_catalog(folder, OURS, now - ahead).own) is counts


def test_a_renamed_or_copied_backup_counts_and_is_never_rotated(folder: Path) -> None:
    made = next(folder.iterdir())
    shutil.copytree(made, folder / "a copy")
    shutil.copytree(made, folder / "20200101T000000.000000Z-dump")
    (folder / "20200102T000000.000000Z-dump").symlink_to(made)
    catalog = read_catalog(folder, OURS)
    assert len(catalog.own) == 4
    assert [backup.name for backup in catalog.own if backup.is_rotated] == [made.name]


def refuse(ask: Callable[[], object]) -> str:
    with pytest.raises(BackupError) as caught:
        ask()
    return str(caught.value)


def test_a_restore_without_a_name_takes_this_database_or_asks(folder: Path) -> None:
    def chosen(database: str | None, *, is_empty: bool) -> Catalog:
        return read_catalog(folder, database).for_restore(is_empty=is_empty)

    assert chosen(None, is_empty=True).database == OURS
    assert chosen(OURS, is_empty=False).own
    said = refuse(lambda: chosen(THEIRS, is_empty=False))
    assert f"is of this database ({THEIRS}); there are some of {OURS}" in said
    make_backup_folder(folder.parent, THEIRS, age=0)
    assert [backup.database for backup in chosen(OURS, is_empty=False).own] == [OURS]
    assert "of several databases" in refuse(lambda: chosen(None, is_empty=True))
    assert read_catalog(folder, None).of("2").database == THEIRS
    assert "no backup of the database 3" in refuse(lambda: read_catalog(folder, OURS).of("3"))


# Two taskapps on one disk


@pytest.fixture
def neighbours(instance: Instance) -> Iterator[tuple[Instance, Instance]]:
    """Alice's instance with its backups, and Bob's with an account, which has the same folder."""
    with short_parent() as parent:
        bob = Instance(parent / "data", instance.data_dir / "backups")
        bob.fill()
        bob.write("of Bob")
        yield instance, bob


def test_of_two_databases_in_one_folder_each_gets_its_own(
    neighbours: tuple[Instance, Instance],
) -> None:
    alice, bob = neighbours
    assert BackupStatus(alice.settings()).inspect().newest
    assert BackupStatus(bob.settings()).inspect().newest is None
    assert BackupStatus(bob.settings()).inspect().is_due
    assert asyncio.run(check_backups(bob.settings()))[0].level is Level.INFO
    with pytest.raises(BackupError, match="is of this database"):
        bob.restore()
    with pytest.raises(BackupError, match="is of this database"):
        asyncio.run(verify_backup(bob.settings()))
    assert bob.titles() == ["of Bob"]
    bob.back_up(BACKUP_KEEP="1")
    bob.write("later")
    alice.write("third")
    alice.restore()
    bob.restore()
    assert alice.titles() == ["before the backup", "first", "second", "third"]
    assert bob.titles() == ["of Bob", "later"]


def test_who_restores_a_neighbours_backup_lives_apart_from_it(
    neighbours: tuple[Instance, Instance],
) -> None:
    alice, bob = neighbours
    system = read_identity(alice.cluster)
    bob.restore(database=system)
    assert bob.titles() == ["before the backup", "first", "second"]
    assert read_identity(bob.cluster).startswith(f"{system}.")
    bob.write("Bob's")
    bob.back_up()
    bob.write("Bob's second")
    alice.write("Alice's")
    shutil.rmtree(alice.cluster)  # not even then is Bob's timeline taken for hers
    with pytest.raises(BackupError, match="of several databases"):
        alice.restore()
    alice.restore(database=system)
    assert alice.titles() == ["before the backup", "first", "second", "Alice's"]
    bob.restore()
    assert bob.titles() == ["before the backup", "first", "second", "Bob's", "Bob's second"]


def test_a_database_begun_anew_has_no_backup_yet(instance: Instance) -> None:
    shutil.rmtree(instance.cluster)
    instance.fill()
    status = BackupStatus(instance.settings())
    report = status.inspect()
    assert (report.newest, report.is_due, status.state()) == (None, True, "none")
    with pytest.raises(BackupError, match="is of this database"):
        instance.restore()
    made = instance.back_up()
    assert [backup.name for backup in instance.backups if backup.database == made.database] == [
        made.name
    ]


def test_a_copy_of_a_database_that_archives_in_the_same_place_is_noticed(
    instance: Instance,
) -> None:
    with short_parent() as parent:
        copy = instance.copied_to(parent)
        copy.backup_dir = instance.data_dir / "backups"
        instance.write("of the original")
        copy.write("of the copy")
        report = BackupStatus(copy.settings()).inspect()
        assert any("a copy of this database archives there too" in why for why in report.failures)
        assert not BackupStatus(instance.settings()).inspect().failures


@pytest.mark.parametrize("is_ahead", [True, False], ids=["the copy is ahead", "it is behind"])
def test_a_restore_never_takes_the_data_of_a_copy_for_its_own(
    instance: Instance, *, is_ahead: bool
) -> None:
    """Whether the archive holds more than the database has written, or something else."""
    instance.write("of both")  # and its PostgreSQL may write to the archive from now on
    with short_parent() as parent:
        copy = instance.copied_to(parent)
        copy.backup_dir = instance.data_dir / "backups"
        copy.write("of the copy")
        if is_ahead:
            copy.write("of the copy too")
        else:
            instance.write("of the original", "of the original too")
        for timestamp in (None, datetime.now(UTC)):
            with pytest.raises(BackupError, match="a copy of") as refused:
                instance.restore(timestamp)
        present = instance.titles()
        assert "of the copy" not in present
        identity = read_identity(instance.cluster)
        assert f"--database {identity}/postgres" in str(refused.value)
        instance.restore(database=identity)
        copied = ["of the copy", "of the copy too"] if is_ahead else ["of the copy"]
        shared = ["before the backup", "first", "second", "of both"]
        assert instance.titles() == [*shared, *copied]


# Rotation, with strangers


def test_a_renamed_backup_can_be_restored_when_its_neighbours_have_been_rotated(
    instance: Instance,
) -> None:
    (first,) = instance.backups
    first.path.rename(first.path.with_name("keep-base"))
    instance.write("third")
    made = [instance.back_up(BACKUP_KEEP="1") for _ in range(2)]
    assert {backup.name for backup in instance.backups} == {"keep-base", made[-1].name}
    assert asyncio.run(verify_backup(instance.settings(), "keep-base")).rows == 5
    instance.restore(name="keep-base")
    assert instance.titles() == ["before the backup"]


def test_a_backup_from_the_future_neither_stops_backups_nor_pushes_real_ones_out(
    instance: Instance,
) -> None:
    (first,) = instance.backups
    ahead = (datetime.now(UTC) + timedelta(days=3650)).isoformat()
    change_description(first.path, timestamp=ahead)
    status = BackupStatus(instance.settings())
    assert status.inspect().is_due
    assert (status.age, status.state()) == (None, "none")
    results = asyncio.run(check_backups(instance.settings()))
    assert results[0].level is Level.PROBLEM
    assert "still to come" in results[0].text
    second = instance.back_up(BACKUP_KEEP="1")
    third = instance.back_up(BACKUP_KEEP="1")
    assert {backup.name for backup in instance.backups} == {first.name, third.name}
    assert second.name != third.name
    instance.write("third")
    instance.restore()
    assert instance.titles() == ["before the backup", "first", "second", "third"]


def test_a_damaged_base_is_passed_over_for_the_one_before_it(instance: Instance) -> None:
    second = instance.back_up()
    instance.write("third")
    (second.path / "base.tar.gz").write_bytes(b"")
    instance.restore()
    assert instance.titles() == ["before the backup", "first", "second", "third"]


def test_verify_names_what_is_damaged_beside_a_good_backup(instance: Instance) -> None:
    (instance.data_dir / "backups/20361126T030000.000000Z-base").mkdir()
    with pytest.raises(BackupError, match=r"is good, but: .* has no backup.json"):
        asyncio.run(verify_backup(instance.settings()))


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_a_file_of_a_backup_that_is_none_is_damaged(
    folder: Path, make: Callable[[Path], object]
) -> None:
    (backup,) = read_catalog(folder, OURS).own
    (backup.path / "database.dump").unlink()
    make(backup.path / "database.dump")
    assert backup.damage() == ["database.dump"]


def test_pipes_in_the_place_of_what_taskapp_keeps_block_nothing(instance: Instance) -> None:
    for name in ("backup-command", "backup-folder", "upgrade", "backups/wal-x"):
        (instance.data_dir / name).unlink(missing_ok=True)
        os.mkfifo(instance.data_dir / name)
    os.mkfifo(instance.data_dir / "backups/20361127T030000.000000Z-dump.partial")
    settings = instance.settings(BACKUP_COMMAND="true")
    assert not BackupStatus(settings).inspect().problems
    assert find_leftovers(settings) == []
    made = instance.back_up(BACKUP_COMMAND="true", BACKUP_KEEP="1")
    assert [backup.name for backup in instance.backups] == [made.name]
    assert (instance.data_dir / "backup-folder").is_file()  # so that the disk is missed


def test_strangers_leftovers_do_not_stop_a_backup(instance: Instance) -> None:
    folder = instance.data_dir / "backups"
    add_rubbish(folder)
    add_dangling_link(folder)
    (folder / "20361127T030000.000000Z-base.partial").symlink_to("/nowhere")
    (folder / "20361128T030000.000000Z-base.partial").write_text("a file")

    assert instance.back_up(BACKUP_KEEP="1").name in {backup.name for backup in instance.backups}
    assert (folder / "x.partial").exists()
    (folder / "lost+found").chmod(0o700)  # a user other than root could not remove it
