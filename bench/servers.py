"""Loads data folders, and runs server.py on them, each with its embedded PostgreSQL."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench.connection import Connection, write_request
from bench.processes import end, on_cores
from taskapp.cli.common import CliError

CHECKOUT = Path(__file__).resolve().parents[1]
START_TIMEOUT = 120.0  # seconds
# Windows of one second expire during a run, like those of the default limits.
WITHOUT_LIMITS = {
    "TASKAPP_API_LIMIT": "1000000/second",
    "TASKAPP_PAGE_LIMIT": "1000000/second",
    "TASKAPP_LOGIN_LIMIT": "1000000/second",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "1000000/second",
}
QUICK_LOGINS = {"TASKAPP_BCRYPT_ROUNDS": "4"}

_Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Server:
    """A running server.py, or nginx in front of several."""

    port: int
    pid: int


def load_folders(
    users: Mapping[Path, int], tasks: int, settings: Mapping[str, str] = QUICK_LOGINS
) -> None:
    """Load users with tasks into each data folder, in parallel.

    Existing users stay.

    Raises:
        CliError: loading fails.
    """
    with ExitStack() as stack:
        loading = {}
        for data_folder, number in users.items():
            program = ["-m", "bench.load", "--add", f"--users={number}", f"--tasks={tasks}"]
            loading[data_folder] = stack.enter_context(_running(program, data_folder, settings))
        for data_folder, process in loading.items():
            if process.wait() != 0:
                raise _failure("The data could not be loaded.", data_folder)


@contextmanager
def servers(data_folders: Sequence[Path]) -> Iterator[list[Server]]:
    """Run a server with quick logins on each data folder.

    Raises:
        CliError: a server does not become ready.
    """
    with ExitStack() as stack:
        yield [stack.enter_context(running_server(path, QUICK_LOGINS)) for path in data_folders]


@contextmanager
def running_server(
    data_folder: Path,
    settings: Mapping[str, str],
    *,
    cores: Sequence[int] = (),
) -> Iterator[Server]:
    """Run server.py on a data folder while the block runs, on the given cores or on any.

    Settings that are not given keep their defaults, except the rate limits.

    Raises:
        CliError: the server does not become ready.
    """
    with starting_server(data_folder, settings, cores=cores) as server:
        if not wait_until_ready(server):
            raise _failure("server.py does not serve.", data_folder)
        yield server


@contextmanager
def starting_server(
    data_folder: Path,
    settings: Mapping[str, str],
    *,
    cores: Sequence[int] = (),
) -> Iterator[Server]:
    """Run server.py like `running_server`, without waiting until it is ready."""
    with reserved_port() as port:
        wanted = {**settings, "TASKAPP_PORT": str(port)}
        with _running([str(CHECKOUT / "server.py")], data_folder, wanted, cores) as process:
            yield Server(port, process.pid)


def wait_until_ready(server: Server) -> bool:
    """Wait until a server is ready; return False if it ends or the timeout passes."""
    deadline = time.monotonic() + START_TIMEOUT
    while health_status(server.port) != 200:
        if time.monotonic() > deadline or not _is_running(server.pid):
            return False
        time.sleep(0.05)
    return True


def health_status(port: int) -> int:
    """Return the status of the readiness check; 0 if the connection fails."""
    with suppress(OSError), closing(Connection(port)) as connection:
        return connection.ask(write_request("GET", "/api/health/ready"))[0]
    return 0


@contextmanager
def _running(
    program: Sequence[str],
    data_folder: Path,
    settings: Mapping[str, str],
    cores: Sequence[int] = (),
) -> Iterator[_Process]:
    """Run a Python program on a data folder while the block runs."""
    command = [sys.executable, *program]
    with (
        _log(data_folder).open("ab") as log,
        subprocess.Popen(
            on_cores(cores, command) if cores else command,
            cwd=data_folder.parent,  # not the checkout, whose .env may name a real database
            env=_environment(data_folder, settings),
            stdout=log,
            stderr=log,
        ) as process,
    ):
        try:
            yield process
        finally:
            end(process)


def _environment(data_folder: Path, settings: Mapping[str, str]) -> dict[str, str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPP_")}
    wanted = {"PYTHONPATH": str(CHECKOUT), "TASKAPP_DATA_DIR": str(data_folder)}
    return others | wanted | WITHOUT_LIMITS | dict(settings)


def _log(data_folder: Path) -> Path:
    return data_folder.with_suffix(".log")


def _failure(what: str, data_folder: Path) -> CliError:
    return CliError(f"{what} The last log lines are:\n{_log(data_folder).read_text()[-2000:]}")


def _is_running(pid: int) -> bool:
    """Return whether a child process runs. WNOWAIT leaves it to be waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port on loopback that is reserved for a server while the block runs."""
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        yield int(reservation.getsockname()[1])
