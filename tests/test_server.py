"""The real `server.py` as a process: it starts, stops, and gets over what is done to it."""

import asyncio
import os
import random
import secrets
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest

from taskapp.embedded import EmbeddedPostgres
from tests.server_process import (
    Answer,
    Client,
    NoAnswer,
    ServerProcess,
    free_port,
    new_data_folder,
    ordinary_user,
    postgres_processes,
    postmaster_of,
    server_process,
    wait_until,
)

STOP_SIGNALS = [signal.SIGTERM, signal.SIGINT]
STARTED_IN = 5.0  # seconds that a start on an existing folder may take
BIND_SOCKETS = "ignore::ResourceWarning"  # Tornado's leaves a socket to the garbage collector
OLD_KEY, NEW_KEY = secrets.token_urlsafe(32), secrets.token_urlsafe(32)
PROBLEM = "application/problem+json"


@pytest.fixture
def new_folder() -> Iterator[Path]:
    with new_data_folder() as folder:
        yield folder


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


@contextmanager
def locked_tasks(url: str) -> Iterator[None]:
    """Let every change of tasks wait for as long as the block lasts."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE tasks")
        yield
        connection.rollback()


def is_waiting_for_lock(url: str) -> bool:
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchall()[0][0])


@contextmanager
def stopped_processes(folder: Path, *, but: int = 0) -> Iterator[None]:
    """Let every process of PostgreSQL but one hang for as long as the block lasts."""
    pids = [pid for pid in postgres_processes(folder) if pid != but]
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@dataclass
class Known:
    """What a user knows of the tasks that were sent."""

    acknowledged: set[str] = field(default_factory=set)
    unknown: dict[str, str] = field(default_factory=dict)  # titles and their keys
    answers: list[Answer] = field(default_factory=list)

    def check(self, user: Client) -> None:
        """Make sure that what was acknowledged is there, and that sending again adds nothing."""
        found = Counter(user.titles())
        assert set(found.values()) <= {1}
        assert self.acknowledged <= {*found}
        for title, key in self.unknown.items():
            assert add(user, title, key).status == 201
        self.acknowledged |= {*self.unknown}
        self.unknown.clear()
        found = Counter(user.titles())
        assert set(found.values()) == {1}
        assert self.acknowledged <= {*found}


class Writers:
    """Clients that add tasks as one user for as long as the block lasts."""

    def __init__(self, user: Client, known: Known, number: int = 4) -> None:
        self._user = user
        self._known = known
        self._stopped = threading.Event()
        self._threads = [threading.Thread(target=self._write) for _ in range(number)]

    def __enter__(self) -> None:
        for thread in self._threads:
            thread.start()

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join()

    def _write(self) -> None:
        with Client(self._user.address, self._user.token) as client:
            while not self._stopped.is_set():
                self._add_one(client)

    def _add_one(self, client: Client) -> None:
        title, key = uuid4().hex, uuid4().hex
        try:
            answer = add(client, title, key)
            self._known.answers.append(answer)
            is_known = answer.status == 201
        except NoAnswer:
            is_known = False
        if is_known:
            self._known.acknowledged.add(title)
        else:
            self._known.unknown[title] = key
            time.sleep(0.05)


def ask_health(client: Client, until: float) -> list[Answer]:
    with client:
        answers = [client.send("GET", "/api/health")]
        while time.monotonic() < until - 5:
            answers.append(client.send("GET", "/api/health"))
        return answers


def add(client: Client, title: str, key: str = "") -> Answer:
    headers = {"Idempotency_Key": key} if key else {}
    return client.send("POST", "/api/tasks", {"title": title}, **headers)


# Start


def test_the_first_start_answers_health_at_once_and_says_where_all_is(new_folder: Path) -> None:
    with server_process(new_folder) as server, server.client() as client:
        wait_until(lambda: client.status("/api/health/live") == 200)
        starting = client.send("GET", "/api/health/ready")
        assert (starting.status, starting.json) == (503, {"status": "starting"})
        assert client.send("GET", "/api/health").json["status"] == "unhealthy"
        assert server.said == ""
        server.wait_until_ready()
        assert client.send("GET", "/api/health").json["database"] == "connected"
        assert server.said.splitlines() == [
            f"taskapp is ready at http://127.0.0.1:{server.address}",
            f"Your data is in {new_folder}",
            "Ctrl-C stops it.",
        ]
        assert new_folder.stat().st_mode & 0o077 & ~0o011 == 0
        assert server.end() == 0
    with server_process(new_folder) as server:
        server.wait_until_ready(STARTED_IN)


def test_with_a_postgresql_of_ones_own_none_is_started(database_url: str, new_folder: Path) -> None:
    with server_process(new_folder, settings={"TASKAPP_DATABASE_URL": database_url}) as server:
        server.wait_until_ready(STARTED_IN)
        assert "Your data is in your PostgreSQL" in server.said
        assert postgres_processes(new_folder) == []
        assert [path.name for path in new_folder.iterdir()] == ["secret-key"]
        assert server.end() == 0
        assert server.complaints() == []


def test_a_postgresql_that_comes_late_is_waited_for_with_words(
    data_folder: Path, new_folder: Path
) -> None:
    postgres = EmbeddedPostgres(data_folder)

    with server_process(new_folder, settings={"TASKAPP_DATABASE_URL": postgres.url}) as server:
        wait_until(lambda: bool(server.complaints()))
        asyncio.run(_run_while(postgres, server.wait_until_ready))
        assert "database.waiting" in server.complaints()[0]
        assert "cannot be reached" in server.complaints()[0]


async def _run_while(postgres: EmbeddedPostgres, work: Callable[[], object]) -> None:
    await postgres.start()
    try:
        await asyncio.to_thread(work)
    finally:
        await postgres.stop()


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_stop_while_waiting_for_the_database_is_immediate(new_folder: Path, number: int) -> None:
    url = f"postgresql://taskapp@127.0.0.1:{free_port()}/postgres"
    with server_process(new_folder, settings={"TASKAPP_DATABASE_URL": url}) as server:
        wait_until(lambda: bool(server.complaints()))
        started = time.monotonic()
        assert server.end(number) == 0
        assert time.monotonic() - started < 1


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
            wait_until(lambda: is_waiting_for_lock(url))
            server.process.send_signal(number)
            started = time.monotonic()
            wait_until(lambda: watcher.status("/api/health/ready") == 503, 3)
        assert begun.result().status == 201
        assert server.process.wait(10) == 0
        assert time.monotonic() - started < 10
        assert "database system is shut down" in server.log_text
        assert server.log[-1]["event"] == "stopped"
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
            assert server.process.wait(10) == 0
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
            assert server.process.wait(10) == 0
            assert server.complaints() == []


def test_a_request_that_hangs_is_cut_when_its_time_is_over(data_folder: Path) -> None:
    url = EmbeddedPostgres(data_folder).url
    with (
        server_process(data_folder, drain_seconds=0.5) as server,
        ThreadPoolExecutor(1) as other,
    ):
        server.wait_until_ready()
        user = server.client().sign_up(somebody())
        with locked_tasks(url):
            hanging = other.submit(add, user, "hangs")
            wait_until(lambda: is_waiting_for_lock(url))
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(NoAnswer):
                hanging.result(3)
        assert server.process.wait(10) == 0
        assert "requests.cut" in server.complaints()[0]


def test_ctrl_c_reaches_the_whole_process_group_and_stops_as_cleanly(data_folder: Path) -> None:
    with server_process(data_folder, start_new_session=True) as server:
        server.wait_until_ready()
        os.killpg(server.pid, signal.SIGINT)
        assert server.process.wait(10) == 0
        assert "database system is shut down" in server.log_text
        assert server.complaints() == []


def test_a_stop_under_load_loses_nothing_and_complains_of_nothing(data_folder: Path) -> None:
    known = Known()
    with server_process(data_folder) as server:
        user = server.wait_until_ready().client().sign_up(somebody())
        with Writers(user, known):
            time.sleep(0.3)
            assert server.end() == 0
        assert {answer.status for answer in known.answers} == {201}
        assert server.complaints() == []
    with server_process(data_folder) as server:
        known.check(user.moved_to(server.wait_until_ready().address))
        user.close()


def test_a_stop_does_not_wait_for_a_statement_that_hangs(data_folder: Path) -> None:
    with (
        server_process(data_folder, drain_seconds=0.5) as server,
        ThreadPoolExecutor(1) as other,
    ):
        user = server.wait_until_ready().client().sign_up(somebody())
        postmaster = postmaster_of(data_folder)
        with stopped_processes(data_folder, but=postmaster):
            hanging = other.submit(add, user, "hangs")
            time.sleep(0.2)
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(NoAnswer):
                hanging.result(3)
            wait_until(lambda: "shutdown request" in server.log_text, 8)
        assert server.process.wait(10) == 0


# What stands in the way of a start


def test_a_port_that_is_taken_is_one_sentence_and_nothing_is_started(new_folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with server_process(
            new_folder, settings={"TASKAPP_PORT": port}, forgiven=BIND_SOCKETS
        ) as server:
            assert server.process.wait(10) == 1
            assert server.log_text == (
                f"Cannot listen on 127.0.0.1, port {port}: Address already in use. "
                "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT.\n"
            )
    assert not (new_folder / "postgres").exists()


def test_a_data_folder_in_use_is_a_sentence_that_names_the_process(data_folder: Path) -> None:
    with server_process(data_folder) as first:
        first.wait_until_ready()
        with server_process(data_folder) as second:
            assert second.process.wait(10) == 1
            assert f"in use by process {first.pid}. Stop that one first" in second.log_text
            assert len(second.log_text.splitlines()) == 1
        assert first.client().status("/api/health/ready") == 200
        assert first.end() == 0


def test_wrong_settings_are_all_listed_at_once(new_folder: Path) -> None:
    wrong = {"TASKAPP_PORT": "99999", "TASKAPP_BCRYPT_ROUNDS": "99", "TASKAPP_PROT": "80"}
    with server_process(new_folder, settings=wrong) as server:
        assert server.process.wait(10) == 2
        for name in wrong:
            assert f"{name}: " in server.log_text
        assert len(server.log_text.splitlines()) == len(wrong)
    assert not new_folder.exists()


def test_help_lists_the_commands_and_an_unknown_one_is_refused(new_folder: Path) -> None:
    with server_process(new_folder, "--help") as server:
        assert server.process.wait(10) == 0
        for command in ("serve", "migrate", "settings", "user", "sessions", "doctor"):
            assert f"\n  {command} " in server.said
    with server_process(new_folder, "sreve") as server:
        assert server.process.wait(10) == 2
        assert "No such command 'sreve'" in server.log_text
    assert not new_folder.exists()


# Faults


def test_killing_the_server_at_any_moment_loses_nothing_acknowledged(new_folder: Path) -> None:
    seed = random.randrange(2**32)  # noqa: S311  # nothing secret
    print(f"seed {seed}")  # noqa: T201  # a failure shows it
    moments = random.Random(seed)  # noqa: S311  # nothing secret
    known = Known()
    with server_process(new_folder) as server:
        user = server.wait_until_ready().client().sign_up(somebody())
        killed = kill_while_writing(server, user, known, moments.uniform(0.05, 0.6))
    for _ in range(4):
        with server_process(new_folder) as server:
            user.moved_to(server.wait_until_ready(STARTED_IN).address)
            assert killed not in postgres_processes(new_folder)
            known.check(user)
            killed = kill_while_writing(server, user, known, moments.uniform(0.05, 0.6))
            user.close()
    assert known.acknowledged


def kill_while_writing(server: ServerProcess, user: Client, known: Known, after: float) -> int:
    """Kill the server in the midst of writing, and give the PostgreSQL it leaves behind."""
    postmaster = postmaster_of(server.data_folder)
    with Writers(user, known):
        time.sleep(after)
        server.process.kill()
        server.process.wait()
    return postmaster


def test_a_killed_postgresql_comes_back_by_itself_and_nothing_is_lost(data_folder: Path) -> None:
    with server_process(data_folder) as server, server.client() as watcher:
        user = server.wait_until_ready().client().sign_up(somebody())
        known = Known()
        with Writers(user, known):
            for _ in range(2):
                time.sleep(0.3)
                os.kill(postmaster_of(data_folder), signal.SIGKILL)
                wait_until(lambda: watcher.status("/api/health") == 503, 5)
                assert wait_until(lambda: watcher.status("/api/health") == 200, 5) < 5
                assert add(user, uuid4().hex).status == 201
        for answer in known.answers:
            assert answer.status in {201, 503}, server.surprises()
            assert answer.seconds < 5
            if answer.status == 503:
                assert answer.headers["Content-Type"] == PROBLEM
                assert int(answer.headers["Retry-After"]) > 0
        assert {answer.status for answer in known.answers} == {201, 503}
        known.check(user)
        assert server.surprises() == []


def test_a_postgresql_that_hangs_is_answered_for_in_time_and_recovered_from(
    data_folder: Path,
) -> None:
    with server_process(data_folder) as server, ThreadPoolExecutor(20) as others:
        user = server.wait_until_ready().client().sign_up(somebody())
        known = Known()
        with Writers(user, known):
            wait_until(lambda: bool(known.acknowledged))
        with stopped_processes(data_folder):
            until = time.monotonic() + 6
            health = [others.submit(ask_health, server.client(), until) for _ in range(2)]
            with Writers(user, known, 10):
                time.sleep(6)
        assert {answer.status for work in health for answer in work.result()} == {503}
        assert max(answer.seconds for work in health for answer in work.result()) < 5
        assert known.answers
        assert {answer.status for answer in known.answers} <= {201, 503}
        assert max(answer.seconds for answer in known.answers) < 10
        with server.client() as watcher:
            wait_until(lambda: watcher.status("/api/health") == 200, 5)
        assert add(user, "after it hung").status == 201
        known.check(user)
        assert server.surprises() == []
        assert server.end() == 0


# Several processes, and other users


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
