"""A start upgrades a cluster of Debian's PostgreSQL to the one that taskapp ships.

It does so wholly or not at all, and can be undone; what it cannot do it refuses with a way out.
"""

import asyncio
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapp.backups.create import read_own_catalog
from taskapp.backups.repository import BackupError
from taskapp.backups.verify import read_all, verify_backup
from taskapp.doctor.checks import check_database
from taskapp.postgres.programs import EmbeddedPostgresError, preferred_programs
from taskapp.runtime.database_server import database_server, prepare_database
from tests.deploy.postgres import PROGRAMS
from tests.support.backup_tools import Instance, flip, short_parent, titles
from tests.support.database_fixtures import execute
from tests.support.server_process import CHECKOUT, NOBODY, server_process, wait_until

BASE = ["before the backup", "first", "second"]
OLD, NEW = PROGRAMS.parent.name, str(preferred_programs(None).major)
DEBIAN = {"POSTGRESQL_BIN": str(PROGRAMS)}
# Starts as the server does, and is killed before the step whose number is given; without one, it
# writes the steps: each rename, and each program that is started.
KILLED = """
import asyncio, os, signal, sys
from taskapp.config.settings import load_settings
from taskapp.runtime.database_server import database_server

steps = []

def look(event, arguments):
    if event not in ("os.rename", "subprocess.Popen"):
        return
    words = arguments[:2] if event == "os.rename" else arguments[1]
    step = " ".join(os.fsdecode(word) for word in words).replace("\\n", " ")
    if not step.endswith("--version"):
        steps.append(step)
        if len(steps) == int(sys.argv[1]):
            os.kill(os.getpid(), signal.SIGKILL)

async def start():
    settings = load_settings({k: v for k, v in os.environ.items() if k.startswith("TASKAPP_")})
    sys.addaudithook(look)
    async with database_server(settings, upgrades=True):
        pass
    print("\\n".join(steps))

asyncio.run(start())
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")


@pytest.fixture(scope="module")
def old() -> Iterator[Instance]:
    """A data folder of Debian's PostgreSQL, with a backup and two later tasks."""
    with short_parent() as parent:
        instance = Instance(parent / "data", always=DEBIAN)
        instance.fill_and_back_up()
        yield instance


@pytest.fixture
def instance(old: Instance) -> Iterator[Instance]:
    """A copy of `old` for one test, which no longer names Debian's programs."""
    with short_parent() as parent:
        copy = old.copied_to(parent)
        copy.always = {}
        yield copy


@pytest.fixture
def only_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the programs of this machine."""
    monkeypatch.setattr("taskapp.postgres.programs._PLACES", ())
    monkeypatch.setenv("PATH", "/usr/bin:/bin")


def start(instance: Instance, **changes: str) -> list[str]:
    """Start the database as the server does, and return the titles of the tasks."""

    async def scenario() -> list[str]:
        settings = instance.settings(**changes)
        async with database_server(settings, upgrades=True) as url:
            await prepare_database(settings, url)
            return titles(url)

    return asyncio.run(scenario())


def major_of(cluster: Path) -> str:
    return (cluster / "PG_VERSION").read_text().strip()


def kept(instance: Instance) -> Path:
    return instance.data_dir / f"postgres-{OLD}"


def refused(instance: Instance, **changes: str) -> str:
    """Be refused at the start, with the old cluster as it was, and give the reason."""
    with pytest.raises((BackupError, EmbeddedPostgresError)) as caught:
        start(instance, **changes)
    assert major_of(instance.cluster) == OLD
    names = {path.name for path in instance.data_dir.iterdir()}
    assert not names & {"upgrade", "postgres.restored", f"postgres-{OLD}"}
    assert instance.titles() == BASE
    return str(caught.value)


# What the upgrade does


def test_the_server_upgrades_says_how_long_it_takes_and_backs_up_anew(instance: Instance) -> None:
    def tables() -> dict[str, tuple[int, str]]:
        async def scenario() -> dict[str, tuple[int, str]]:
            async with database_server(instance.settings()) as url:
                return await asyncio.to_thread(read_all, url)

        return asyncio.run(scenario())

    before = tables()  # by its own version: only a start upgrades
    assert major_of(instance.cluster) == OLD
    often = ("taskapp.jobs.backup_schedule", "MAX_CHECK_INTERVAL", 0.5)
    with server_process(instance.data_dir, constant=often) as server:
        server.wait_until_ready()
        client = server.client()
        wait_until(lambda: client.send("GET", "/api/health").json["backup"] == "current")
        lines = {line["event"]: line for line in server.log}
        assert server.end() == 0
    begun, done = lines["database.upgrading"], lines["database.upgraded"]
    assert (begun["before"].split(".")[0], begun["after"].split(".")[0]) == (OLD, NEW)
    assert begun["estimatedSeconds"] >= 1
    assert done["seconds"] > 0
    assert done["kept"] == str(kept(instance))
    assert (major_of(instance.cluster), major_of(kept(instance))) == (NEW, OLD)
    assert tables() == before  # sessions and tokens, too
    catalog = read_own_catalog(instance.settings())
    assert {backup.postgresql for backup in catalog.own} == {int(NEW)}
    dump, base = catalog.foreign
    assert dump.name.endswith(f"before-upgrade-to-{NEW}")
    assert (base.kind, base.postgresql) == ("base", int(OLD))
    assert start(instance) == BASE


def test_it_can_be_undone_by_two_renames(instance: Instance) -> None:
    assert start(instance) == BASE
    instance.write("after the upgrade")
    later = instance.data_dir / f"postgres-{NEW}"
    instance.cluster.rename(later)
    kept(instance).rename(instance.cluster)
    assert start(instance, **DEBIAN) == BASE
    assert instance.back_up(**DEBIAN).postgresql == int(OLD)
    assert len(read_own_catalog(instance.settings()).routine) == 2  # its backups go on
    assert start(instance) == BASE  # and it can be upgraded again
    assert {path.name for path in instance.data_dir.glob("postgres-*")} == {
        f"postgres-{OLD}",
        f"postgres-{NEW}",
    }


def test_an_earlier_one_that_is_still_kept_is_not_replaced(instance: Instance) -> None:
    kept(instance).mkdir()
    start(instance)
    assert [*kept(instance).iterdir()] == []
    (other,) = instance.data_dir.glob(f"postgres-{OLD}.before-*")
    assert major_of(other) == OLD


def test_a_cluster_without_tables_is_put_aside(instance: Instance) -> None:
    async def drop() -> None:
        async with database_server(instance.settings(**DEBIAN)) as url:
            execute(url, "DROP SCHEMA public CASCADE")
            execute(url, "CREATE SCHEMA public")

    asyncio.run(drop())
    assert start(instance) == []
    assert (major_of(instance.cluster), major_of(kept(instance))) == (NEW, OLD)


@needs_root
def test_the_new_cluster_belongs_to_whom_the_old_one_belonged_to(instance: Instance) -> None:
    for path in [instance.cluster, *instance.cluster.rglob("*"), instance.data_dir / "socket"]:
        os.chown(path, *NOBODY)
    assert start(instance) == BASE
    assert {path.stat().st_uid for path in instance.cluster.rglob("*")} == {NOBODY.uid}
    assert start(instance) == BASE


# Cut off


def killed_at(instance: Instance, step: int) -> str:
    """Start in a process that is killed before a step; return the steps if it came to its end."""
    environment = os.environ | dict(instance.settings().texts)
    command = [sys.executable, "-c", KILLED, str(step)]
    done = subprocess.run(
        command, env=environment, cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.stdout


def test_whenever_it_is_killed_the_old_one_or_the_new_one_is_whole(old: Instance) -> None:
    with short_parent() as parent:
        copy = old.copied_to(parent)
        copy.always = {}
        steps = killed_at(copy, 0).splitlines()
    programs = ("initdb", "pg_dump", "psql", "pg_restore", "/postgres.restored ", f"postgres-{OLD}")
    assert all(any(name in step for step in steps) for name in programs), steps
    for number in range(1, len(steps) + 1):
        with short_parent() as parent:
            copy = old.copied_to(parent)
            copy.always = {}
            assert killed_at(copy, number) == "", steps[number - 1]
            assert start(copy) == BASE, steps[number - 1]
            assert major_of(copy.cluster) == NEW
            assert major_of(kept(copy)) == OLD


def test_a_stop_ends_it_at_once_and_leaves_the_old_one(instance: Instance) -> None:
    with server_process(instance.data_dir) as server:
        wait_until(lambda: "database.upgrading" in server.log_text)
        assert server.end() == 0, server.log_text
        assert "database.upgraded" not in server.log_text
        assert server.surprises() == []
    assert major_of(instance.cluster) == OLD
    assert not (instance.data_dir / "upgrade").exists()
    assert start(instance) == BASE


# Refused


@pytest.mark.usefixtures("only_shipped")
def test_without_the_old_programs_it_is_refused_and_the_dump_is_the_way(
    instance: Instance,
) -> None:
    for begin in (start, Instance.titles):  # as the server, and as a command
        with pytest.raises(EmbeddedPostgresError) as caught:
            begin(instance)
        assert re.search(rf"made by PostgreSQL {OLD}, .* postgresql-{OLD}", str(caught.value))
        assert "restore --backup" in str(caught.value)
    assert major_of(instance.cluster) == OLD
    (base,) = instance.backups
    with pytest.raises(BackupError, match=rf"Its dump can be restored with --backup {base.name}"):
        instance.restore()  # to the last change, which no dump holds
    verified = asyncio.run(verify_backup(instance.settings()))
    assert (verified.backup, verified.rows, verified.is_started) == (base, 5, False)
    done = instance.restore(name=base.name)
    assert done.timestamp == base.timestamp
    assert instance.titles() == ["before the backup"]
    assert major_of(instance.cluster) == NEW
    assert done.aside
    assert major_of(done.aside) == OLD


def test_an_older_server_is_not_started_on_a_newer_cluster(instance: Instance) -> None:
    start(instance)
    with pytest.raises(EmbeddedPostgresError, match=f"made by PostgreSQL {NEW}, .* which is older"):
        start(instance, **DEBIAN)
    assert start(instance) == BASE


def test_other_databases_in_the_cluster_are_not_left_behind_in_silence(instance: Instance) -> None:
    def create(url: str) -> None:
        command = [str(PROGRAMS / "createdb"), "--maintenance-db", url, "of mine"]
        subprocess.run(command, check=True)

    async def scenario() -> None:
        async with database_server(instance.settings(**DEBIAN)) as url:
            await asyncio.to_thread(create, url)

    asyncio.run(scenario())
    said = refused(instance)
    assert 'also holds the databases "of mine", which are not taskapp\'s' in said
    assert f"set TASKAPP_POSTGRESQL_BIN to {PROGRAMS}" in said


def test_without_a_backup_before_it_nothing_is_changed(instance: Instance) -> None:
    nowhere = instance.data_dir / "secret-key"  # a file
    nowhere.touch()
    assert "could not be made" in refused(instance, BACKUP_DIR=str(nowhere / "backups"))


def test_a_disk_that_is_too_small_is_told_before_any_work(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("taskapp.backups.upgrade._size_of", lambda _cluster: 10**15)
        assert "It needs 931,322.6 GiB on the disk of" in refused(instance)
    assert len(instance.backups) == 1


def test_contents_that_differ_are_never_put_in_place(
    instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if a row had been lost on the way: the new cluster is emptied before it is compared."""

    def lose(url: str) -> dict[str, tuple[int, str]]:
        execute(url, "DELETE FROM tasks WHERE title = 'first'")
        return read_all(url)

    with monkeypatch.context() as patch:
        patch.setattr("taskapp.backups.upgrade.read_all", lose)
        assert "does not hold what the database held: tasks has 2 rows" in refused(instance)


# The backups of before


def test_backups_of_the_old_version_are_restored_by_its_programs_and_upgraded_at_the_start(
    instance: Instance,
) -> None:
    (third,) = instance.write("third")
    start(instance)
    instance.write("after the upgrade")
    base = next(backup for backup in instance.backups if backup.kind == "base")
    done = instance.restore(name=base.name)
    assert (done.tasks, major_of(instance.cluster)) == (1, OLD)
    assert start(instance) == ["before the backup"]
    assert major_of(instance.cluster) == NEW
    done = instance.restore(third, database=base.database)
    assert (done.tasks, major_of(instance.cluster)) == (4, OLD)
    assert start(instance) == [*BASE, "third"]


def test_doctor_says_what_the_next_start_does_and_what_is_kept(instance: Instance) -> None:
    def said() -> str:
        results = asyncio.run(check_database(instance.settings()))
        return "\n".join(f"{result.text} {result.fix}" for result in results)

    before = said()
    assert f"{OLD}." in before
    assert f"of {PROGRAMS}" in before
    assert re.search(rf"the next start upgrades the database to {NEW}\.\d+ It takes about", before)
    start(instance)
    after = said()
    assert re.search(rf"{NEW}\.\d+, of /", after)
    assert f"kept from before an upgrade: postgres-{OLD}" in after
    assert "next start" not in after


def test_a_damaged_dump_is_found_and_keeps_no_base_from_being_restored(instance: Instance) -> None:
    (base,) = instance.backups
    flip(base.path / "database.dump")
    with pytest.raises(BackupError, match=r"is damaged: database\.dump"):
        asyncio.run(verify_backup(instance.settings(**DEBIAN)))
    shutil.rmtree(instance.cluster)
    assert instance.restore().tasks == 3
