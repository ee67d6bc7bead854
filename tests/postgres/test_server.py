"""The PostgreSQL inside starts, stops, survives what kills it, and says what is in its way."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from taskapp.postgres.programs import EmbeddedPostgresError, preferred_programs
from taskapp.postgres.server import DataFolderInUse, EmbeddedPostgres, embedded_postgres
from tests.postgres.conftest import start_and_stop
from tests.support.environment import inherited_environment
from tests.support.server_process import (
    LONG_ENOUGH,
    NOBODY,
    ordinary_user,
    postgres_processes,
    postmaster_of,
    wait_until,
)

CHECKOUT = Path(__file__).parents[2]
# Owns a data folder until its standard input ends.
OWNER = """
import asyncio, sys
from pathlib import Path
from taskapp.postgres.server import embedded_postgres

async def own():
    async with embedded_postgres(Path(sys.argv[1])) as url:
        print(url, flush=True)
        await asyncio.to_thread(sys.stdin.read)

asyncio.run(own())
"""

STRANGER = 65533  # an id without an account

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has this case")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux has what this is about")


@pytest.fixture
def data_folder(used_folder: Path) -> Iterator[Path]:
    """A data folder that was in use before; its tests share it, which is quicker than initdb."""
    yield used_folder
    wait_until(lambda: not postgres_processes(used_folder))


@contextmanager
def owner(folder: Path, user: int | None = None) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", OWNER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=CHECKOUT,
        env=inherited_environment(measured=user is None),
        user=user,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def url_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def execute(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement, values or None)
        return cursor.fetchall() if cursor.description else []


def acknowledge_rows(url: str, until: Callable[[], bool]) -> list[int]:
    """Write rows until the server goes or it is enough; return those that were acknowledged."""
    acknowledged: list[int] = []
    with suppress(psycopg2.Error):
        execute(url, "CREATE TABLE IF NOT EXISTS numbers (number integer)")
        while not until():
            execute(url, "INSERT INTO numbers VALUES (%s)", len(acknowledged))
            acknowledged.append(len(acknowledged))
    return acknowledged


def rows(url: str) -> set[int]:
    return {number for (number,) in execute(url, "SELECT number FROM numbers")}


def test_data_survives_a_stop_and_a_start(new_folder: Path) -> None:
    async def scenario() -> None:
        async with embedded_postgres(new_folder) as url:
            written = acknowledge_rows(url, lambda: len(rows(url)) == 3)
        async with embedded_postgres(new_folder) as url:
            assert rows(url) == set(written)

    asyncio.run(scenario())


def test_the_server_is_durable_and_reached_by_its_private_socket_only(new_folder: Path) -> None:
    expected = {
        "data_checksums": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
        "server_encoding": "UTF8",
        "synchronous_commit": "on",
        "TimeZone": "UTC",
    }

    async def scenario() -> None:
        async with embedded_postgres(new_folder) as url:
            assert {name: execute(url, f"SHOW {name}")[0][0] for name in expected} == expected
            assert execute(url, "SELECT datlocale FROM pg_database LIMIT 1") == [("C.UTF-8",)]
            for private in ("postgres", "socket"):
                assert (new_folder / private).stat().st_mode & 0o777 == 0o700

    asyncio.run(scenario())


def test_a_clean_stop_leaves_no_process_and_no_word(data_folder: Path) -> None:
    with owner(data_folder) as process:
        url_of(process)
        _, complaints = process.communicate("")
        assert (process.returncode, complaints) == (0, "")
    assert postgres_processes(data_folder) == []
    assert not (data_folder / "postgres" / "postmaster.pid").exists()


@needs_linux
def test_killing_the_owner_stops_its_postgresql(data_folder: Path) -> None:
    with owner(data_folder) as process:
        url_of(process)
        assert postgres_processes(data_folder)
        process.kill()
        wait_until(lambda: not postgres_processes(data_folder))


def test_after_killing_the_owner_the_next_start_works_at_once(new_folder: Path) -> None:
    async def start_again() -> set[int]:
        async with embedded_postgres(new_folder) as url:
            return rows(url)

    with owner(new_folder) as process:
        url = url_of(process)
        acknowledged = acknowledge_rows(url, lambda: len(rows(url)) >= 20)
        process.kill()
        acknowledged_at_the_end = acknowledge_rows(url, lambda: False)
        found = asyncio.run(start_again())
    assert len(acknowledged) == 20
    assert found >= {*acknowledged, *acknowledged_at_the_end}


def has_started(cluster: Path) -> bool:
    """Return whether postmaster.pid says so, in its line 8 (PostgreSQL's pidfile.h)."""
    with suppress(FileNotFoundError, IndexError):
        return (cluster / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
    return False


def test_an_orphan_that_nothing_ended_is_ended_by_the_next_start(data_folder: Path) -> None:
    cluster, socket_folder = data_folder / "postgres", data_folder / "socket"
    postgres = preferred_programs(None).path("postgres")
    command: list[str | Path] = [postgres, "-D", cluster, "-h", "", "-k", socket_folder]
    user = cluster.stat().st_uid if os.geteuid() == 0 else None
    with subprocess.Popen(command, user=user, stderr=subprocess.DEVNULL) as orphan:
        # One that is ended while it starts exits with 1.
        wait_until(lambda: has_started(cluster))
        asyncio.run(start_and_stop(data_folder))
        assert orphan.wait(LONG_ENOUGH) == 0


def test_a_killed_postmaster_comes_back_by_itself_with_all_that_was_acknowledged(
    new_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        async with embedded_postgres(new_folder) as url:
            for _ in range(2):
                acknowledged = acknowledge_rows(url, lambda: len(rows(url)) >= 3)
                killed = postmaster_of(new_folder)
                os.kill(killed, signal.SIGKILL)
                await asyncio.to_thread(wait_until, lambda: _responses(url))
                assert postmaster_of(new_folder) != killed
                assert rows(url) >= set(acknowledged)

    asyncio.run(scenario())
    assert "ended unexpectedly (signal SIGKILL)" in caplog.text


def _responses(url: str) -> bool:
    with suppress(psycopg2.OperationalError):
        return bool(execute(url, "SELECT 1"))
    return False


def test_a_second_owner_is_told_who_holds_the_folder(data_folder: Path) -> None:
    with owner(data_folder) as process:
        url = url_of(process)
        with pytest.raises(DataFolderInUse, match=rf"in use by process {process.pid}\. Stop that"):
            asyncio.run(start_and_stop(data_folder))
        assert _responses(url)


def test_sharing_waits_for_the_server_of_another_process_and_leaves_it_running(
    new_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.postgres.server._SHARE_TIMEOUT", LONG_ENOUGH)

    async def share() -> tuple[str, int]:
        async with embedded_postgres(new_folder, share=True) as url:
            return url, postmaster_of(new_folder)

    with owner(new_folder) as process:
        wait_until((new_folder / "postgres.new").exists)
        shared, postmaster = asyncio.run(share())
        assert (shared, postmaster) == (url_of(process), postmaster_of(new_folder))
        assert _responses(shared)


def test_a_command_ends_when_those_that_share_its_server_have_ended(data_folder: Path) -> None:
    first_is_there, first_is_done, second_is_there = (asyncio.Event() for _ in range(3))

    async def first() -> None:
        async with embedded_postgres(data_folder, share=True):
            first_is_there.set()
            await second_is_there.wait()
        first_is_done.set()

    async def second() -> None:
        await first_is_there.wait()
        async with embedded_postgres(data_folder, share=True) as url:
            second_is_there.set()
            await asyncio.sleep(0.5)  # the first would end meanwhile
            assert not first_is_done.is_set()
            assert _responses(url)

    async def scenario() -> None:
        await asyncio.gather(first(), second())

    asyncio.run(scenario())
    assert postgres_processes(data_folder) == []


def test_sharing_starts_and_stops_a_server_where_there_is_none(data_folder: Path) -> None:
    async def scenario() -> None:
        async with embedded_postgres(data_folder, share=True) as url:
            assert _responses(url)

    asyncio.run(scenario())
    assert postgres_processes(data_folder) == []


def test_a_start_after_an_interrupted_initdb_begins_anew(new_folder: Path) -> None:
    with owner(new_folder) as process:
        wait_until((new_folder / "postgres.new" / "base").exists)
        process.kill()
        asyncio.run(start_and_stop(new_folder))
    assert not (new_folder / "postgres.new").exists()


def test_a_cancelled_start_leaves_nothing_behind(new_folder: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await EmbeddedPostgres(new_folder).start()
        assert postgres_processes(new_folder) == []
        await start_and_stop(new_folder)

    asyncio.run(scenario())


@pytest.mark.parametrize("kind", ["stranger", "zombie"])
def test_the_traces_of_a_killed_server_do_not_block(data_folder: Path, kind: str) -> None:
    cluster = data_folder / "postgres"
    user = cluster.stat().st_uid if os.geteuid() == 0 else None
    lasting = "60" if kind == "stranger" else "0"
    with subprocess.Popen(["sleep", lasting], user=user) as process:
        if kind == "zombie":
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        trace = f"{process.pid}\n{cluster}\n1700000000\n5432\n{data_folder / 'socket'}\n"
        for path in (cluster / "postmaster.pid", data_folder / "socket" / ".s.PGSQL.5432.lock"):
            path.write_text(trace)
            os.chown(path, cluster.stat().st_uid, -1)
        asyncio.run(start_and_stop(data_folder))
        process.kill()


def test_a_socket_path_that_is_too_long_is_refused_with_its_length(new_folder: Path) -> None:
    with pytest.raises(EmbeddedPostgresError, match=r"is 1\d\d bytes long.*TASKAPP_DATA_DIR"):
        asyncio.run(start_and_stop(new_folder / ("x" * 90)))


def test_a_cluster_of_another_version_is_refused_by_name(data_folder: Path) -> None:
    version = data_folder / "postgres" / "PG_VERSION"
    # None of these is taken from the machine.
    for other, why in (("14", "which is too old"), ("19", "and .* PostgreSQL 18")):
        version.write_text(f"{other}\n")
        said = f"made by PostgreSQL {other}, {why}"
        with pytest.raises(EmbeddedPostgresError, match=said):
            asyncio.run(start_and_stop(data_folder))
    version.write_text("18\n")


def test_a_failed_start_gives_the_last_words_and_lets_go_of_the_folder(data_folder: Path) -> None:
    override = data_folder / "postgres" / "postgresql.auto.conf"
    override.write_text("shared_buffers = 'nonsense'\n")
    with pytest.raises(EmbeddedPostgresError, match=r"while it was starting .*shared_buffers"):
        asyncio.run(start_and_stop(data_folder))
    override.write_text("")
    asyncio.run(start_and_stop(data_folder))


def test_a_server_that_fails_to_come_back_is_tried_again(
    data_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    override = data_folder / "postgres" / "postgresql.auto.conf"

    async def scenario() -> None:
        async with embedded_postgres(data_folder) as url:
            override.write_text("shared_buffers = 'nonsense'\n")
            os.kill(postmaster_of(data_folder), signal.SIGKILL)
            await asyncio.to_thread(wait_until, lambda: "while it was starting" in caplog.text)
            override.write_text("")
            await asyncio.to_thread(wait_until, lambda: _responses(url))

    asyncio.run(scenario())


@pytest.mark.parametrize("hanging", [lambda folder: [postmaster_of(folder)], postgres_processes])
def test_a_server_that_does_not_react_is_ended_by_force_with_all_its_processes(
    data_folder: Path, monkeypatch: pytest.MonkeyPatch, hanging: Callable[[Path], list[int]]
) -> None:
    signals = [(signal.SIGINT, 0.2), (signal.SIGQUIT, 0.2), (signal.SIGKILL, LONG_ENOUGH)]
    monkeypatch.setattr("taskapp.postgres.processes._QUIET_SHUTDOWNS", signals)

    async def scenario() -> None:
        async with embedded_postgres(data_folder):
            for pid in hanging(data_folder):
                os.kill(pid, signal.SIGSTOP)
        assert postgres_processes(data_folder) == []
        await start_and_stop(data_folder)

    asyncio.run(scenario())


def test_a_data_folder_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedPostgresError, match=r"can't run in the data folder .*file"):
        asyncio.run(start_and_stop(tmp_path / "file"))


def test_the_log_holds_nothing_that_people_wrote(
    data_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def scenario() -> None:
        async with embedded_postgres(data_folder) as url:
            execute(url, "CREATE TABLE people (email text UNIQUE, age integer)")
            execute(url, "INSERT INTO people VALUES ('ada@example.com')")
            for value in ("'ada@example.com'", "'bob', 'ada@example.com'"):
                with pytest.raises(psycopg2.Error):
                    execute(url, f"INSERT INTO people VALUES ({value})")  # noqa: S608  # on purpose
            crash = "SELECT 'ada@example.com', pg_sleep(60)"
            with pytest.raises(psycopg2.Error):
                await asyncio.to_thread(_killed_while, url, crash)

    asyncio.run(scenario())
    assert "was terminated by signal 9" in caplog.text
    assert "ada@" not in caplog.text


def _killed_while(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        pid = connection.get_backend_pid()
        command = f"sleep 0.2; kill -9 {pid}"
        with subprocess.Popen(["sh", "-c", command]):
            cursor.execute(statement)


@needs_linux
def test_an_owner_that_reads_no_log_does_not_block_postgresql(data_folder: Path) -> None:
    chatter = "DO $$ BEGIN FOR i IN 1..20000 LOOP RAISE LOG '%', repeat('x', 100); END LOOP; END $$"
    with owner(data_folder) as process:
        url = url_of(process)
        process.send_signal(signal.SIGSTOP)
        execute(f"{url}&options=-cstatement_timeout%3D{LONG_ENOUGH:.0f}s", chatter)


@needs_root
def test_root_opens_only_what_its_user_needs(
    new_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    asyncio.run(start_and_stop(new_folder))
    assert f"pass through {new_folder.parent}, {new_folder}" in caplog.text
    for folder in (new_folder, new_folder.parent):
        assert folder.stat().st_mode & 0o067 == 0  # of the mask, search alone
        with pytest.raises(subprocess.CalledProcessError):
            subprocess.run(["ls", folder / "socket"], user=NOBODY.uid, check=True)


@pytest.fixture
def nobody_folder(new_folder: Path) -> Iterator[Path]:
    """A data folder of an ordinary user, who can run this Python and this checkout."""
    with ordinary_user(new_folder):
        yield new_folder


@needs_root
@needs_linux
def test_an_ordinary_user_runs_it_and_root_may_after_that(nobody_folder: Path) -> None:
    for user in (NOBODY.uid, None, NOBODY.uid):
        with owner(nobody_folder, user) as process:
            assert _responses(url_of(process))
            _, complaints = process.communicate("")
            assert (process.returncode, complaints) == (0, "")
    assert (nobody_folder / "postgres").stat().st_uid == NOBODY.uid


@needs_root
def test_a_cluster_that_root_copied_there_is_given_back_to_its_user(data_folder: Path) -> None:
    user = (data_folder / "postgres").stat().st_uid
    subprocess.run(["chown", "-R", "0:0", data_folder], check=True)
    asyncio.run(start_and_stop(data_folder))
    assert (data_folder / "postgres" / "base").stat().st_uid == user


@needs_root
@needs_linux
def test_an_ordinary_user_is_told_that_the_folder_is_another_ones(nobody_folder: Path) -> None:
    folder = nobody_folder.with_name("of-root")
    asyncio.run(start_and_stop(folder))
    with owner(folder, NOBODY.uid) as process:
        _, complaints = process.communicate("")
    assert "can't be used by this user" in complaints


@needs_root
@needs_linux
@pytest.mark.parametrize("user", [NOBODY.uid, None], ids=["nobody", "root"])
def test_a_process_of_another_user_with_the_name_of_postgresql_is_left_alone(
    nobody_folder: Path, user: int | None
) -> None:
    with owner(nobody_folder, user) as process:
        [(name,)] = execute(url_of(process), "SHOW cluster_name")
        process.communicate("")
    with subprocess.Popen(
        [f"postgres: {name}", "600"], executable="/bin/sleep", user=STRANGER, cwd=nobody_folder.root
    ) as pretender:
        try:
            with owner(nobody_folder, user) as process:
                assert _responses(url_of(process))
                _, complaints = process.communicate("")
            assert (process.returncode, complaints) == (0, "")
            assert pretender.poll() is None
        finally:
            pretender.kill()
