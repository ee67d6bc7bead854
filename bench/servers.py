"""Loads data folders and runs the real server.py on them, each with its embedded PostgreSQL."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from bench.connection import Connection, write_request
from taskapp.commands import Failure

CHECKOUT = Path(__file__).resolve().parents[1]
START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 20.0  # seconds

_Process = subprocess.Popen[bytes]


def load_folders(users: Mapping[Path, int], tasks: int) -> None:
    """Load so many users with tasks into each data folder, all at the same time.

    Raises:
        Failure: it does not work.
    """
    with ExitStack() as stack:
        loading = {}
        for data_folder, number in users.items():
            program = ["-m", "bench.load", f"--users={number}", f"--tasks={tasks}"]
            loading[data_folder] = stack.enter_context(_running(program, data_folder))
        for data_folder, process in loading.items():
            if process.wait() != 0:
                raise _failure("The data could not be loaded.", data_folder)


@contextmanager
def servers(data_folders: Sequence[Path]) -> Iterator[list[Connection]]:
    """Run a server on each data folder, and give a connection to each.

    Raises:
        Failure: one of them does not serve.
    """
    ports = []
    with ExitStack() as stack:
        for data_folder in data_folders:
            port = _free_port()
            program = [str(CHECKOUT / "server.py")]
            process = stack.enter_context(_running(program, data_folder, port))
            ports.append((port, process, data_folder))
        for server in ports:
            _wait_until_ready(*server)
        yield [stack.enter_context(closing(Connection(port))) for port, _, _ in ports]


@contextmanager
def _running(program: Sequence[str], data_folder: Path, port: int = 0) -> Iterator[_Process]:
    """Run a Python program on a data folder, and end it when the block ends."""
    with (
        _log(data_folder).open("ab") as log,
        subprocess.Popen(
            [sys.executable, *program],
            cwd=data_folder.parent,  # not the checkout, where a .env may name somebody's database
            env=_environment(data_folder, port),
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield process
        finally:
            _stop(process)


def _environment(data_folder: Path, port: int) -> dict[str, str]:
    """Make the environment: shipped settings, but for the rate limit and quick logins."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPP_")}
    return others | {
        "PYTHONPATH": str(CHECKOUT),
        "TASKAPP_DATA_DIR": str(data_folder),
        "TASKAPP_PORT": str(port),
        "TASKAPP_API_LIMIT": "1000000/minute",
        "TASKAPP_BCRYPT_ROUNDS": "4",
    }


def _log(data_folder: Path) -> Path:
    return data_folder.with_suffix(".log")


def _failure(what: str, data_folder: Path) -> Failure:
    return Failure(f"{what} The last words are:\n{_log(data_folder).read_text()[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, process: _Process, data_folder: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
        with suppress(ConnectionRefusedError), closing(Connection(port)) as connection:
            status, _ = connection.ask(write_request("GET", "/api/health/ready"))
            if status == 200:
                return
    raise _failure("server.py does not serve.", data_folder)


def _stop(process: _Process) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
