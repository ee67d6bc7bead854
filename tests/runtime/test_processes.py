"""Several processes that serve one site: together, one after another's end, and to the stop."""

import asyncio
import os
import random
import re
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from server import cli
from taskapp.postgres.server import EmbeddedPostgres
from taskapp.runtime.listeners import ListenError
from taskapp.runtime.supervisor import running_workers
from taskapp.services import Services
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Outcome, writing
from tests.runtime.test_server import somebody
from tests.support.server_process import (
    Client,
    ServerProcess,
    new_data_folder,
    postgres_processes,
    postmaster_of,
    server_process,
    wait_until,
)

WORKERS = ("1", "2")
COUNTED_APART = "limits.counted_by_each_process"
# Warnings are errors in the workers too, and what they share lies beside the data folder.
SETTINGS = {"PYTHONWARNINGS": "error", "TASKAPP_PROCESSES": "2"}


@contextmanager
def two_workers(*, settings: dict[str, str] | None = None) -> Iterator[ServerProcess]:
    """Run a site of two workers in a new data folder, and make sure that nothing is left of it."""
    with new_data_folder() as folder:
        beside = folder.parent
        changes = SETTINGS | {"TMPDIR": str(beside)} | (settings or {})
        with server_process(folder, settings=changes) as server:
            yield server
        assert [*beside.glob("taskapp-*")] == []


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A site of two workers; a test leaves both of them serving."""
    with two_workers() as server:
        yield when_all_are_ready(server)
        assert server.end() == 0
        assert server.surprises() == []


def workers_of(server: ServerProcess) -> dict[str, int]:
    """Give the process ids of the workers that said last that they are ready."""
    return {
        str(line["worker"]): line["pid"] for line in server.log if line["event"] == "worker.ready"
    }


def when_all_are_ready(server: ServerProcess) -> ServerProcess:
    server.wait_until_ready()  # fails at once if it has ended
    wait_until(lambda: "taskapp is ready at" in server.said)
    return server


def children_of(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in children]


def is_running(pid: int) -> bool:
    """Tell whether a process is there that is no zombie."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def process_of(client: Client) -> str:
    """Tell which process answers a client's connection."""
    text = client.send("GET", "/metrics").body.decode()
    (process,) = re.findall(
        r'^taskapp_requests_in_flight\{process="(\w+)"\} 1.0$', text, re.MULTILINE
    )
    return str(process)


def client_of(server: ServerProcess, process: str) -> Client:
    """Connect to a process: again and again, until it takes the connection."""
    for _ in range(100):
        client = server.client()
        if process_of(client) == process:
            return client
        client.close()
    raise AssertionError(f"process {process} takes no connection")


def read_values(client: Client, name: str) -> dict[str, float]:
    """Read the values of a metric by process; "" is what no process owns alone."""
    text = client.send("GET", "/metrics").body.decode()
    pattern = rf'^{name}(?:\{{process="(\w+)"\}})? (\S+)$'
    return {process: float(value) for process, value in re.findall(pattern, text, re.MULTILINE)}


# Together


def test_each_worker_answers_and_the_site_is_announced_once(server: ServerProcess) -> None:
    assert {process_of(client_of(server, number)) for number in WORKERS} == {*WORKERS}
    assert server.said.count("taskapp is ready at") == 1
    assert sorted(children_of(server.pid)) == sorted(
        [*workers_of(server).values(), postmaster_of(server.data_folder)]
    )


def test_a_session_of_one_worker_is_known_to_all_and_ended_on_all(server: ServerProcess) -> None:
    one, other = (client_of(server, number) for number in WORKERS)
    other.token = one.sign_up(somebody()).token
    assert one.send("POST", "/api/tasks", {"title": "seen by both"}).status == 201
    assert other.titles() == ["seen by both"]
    assert one.send("POST", "/api/auth/logout").status == 200
    assert [client.send("GET", "/api/tasks").status for client in (one, other)] == [401, 401]


def test_each_worker_says_at_once_that_the_keeper_made_no_backup() -> None:
    with two_workers(settings={"TASKAPP_BACKUP_EVERY": "1s"}) as server:
        in_the_way = when_all_are_ready(server).data_folder / "backups"
        in_the_way.touch()
        server.client().sign_up(somebody())
        wait_until(lambda: backups_of(server) == ["failing"] * len(WORKERS), 20)
        in_the_way.unlink()
        wait_until(lambda: "failing" not in backups_of(server), 20)
        assert server.end() == 0


def backups_of(server: ServerProcess) -> list[str]:
    """Give what each worker says of the backups."""
    clients = [client_of(server, number) for number in WORKERS]
    return [client.send("GET", "/api/health").json["backup"] for client in clients]


def test_the_metrics_of_any_worker_sum_what_all_did(server: ServerProcess) -> None:
    one, other = (client_of(server, number) for number in WORKERS)
    before = read_values(one, "taskapp_registrations_total")
    one.register(somebody())
    other.register(somebody())
    other.register(somebody())
    for client in (one, other):
        now = read_values(client, "taskapp_registrations_total")
        grown = {process: value - before[process] for process, value in now.items()}
        assert grown == {"1": 1, "2": 2, "keeper": 0}
        users = read_values(client, "taskapp_users")
        assert users.keys() == {""}  # else it would count twice in a sum
        assert users[""] >= 3


def test_a_worker_that_hangs_is_left_out_of_the_metrics(server: ServerProcess) -> None:
    one = client_of(server, "1")
    hanging = workers_of(server)["2"]
    os.kill(hanging, signal.SIGSTOP)
    try:
        response = one.send("GET", "/metrics")
    finally:
        os.kill(hanging, signal.SIGCONT)
    assert response.status == 200
    assert response.seconds < 5
    assert b'process="1"' in response.body
    assert b'process="2"' not in response.body


# Ends that nobody asked for


def test_a_killed_worker_costs_no_later_request_and_is_replaced(server: ServerProcess) -> None:
    killed = workers_of(server)["2"]
    os.kill(killed, signal.SIGKILL)
    with writing(server.address, random.Random(1)) as ledger:  # noqa: S311  # for no secret
        wait_until(lambda: workers_of(server)["2"] != killed)
    assert {*ledger.outcomes} == {Outcome.ACKNOWLEDGED}
    assert_all_is_well(ledger, EmbeddedPostgres(server.data_folder).url)
    assert process_of(client_of(server, "2")) == "2"
    assert any("signal SIGKILL" in text for text in server.complaints())


def test_a_killed_postgresql_comes_back_for_all_workers(server: ServerProcess) -> None:
    users = [client_of(server, number).sign_up(somebody()) for number in WORKERS]
    killed = postmaster_of(server.data_folder)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: "PostgreSQL ended unasked" in server.log_text)
    for user in users:
        wait_until(lambda: user.send("POST", "/api/tasks", {"title": "after"}).status == 201)  # noqa: B023  # called here
    assert postmaster_of(server.data_folder) != killed


def test_workers_on_a_unix_socket_end_when_their_keeper_is_killed(database_url: str) -> None:
    with new_data_folder() as folder:
        settings = {
            "TASKAPP_HOST": f"unix:{folder.parent}/sock",
            "TASKAPP_DATABASE_URL": database_url,
            "TASKAPP_METRICS_ALLOW": "unix",
        }
        with two_workers(settings=settings) as server:
            when_all_are_ready(server)
            clients = [client_of(server, number) for number in WORKERS]
            workers = children_of(server.pid)
            assert sorted(workers) == sorted(workers_of(server).values())
            server.process.kill()
            server.process.wait()
            wait_until(lambda: not any(is_running(pid) for pid in workers))
            assert [client.status("/api/health/live") for client in clients] == [0, 0]
            assert "supervisor.gone" in {line["event"] for line in server.log}
            assert server.surprises() == []


# The stop, and what stands in the way of a start


def test_a_stop_under_load_finishes_what_was_begun_and_leaves_nothing_running() -> None:
    with two_workers() as server:
        when_all_are_ready(server)
        children = children_of(server.pid)
        with writing(server.address, random.Random(1)) as ledger:  # noqa: S311  # for no secret
            wait_until(lambda: has_answered(server, 1) and has_answered(server, 2))
            assert server.end() == 0
        assert {response.status for response in ledger.responses} <= {200, 201}
        assert [text for text in server.complaints() if COUNTED_APART not in text] == []
        assert server.log[-1]["event"] == "stopped"
        assert not any(is_running(pid) for pid in children)
        assert postgres_processes(server.data_folder) == []


def has_answered(server: ServerProcess, process: int) -> bool:
    """Tell whether one of the processes has answered a request, after one that either may get."""
    server.client().status("/api/health/live")
    requests = [line for line in server.log if line["event"] == "request"]
    return process in {line["process"] for line in requests}


def test_a_data_folder_in_use_is_said_once(server: ServerProcess) -> None:
    changes = {"TASKAPP_DATA_DIR": str(server.data_folder)}
    with two_workers(settings=changes) as second:
        assert second.process.wait(10) == 1
        assert len(second.log_text.splitlines()) == 1
        assert f"in use by process {server.pid}. Stop that one first" in second.log_text
        assert second.said == ""


@pytest.mark.parametrize("number", ["0", "65", "two"])
def test_a_number_that_is_none_is_refused_as_a_wrong_setting(number: str) -> None:
    result = CliRunner().invoke(cli, ["serve", "--processes", number])
    assert result.exit_code == 2
    assert result.stderr == "TASKAPP_PROCESSES: a whole number from 1 to 64 is needed\n"


def test_processes_that_cannot_find_each_other_are_a_sentence(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    too_long = tmp_path / ("x" * 100)  # a socket path has 107 bytes
    too_long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(too_long))

    async def start() -> None:
        async with running_workers(services, [], 1.0, program=[]):
            pass

    with pytest.raises(ListenError, match=r"too long\. Set TMPDIR to another folder\."):
        asyncio.run(start())
    assert [*too_long.iterdir()] == []
