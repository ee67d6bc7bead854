"""The systemd units: hardening, notifications, and restarts that fail no request.

systemd is not process 1 on a test machine. A test takes its role: it holds the socket, receives the
notifications, and starts the process under the unit's system call filter.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from taskapp.maintenance_mode import disable, enable
from tests.deploy.unit_files import allowed_calls, read_unit
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    Client,
    NoResponse,
    ServerProcess,
    new_data_folder,
    ordinary_user,
    postgres_processes,
    server_process,
    wait_until,
)

DEPLOY = CHECKOUT / "deploy"
UNIT = DEPLOY / "taskapp.service"
TEMPLATE = DEPLOY / "taskapp@.service"
SLICE = DEPLOY / "taskapp.slice"
WATCHDOG_SECONDS = 1.5
MAX_EXPOSURE = 15  # tenths, for systemd-analyze
RESTARTS = 3
REQUESTS_BETWEEN = 100
WRITERS = 4


class ServiceManager:
    """The role of systemd for one unit: holds the socket, and receives notifications."""

    def __init__(self, folder: Path, data_folder: Path, user: dict[str, Any]) -> None:
        self.data_folder = data_folder
        self._user = user
        self.passed = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = str(self.passed.getsockname()[1])
        self._path = folder / "notify"
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(self._path))
        self._path.chmod(0o666)
        self._notify.settimeout(LONG_ENOUGH)

    def close(self) -> None:
        self.passed.close()
        self._notify.close()

    @contextmanager
    def started(self) -> Iterator[ServerProcess]:
        """Start the process like the unit, and wait until it notifies that it is ready."""
        number = str(self.passed.fileno())
        self.heard()  # notifications of an earlier process
        with server_process(
            self.data_folder,
            settings={
                "NOTIFY_SOCKET": str(self._path),
                "WATCHDOG_USEC": str(int(WATCHDOG_SECONDS * 1_000_000)),
            },
            launcher=[
                sys.executable,
                str(Path(__file__).with_name("unit_files.py")),
                str(UNIT),
                number,
                sys.executable,
            ],
            pass_fds=[self.passed.fileno()],
            **self._user,
        ) as server:
            server.address = self.address
            assert self.hear() == "READY=1", server.log_text
            yield server

    def hear(self) -> str:
        return self._notify.recv(4096).decode()

    def heard(self) -> list[str]:
        """Return the notifications since the last call."""
        states = []
        self._notify.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                states.append(self.hear())
        self._notify.settimeout(LONG_ENOUGH)
        return states


@pytest.fixture
def manager() -> Iterator[ServiceManager]:
    with (
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as folder,
        new_data_folder() as data_folder,
        ordinary_user(data_folder) as user,
    ):
        Path(folder).chmod(0o755)
        manager = ServiceManager(Path(folder), data_folder, user)
        yield manager
        manager.close()


def analyze(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda path: path.name)
def test_the_unit_exposes_little(unit: Path) -> None:
    done = analyze("security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", str(unit))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("unit", [UNIT, SLICE], ids=lambda path: path.name)
def test_a_share_of_the_memory_is_left_to_others(unit: Path) -> None:
    settings = read_unit(unit)
    [high], [most] = (settings[name] for name in ("MemoryHigh", "MemoryMax"))
    assert 50 <= int(high.removesuffix("%")) < int(most.removesuffix("%")) < 100


def test_all_instances_share_one_limit_of_memory() -> None:
    settings = read_unit(TEMPLATE)
    assert settings["Slice"] == [SLICE.name]
    assert not {"MemoryHigh", "MemoryMax"} & {*settings}


@pytest.mark.parametrize("unit", [UNIT, TEMPLATE], ids=lambda path: path.name)
def test_a_share_of_the_processes_is_left_to_others_and_enough_to_postgresql(unit: Path) -> None:
    [tasks] = read_unit(unit)["TasksMax"]
    assert 200 < int(tasks) < 1000  # PostgreSQL has up to 100 connections, each a process


def test_systemd_understands_every_line(tmp_path: Path) -> None:
    for path in (UNIT, TEMPLATE):
        unit = path.read_text().replace("/opt/taskapp/.venv/bin/python", sys.executable)
        (tmp_path / path.name).write_text(unit)
    for name in ("taskapp.socket", SLICE.name):
        (tmp_path / name).write_bytes((DEPLOY / name).read_bytes())
    drop_ins = tmp_path / "taskapp.service.d"
    drop_ins.mkdir()
    drop_in = DEPLOY / "taskapp-own-postgresql.conf"
    (drop_ins / drop_in.name).write_bytes(drop_in.read_bytes())
    names = (UNIT.name, TEMPLATE.name, "taskapp.socket", SLICE.name)
    units = [str(tmp_path / name) for name in names]
    done = analyze("verify", "--man=no", *units)
    assert (done.returncode, done.stderr) == (0, "")
    (tmp_path / TEMPLATE.name).write_text(unit + "RestrictEverything=yes\n")
    assert "RestrictEverything" in analyze("verify", "--man=no", *units).stderr


def test_the_user_of_the_unit_is_made(tmp_path: Path) -> None:
    [user] = read_unit(UNIT)["User"]
    (tmp_path / "etc").mkdir()
    done = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(DEPLOY / "taskapp.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [line] = (tmp_path / "etc" / "passwd").read_text().splitlines()
    assert line.startswith(f"{user}:")
    assert line.endswith(":/var/lib/taskapp:/usr/sbin/nologin")


def test_the_filter_lets_through_only_what_is_needed() -> None:
    calls = allowed_calls(read_unit(UNIT)["SystemCallFilter"])
    assert {"read", "openat", "clone3", "setpriority"} <= calls
    assert not {"mount", "ptrace", "chown", "setuid", "reboot", "init_module", "bpf"} & calls


def test_taskapp_works_under_the_filter_and_says_how_it_is(manager: ServiceManager) -> None:
    with manager.started() as server:
        with Client(manager.address) as alice:
            alice.sign_up("alice@example.com")
            assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
            assert alice.titles() == ["Buy milk"]
        assert [manager.hear(), manager.hear()] == ["WATCHDOG=1", "WATCHDOG=1"]
        manager.heard()
        pids = postgres_processes(manager.data_folder)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:  # PostgreSQL hangs: no more watchdog notifications, so systemd restarts taskapp
            wait_until(lambda: "watchdog.withheld" in server.log_text)
            manager.heard()
            threading.Event().wait(WATCHDOG_SECONDS)
            assert manager.heard() == []
            enable(manager.data_folder / "maintenance", "")  # maintenance, on purpose
            assert manager.hear() == "WATCHDOG=1"
            disable(manager.data_folder / "maintenance")
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)
        assert manager.hear() == "WATCHDOG=1"
        assert server.end() == 0
        assert manager.heard()[-1] == "STOPPING=1"
        assert server.surprises() == []


def write_until(stopped: threading.Event, client: Client, results: "Counter[int | str]") -> None:
    while not stopped.is_set():
        try:
            response = client.send("POST", "/api/tasks", {"title": "one more"}, Connection="close")
            results[response.status] += 1
        except NoResponse as error:
            results[str(error)] += 1
        client.close()  # each request uses a new connection


def test_a_restart_under_load_loses_no_request(manager: ServiceManager) -> None:
    stopped = threading.Event()
    results: Counter[int | str] = Counter()
    with manager.started() as server, Client(manager.address) as alice:
        alice.sign_up("alice@example.com")
        assert server.end() == 0
    writers = [
        threading.Thread(
            target=write_until,
            args=(stopped, Client(manager.address, alice.token), results),
            daemon=True,  # so that they do not delay a failed test
        )
        for _ in range(WRITERS)
    ]
    for writer in writers:
        writer.start()
    for restart in range(RESTARTS + 1):
        with manager.started() as server:
            enough = results.total() + REQUESTS_BETWEEN
            wait_until(lambda: results.total() > enough)  # noqa: B023  # called at once
            if restart == RESTARTS:
                stopped.set()
                for writer in writers:
                    writer.join()
                stored = alice.titles()
            assert server.end() == 0
    assert set(results) == {201}
    assert len(stored) == results.total()
    alice.close()
