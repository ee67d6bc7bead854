"""The real `server.py` as a process: it starts, stops, and gets over what is done to it."""

import asyncio
import os
import random
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import uuid4

import pytest

from taskapp.postgres.server import EmbeddedPostgres
from tests.auth.test_rate_limits import redis_server
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import writing
from tests.support.database_fixtures import execute, is_waited_for, locked_tasks
from tests.support.server_process import (
    LONG_ENOUGH,
    Client,
    NoResponse,
    Response,
    ServerProcess,
    new_data_folder,
    ordinary_user,
    postgres_processes,
    postmaster_of,
    processor_share,
    reserved_port,
    server_process,
    stopped_processes,
    wait_until,
)

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT]
SHORT_DRAIN = ("handlers.web_server", "DRAIN_TIMEOUT", 0.5)
LONG_INTERVAL = ("taskapp.runtime.startup", "RETRY_INTERVAL", 60.0)
STARTED_IN = 5.0  # seconds that a start on an existing folder may take, if nothing else runs
BIND_SOCKETS = "ignore::ResourceWarning"  # Tornado's leaves a socket to the garbage collector
OLD_KEY, NEW_KEY = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
JSON = "application/json"


@pytest.fixture(scope="module")
def data_folder() -> Iterator[Path]:
    """A data folder that was in use before; the tests share it, which is quicker than initdb."""
    with new_data_folder() as folder:
        with server_process(folder) as server:
            server.wait_until_ready()
            server.end()
        yield folder


def somebody() -> str:
    return f"{uuid4().hex}@example.com"


def measure_start(server: ServerProcess) -> float:
    """Wait until the server is ready, and return the seconds that it takes if nothing else runs."""
    started = time.monotonic()
    server.wait_until_ready()
    return (time.monotonic() - started) * processor_share(server.pid)


def add(client: Client, title: str, key: str = "") -> Response:
    headers = {"Idempotency_Key": key} if key else {}
    return client.send("POST", "/api/tasks", {"title": title}, **headers)


# Start


def test_the_first_start_answers_health_at_once_and_says_where_all_is(new_folder: Path) -> None:
    with server_process(new_folder) as server, server.client() as client:
        wait_until(lambda: bool(postgres_processes(new_folder)))
        with stopped_processes(lambda: postgres_processes(new_folder)):
            assert client.status("/api/health/live") == 200
            starting = client.send("GET", "/api/health/ready")
            assert (starting.status, starting.json) == (503, {"status": "starting"})
            assert client.send("GET", "/api/health").json["status"] == "unhealthy"
            assert server.said == ""
        server.wait_until_ready()
        assert client.send("GET", "/api/health").json["database"] == "connected"
        assert server.said.splitlines() == [
            f"Your data is in {new_folder}",
            "Ctrl-C stops it.",
            f"taskapp is ready at http://127.0.0.1:{server.address}",
        ]
        assert new_folder.stat().st_mode & 0o077 & ~0o011 == 0
        assert server.end() == 0
    with server_process(new_folder) as server:
        assert measure_start(server) < STARTED_IN


def test_with_a_postgresql_of_ones_own_none_is_started(database_url: str, new_folder: Path) -> None:
    with server_process(new_folder, settings={"TASKAPP_DATABASE_URL": database_url}) as server:
        assert measure_start(server) < STARTED_IN
        assert "Your data is in your PostgreSQL" in server.said
        assert postgres_processes(new_folder) == []
        assert [path.name for path in new_folder.iterdir()] == ["secret-key"]
        assert server.end() == 0
        assert server.complaints() == []


def test_a_postgresql_that_comes_late_is_waited_for_with_words(
    data_folder: Path, new_folder: Path
) -> None:
    postgres = EmbeddedPostgres(data_folder)

    more = {"TASKAPP_DATABASE_URL": postgres.url, "TASKAPP_DATABASE_POOL": "100"}
    with server_process(new_folder, settings=more) as server:
        wait_until(lambda: bool(server.complaints()))
        asyncio.run(_run_while(postgres, server.wait_until_ready))
        first, *_, last = server.complaints()
        assert "database.waiting" in first
        assert "cannot be reached" in first
        assert "allows this user 97 connections, and taskapp uses up to 103" in last


async def _run_while(postgres: EmbeddedPostgres, work: Callable[[], object]) -> None:
    await postgres.start()
    try:
        await asyncio.to_thread(work)
    finally:
        await postgres.stop()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_while_waiting_for_the_database_waits_for_nothing(
    new_folder: Path, number: int
) -> None:
    with reserved_port() as port:
        settings = {"TASKAPP_DATABASE_URL": f"postgresql://taskapp@127.0.0.1:{port}/postgres"}
        with server_process(new_folder, settings=settings, constant=LONG_INTERVAL) as server:
            wait_until(lambda: bool(server.complaints()))
            server.process.send_signal(number)
            assert server.idle_until_end() < 1
            assert server.process.wait() == 0


# Stop


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_says_so_finishes_what_was_begun_and_leaves_nothing_running(
    data_folder: Path, number: int
) -> None:
    url = EmbeddedPostgres(data_folder).url
    with server_process(data_folder) as server, ThreadPoolExecutor(1) as other:
        server.wait_until_ready()
        user = server.client().sign_up(somebody())
        watcher = server.client()
        assert watcher.status("/api/health/ready") == 200
        with locked_tasks(url):
            begun = other.submit(add, user, "begun before the signal")
            wait_until(lambda: is_waited_for(url))
            server.process.send_signal(number)
            wait_until(lambda: watcher.status("/api/health/ready") == 503)
        assert begun.result().status == 201
        assert server.idle_until_end() < 10
        assert server.process.wait() == 0
        assert "database system is shut down" in server.log_text
        assert server.log[-1]["event"] == "server.stopped"
        assert server.complaints() == []
        assert postgres_processes(data_folder) == []


def test_a_body_that_is_still_being_sent_at_the_stop_is_received_and_answered(
    data_folder: Path,
) -> None:
    with server_process(data_folder) as server:
        server.wait_until_ready()
        with server.client().sign_up(somebody()) as user:
            body = b'{"title": "sent slowly"}'
            head = (
                "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Authorization: Bearer {user.token}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            with socket.create_connection(("127.0.0.1", int(server.address))) as sender:
                sender.sendall(head.encode() + body[:5])
                assert user.status("/api/health/ready") == 200  # so the first half has arrived
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: user.status("/api/health/ready") != 200)
                sender.sendall(body[5:])
                assert sender.recv(100).startswith(b"HTTP/1.1 201 ")
            assert server.process.wait(LONG_ENOUGH) == 0
            assert server.complaints() == []


def test_an_answer_that_is_read_slowly_at_the_stop_is_sent_to_its_end(data_folder: Path) -> None:
    with server_process(data_folder) as server:
        server.wait_until_ready()
        with server.client().sign_up(somebody()) as user:
            for _ in range(100):
                user.send("POST", "/api/tasks", {"title": "long", "description": "€" * 10_000})
            with socket.socket() as reader:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                reader.connect(("127.0.0.1", int(server.address)))
                reader.sendall(
                    b"GET /api/tasks?limit=100 HTTP/1.1\r\nHost: localhost\r\n"
                    b"Authorization: Bearer " + user.token.encode() + b"\r\n\r\n"
                )
                start = reader.recv(20)
                server.process.send_signal(signal.SIGTERM)
                wait_until(lambda: user.status("/api/health/ready") != 200)
                rest = b"".join(iter(lambda: reader.recv(65536), b""))
            assert start.startswith(b"HTTP/1.1 200")
            assert rest.endswith(b'"nextCursor":null}')
            assert server.process.wait(LONG_ENOUGH) == 0
            assert server.complaints() == []


def test_a_request_that_hangs_is_cut_when_its_time_is_over(data_folder: Path) -> None:
    url = EmbeddedPostgres(data_folder).url
    with (
        server_process(data_folder, constant=SHORT_DRAIN) as server,
        ThreadPoolExecutor(1) as other,
    ):
        server.wait_until_ready()
        user = server.client().sign_up(somebody())
        with locked_tasks(url):
            hanging = other.submit(add, user, "hangs")
            wait_until(lambda: is_waited_for(url))
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(NoResponse):
                hanging.result()
        assert server.process.wait(LONG_ENOUGH) == 0
        assert "requests.cut" in server.complaints()[0]


def test_ctrl_c_reaches_the_whole_process_group_and_stops_as_cleanly(data_folder: Path) -> None:
    with server_process(data_folder, start_new_session=True) as server:
        server.wait_until_ready()
        os.killpg(server.pid, signal.SIGINT)
        assert server.process.wait(LONG_ENOUGH) == 0
        assert "database system is shut down" in server.log_text
        assert server.complaints() == []


def test_a_stop_under_load_loses_nothing_and_complains_of_nothing(data_folder: Path) -> None:
    with reserved_port() as port:
        settings = {"TASKAPP_PORT": str(port)}
        with server_process(data_folder, settings=settings) as server:
            server.wait_until_ready()
            with writing(server.address, random.Random(1)) as ledger:  # noqa: S311  # for no secret
                time.sleep(0.3)
                assert server.end() == 0
            assert {response.status for response in ledger.responses} <= {200, 201}
            assert server.complaints() == []
        with server_process(data_folder, settings=settings) as server:
            server.wait_until_ready()
            assert_all_is_well(ledger, EmbeddedPostgres(data_folder).url)


def test_a_stop_ends_a_start_that_is_still_making_the_database(new_folder: Path) -> None:
    with server_process(new_folder) as server:
        wait_until(lambda: bool(postgres_processes(new_folder)))
        with stopped_processes(lambda: postgres_processes(new_folder)):
            assert server.end() == 0
        assert server.log[-1]["event"] == "server.stopped"
        assert postgres_processes(new_folder) == []


def test_a_stop_does_not_wait_for_a_statement_that_hangs(data_folder: Path) -> None:
    with server_process(data_folder, constant=SHORT_DRAIN) as server:
        user = server.wait_until_ready().client().sign_up(somebody())
        postmaster = postmaster_of(data_folder)
        with stopped_processes(lambda: {*postgres_processes(data_folder)} - {postmaster}):
            with stopped_processes(lambda: [postmaster]):  # so that it makes no other backend
                hanging = user.connected()
                headers = {"Authorization": f"Bearer {user.token}", "Content-Type": JSON}
                hanging.request("POST", "/api/tasks", b'{"title": "hangs"}', headers)
                assert server.client().status("/api/health/live") == 200  # so it has arrived
                server.process.send_signal(signal.SIGTERM)
                with pytest.raises(ConnectionError):
                    hanging.getresponse()
            wait_until(lambda: "shutdown request" in server.log_text)
        assert server.process.wait(LONG_ENOUGH) == 0


# What stands in the way of a start


def test_a_port_that_is_taken_is_one_sentence_and_nothing_is_started(new_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with server_process(
            new_folder, settings={"TASKAPP_PORT": port}, forgiven=BIND_SOCKETS
        ) as server:
            assert server.process.wait(LONG_ENOUGH) == 1
            assert server.log_text == (
                f"Cannot listen on 127.0.0.1, port {port}: Address already in use. "
                "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT.\n"
            )
    assert not (new_folder / "postgres").exists()


def test_a_data_folder_in_use_is_a_sentence_that_names_the_process(data_folder: Path) -> None:
    with server_process(data_folder) as first:
        first.wait_until_ready()
        with server_process(data_folder) as second:
            assert second.process.wait(LONG_ENOUGH) == 1
            assert f"in use by process {first.pid}. Stop that one first" in second.log_text
            assert len(second.log_text.splitlines()) == 1
        assert first.client().status("/api/health/ready") == 200
        assert first.end() == 0


def test_too_few_open_files_are_a_sentence_and_few_a_warning(
    database_url: str, new_folder: Path
) -> None:
    settings = {"TASKAPP_DATABASE_URL": database_url}
    for limit, room in ((20, 0), (64, 0), (100, 26)):
        with server_process(
            new_folder,
            settings=settings,
            launcher=["sh", "-c", f'ulimit -n {limit} && exec "$@"', "sh", sys.executable],
        ) as server:
            if room:
                assert server.wait_until_ready().end() == 0
                assert f"'connections.limited', {room}, 'Raise the limit" in server.complaints()[0]
            else:
                assert server.process.wait(LONG_ENOUGH) == 1
                assert server.log_text.startswith(f"Cannot serve: this process may open {limit} ")


def test_wrong_settings_are_all_listed_at_once(new_folder: Path) -> None:
    wrong = {"TASKAPP_PORT": "99999", "TASKAPP_BCRYPT_ROUNDS": "99", "TASKAPP_PROT": "80"}
    with server_process(new_folder, settings=wrong) as server:
        assert server.process.wait(LONG_ENOUGH) == 2
        for name in wrong:
            assert f"{name}: " in server.log_text
        assert len(server.log_text.splitlines()) == len(wrong)
    assert not new_folder.exists()


def test_help_lists_the_commands_and_an_unknown_one_is_refused(new_folder: Path) -> None:
    with server_process(new_folder, "--help") as server:
        assert server.process.wait(LONG_ENOUGH) == 0
        for command in ("serve", "migrate", "settings", "user", "sessions", "doctor"):
            assert f"\n  {command} " in server.said
    with server_process(new_folder, "sreve") as server:
        assert server.process.wait(LONG_ENOUGH) == 2
        assert "No such command 'sreve'" in server.log_text
    assert not new_folder.exists()


def test_a_stop_closes_the_connections_to_redis(database_url: str, new_folder: Path) -> None:
    new_folder.mkdir()
    settings = {
        "TASKAPP_DATABASE_URL": database_url,
        "TASKAPP_LIMIT_STORAGE": f"redis+unix://{new_folder}/redis.sock",
    }
    with (
        redis_server(new_folder),
        server_process(new_folder, settings=settings) as server,
    ):
        server.wait_until_ready().client().sign_up(somebody())
        assert server.end() == 0
        # What is left open is a line of Python's, here where its warnings are errors.
        assert "ResourceWarning" not in server.log_text


# Errors that the event loop is told of


def test_a_statement_that_postgresql_cancels_is_logged_without_a_traceback(
    database_url: str, new_folder: Path
) -> None:
    settings = {"TASKAPP_DATABASE_URL": database_url}
    with (
        server_process(new_folder, settings=settings) as server,
        ThreadPoolExecutor(1) as other,
    ):
        user = server.wait_until_ready().client().sign_up(somebody())
        with locked_tasks(database_url):
            waiting = other.submit(user.status, "/api/tasks")
            wait_until(lambda: is_waited_for(database_url))
            execute(
                database_url,
                "SELECT pg_cancel_backend(pid) FROM pg_stat_activity "
                "WHERE application_name = 'taskapp' AND wait_event_type = 'Lock'",
            )
            assert waiting.result(LONG_ENOUGH) == 503
        assert "database.refused" in server.complaints()[0]
        assert server.surprises() == []


# Several taskapps, and other users


def test_what_one_process_begins_and_ends_holds_on_the_other(
    database_url: str, new_folder: Path
) -> None:
    shared = {"TASKAPP_DATABASE_URL": database_url, "TASKAPP_SECRET_KEY": NEW_KEY}
    with (
        server_process(new_folder, settings=shared) as one,
        server_process(new_folder, settings=shared) as other,
    ):
        user = one.wait_until_ready().client().sign_up(somebody())
        other.wait_until_ready()
        same_user = other.client()
        same_user.token = user.token
        assert add(same_user, "from the other process").status == 201
        assert user.titles() == ["from the other process"]
        assert user.send("POST", "/api/auth/logout").status == 200
        assert same_user.status("/api/tasks") == 401


def test_a_new_key_logs_nobody_out_until_the_old_one_is_dropped(
    database_url: str, new_folder: Path
) -> None:
    user = Client("")
    for keys, email, expected in (
        (OLD_KEY, somebody(), 200),
        (f"{NEW_KEY},{OLD_KEY}", "", 200),
        (NEW_KEY, "", 401),
    ):
        settings = {"TASKAPP_DATABASE_URL": database_url, "TASKAPP_SECRET_KEY": keys}
        with server_process(new_folder, settings=settings) as server:
            user.moved_to(server.wait_until_ready().address)
            if email:
                user.sign_up(email)
            assert user.status("/api/tasks") == expected
            user.close()


def test_an_ordinary_user_runs_it_as_root_does(new_folder: Path) -> None:
    with ordinary_user(new_folder) as user:
        with server_process(new_folder, **user) as server:
            server.wait_until_ready().client().sign_up(somebody())
            assert server.end() == 0
            assert server.complaints() == []
        owners = {path.stat().st_uid for path in [new_folder, *new_folder.iterdir()]}
        assert owners == {user.get("user", os.getuid())}
