"""Runs the real `server.py` as a process, and sends HTTP requests to it."""

import fcntl
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from taskapp.postgres.permissions import UnixUser, grant_traverse, postgres_account
from taskapp.postgres.processes import find_processes
from tests.support.environment import CHEAP_AND_UNLIMITED, POSTGRESQL, inherited_environment

CHECKOUT = Path(__file__).parents[2]
PROGRAM = CHECKOUT / "server.py"
PASSWORD = "SecurePass123!"
NOBODY = UnixUser(65534, 65534)
ACCESS_LIST = "system.posix_acl_access"
CALM = ("debug", "info")
SETTINGS = {**CHEAP_AND_UNLIMITED, **POSTGRESQL}
# Executes `server.py` with an open socket as descriptor 3, like systemd (sd_listen_fds(3)).
SYSTEMD = """
import os, sys
passed = int(sys.argv[1])
if passed != 3:
    os.dup2(passed, 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.executable, [sys.executable, "-W", "error", *sys.argv[2:]])
"""
# `server.py` with another constant, which spares a test a long wait, or makes one unmistakable.
CHANGED = "import server, {0}; {0}.{1}; {0}.{1} = {2}; server.cli()"  # it has to exist
# Seconds that nothing takes unless it never happens, however busy the machine is. Whoever promises
# less says so where it is measured.
LONG_ENOUGH = 120.0
# Serializes changes of folder permissions between parallel tests, also those of other checkouts.
ORDINARY_USER_LOCK = Path(tempfile.gettempdir(), "taskapp-tests-ordinary-user.lock")


def wait_until(condition: Callable[[], bool], seconds: float = LONG_ENOUGH) -> float:
    """Wait until a condition holds, and return the seconds waited."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started


@contextmanager
def reserved_port() -> Iterator[int]:
    """Yield a port on loopback that is reserved for a server of the test.

    While no server listens, connections are refused. Both sockets need SO_REUSEADDR: with it Linux
    allows a second socket on the address as long as the first does not listen.
    """
    with socket.socket() as reservation:
        reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reservation.bind(("127.0.0.1", 0))
        port: int = reservation.getsockname()[1]
        yield port


def postgres_processes(folder: Path) -> list[int]:
    return find_processes(str(folder), folder)


def postmaster_of(folder: Path) -> int:
    return int((folder / "postgres" / "postmaster.pid").read_text().splitlines()[0])


def processor_seconds(task: int | str) -> tuple[float, float]:
    """Return the seconds that a task ran, and those it waited for a processor (Linux).

    A task is the main thread of a process, by its id, or "thread-self".
    """
    ran, waited, _ = Path(f"/proc/{task}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def processor_share(pid: int, since: tuple[float, float] = (0.0, 0.0)) -> float:
    """Return the share of the time it wanted to run that a process ran; others had the rest.

    What takes a second on a quiet machine takes a second divided by this.
    """
    ran, waited = (now - then for now, then in zip(processor_seconds(pid), since, strict=True))
    return ran / (ran + waited)


class Stopwatch:
    """Measures seconds, without those in which tasks waited for a processor that others had.

    A promised time is compared with these, so that it has one bound on every machine.
    """

    def __init__(self, *tasks: int | str) -> None:
        """Start for this thread and other tasks, as `processor_seconds` names them."""
        self._tasks = ("thread-self", *tasks)
        self._started, self._waited = time.monotonic(), self._sum_of_waits()

    @property
    def seconds(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self._started - max(0.0, self._sum_of_waits() - self._waited)

    def _sum_of_waits(self) -> float:
        total = 0.0
        for task in self._tasks:
            with suppress(OSError):  # it has ended
                total += processor_seconds(task)[1]
        return total


@contextmanager
def stopped_processes(find: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Stop all found processes (SIGSTOP) while the block runs."""
    stopped: set[int] = set()
    try:
        while found := {*find()} - stopped:  # a running process may have started others
            stopped |= found
            for pid in found:
                with suppress(ProcessLookupError):  # it has ended
                    os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def new_data_folder() -> Iterator[Path]:
    """Yield a path short enough for a socket (107 bytes); wait at the end until it is unused."""
    parent = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))
    try:
        yield parent / "data"
    finally:
        # A killed server leaves processes, and its initdb may have been about to start another.
        wait_until(lambda: not postgres_processes(parent / "data") and is_removed(parent))


def is_removed(folder: Path) -> bool:
    """Remove a folder; return False if somebody else wrote to it meanwhile."""
    shutil.rmtree(folder, ignore_errors=True)
    return not folder.exists()


@dataclass
class Response:
    """A complete response, and the seconds it took by the `Stopwatch` of client and server."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass
class Client:
    """Sends requests of one user over one keep-alive connection."""

    address: str  # a port on loopback, or unix:/path
    token: str = ""
    email: str = ""
    _connection: http.client.HTTPConnection | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        if self._connection:
            self._connection.close()
            self._connection = None

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        """Send a request with a JSON body, and return the response.

        Raises NoResponse.
        """
        if body is None:
            return self._send(method, path, None, headers)
        headers["Content-Type"] = "application/json"
        return self._send(method, path, json.dumps(body).encode(), headers)

    def send_form(self, method: str, path: str, form: str, **headers: str) -> Response:
        """Send a request with form fields, and return the response.

        Raises NoResponse.
        """
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self._send(method, path, form.encode(), headers)

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> Response:
        stopwatch = Stopwatch(*_servers.get(self.address, []))
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection = self.connected()
            connection.request(method, path, content, sent)
            with connection.getresponse() as got:
                response = Response(got.status, got.headers, got.read(), stopwatch.seconds)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise NoResponse(f"{method} {path}: {error!r}") from error
        return response

    def connected(self) -> http.client.HTTPConnection:
        if self._connection and _has_hung_up(self._connection):
            self.close()
        if self._connection is None:
            self._connection = _connection_to(self.address, 20)
        return self._connection

    def status(self, path: str) -> int:
        """Return the status of a GET; 0 without a response."""
        try:
            return self.send("GET", path).status
        except NoResponse:
            return 0

    def moved_to(self, address: str) -> Self:
        """Return a client of another address with the same token."""
        self.close()
        self.address = address
        return self

    def register(self, email: str) -> None:
        response = self.send("POST", "/api/auth/register", {"email": email, "password": PASSWORD})
        assert response.status == 201, response.body

    def log_in(self, email: str) -> None:
        """Log in; later requests send the token."""
        response = self.send("POST", "/api/auth/login", {"email": email, "password": PASSWORD})
        assert response.status == 200, response.body
        self.token, self.email = response.json["token"], email

    def sign_up(self, email: str) -> Self:
        self.register(email)
        self.log_in(email)
        return self

    def titles(self) -> list[str]:
        """Return the titles of all tasks, newest first, from all pages."""
        titles: list[str] = []
        path = "/api/tasks?limit=100"
        cursor = ""
        while cursor is not None:
            page = self.send("GET", path + (f"&after={cursor}" if cursor else ""))
            assert page.status == 200, page.body
            titles += [task["title"] for task in page.json["tasks"]]
            cursor = page.json["nextCursor"]
        return titles


_servers: dict[str, list[int]] = {}  # process ids by address; clients know addresses only


class NoResponse(Exception):  # refused, reset, or timed out
    """The server closed the connection, or did not accept it."""


def _connection_to(address: str, timeout: float) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"), timeout)
    return http.client.HTTPConnection("127.0.0.1", int(address), timeout=timeout)


def _has_hung_up(connection: http.client.HTTPConnection) -> bool:
    """Return whether the server closed an idle connection, before it is used again."""
    if connection.sock is None:
        return False
    poll = select.poll()  # unlike select.select, of descriptors above 1,023 too
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


class ServerProcess:
    """A running `server.py`, its standard output and its log."""

    def __init__(
        self,
        data_folder: Path,
        *arguments: str,
        settings: dict[str, str] | None = None,
        constant: tuple[str, str, float | str] | None = None,
        forgiven: str = "error",
        launcher: list[str] | None = None,
        program: Path = PROGRAM,
        **more: Any,
    ) -> None:
        """Start it by a launcher, or by Python with warnings as errors.

        `constant` is the module and name of a constant, and another value of it or the expression
        of one; other arguments go to `subprocess.Popen`.
        """
        self.data_folder = data_folder
        self._clients: list[Client] = []
        self._ends = ExitStack()
        self._folder = tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp")
        self._said = Path(self._folder.name, "stdout")
        self._logged = Path(self._folder.name, "stderr")
        wanted = _settings_of(program) | {"TASKAPP_DATA_DIR": str(data_folder)} | (settings or {})
        if "TASKAPP_PORT" not in wanted:
            wanted["TASKAPP_PORT"] = str(self._ends.enter_context(reserved_port()))
        host = wanted.get("TASKAPP_HOST", "")
        self.address = host if host.startswith("unix:") else wanted["TASKAPP_PORT"]
        python = launcher or [sys.executable, "-W", "error", "-W", forgiven]
        started = ["-c", CHANGED.format(*constant)] if constant else [str(program)]
        inherited = inherited_environment(measured="user" not in more)  # others may not write here
        wanted["PYTHONPATH"] = str(CHECKOUT)
        self.environment = inherited | wanted
        with self._said.open("wb") as said, self._logged.open("wb") as logged:
            self.process = subprocess.Popen(
                [*python, *started, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=logged,
                env=self.environment,
                **{"cwd": self._folder.name} | more,  # a folder without .env
            )
        _servers[self.address] = [self.process.pid]

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.address}"

    @property
    def said(self) -> str:
        return self._said.read_text()

    @property
    def log_text(self) -> str:
        return self._logged.read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """Return every line of the log; a line that is not JSON fails the test."""
        whole = self.log_text.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def complaints(self) -> list[str]:
        """Return every warning and error, without its time."""
        return [str([*line.values()][1:]) for line in self.log if line["level"] not in CALM]

    def surprises(self) -> list[str]:
        """Return every unexpected error."""
        return [str(line) for line in self.log if "traceback" in line]

    def client(self) -> Client:
        """Return a new client; `clean_up` closes its connection."""
        client = Client(self.address)
        self._clients.append(client)
        return client

    def wait_until_ready(self, seconds: float = LONG_ENOUGH) -> Self:
        """Wait until the server is ready; fail at once if it has ended."""
        with Client(self.address) as client:
            wait_until(partial(self._is_ready, client), seconds)
        return self

    def _is_ready(self, client: Client) -> bool:
        assert self.process.poll() is None, self.log_text
        return client.status("/api/health/ready") == 200

    def end(self, number: int = signal.SIGTERM, seconds: float = LONG_ENOUGH) -> int:
        """Send a signal, wait for the end, and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def idle_until_end(self) -> float:
        """Wait for the end, and return the seconds in which the process was idle."""
        started, before = time.monotonic(), sum(processor_seconds(self.pid))
        look = os.WEXITED | os.WNOWAIT | os.WNOHANG  # without reaping the process
        wait_until(lambda: os.waitid(os.P_PID, self.pid, look) is not None)
        worked = sum(processor_seconds(self.pid)) - before  # however long a busy machine took
        return time.monotonic() - started - worked

    def clean_up(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for client in self._clients:
            client.close()
        self._ends.close()
        self._folder.cleanup()


@contextmanager
def server_process(data_folder: Path, *arguments: str, **more: Any) -> Iterator[ServerProcess]:
    """Run `server.py` on a data folder; kill it at the end if it still runs."""
    server = ServerProcess(data_folder, *arguments, **more)
    try:
        yield server
    finally:
        server.clean_up()


def _settings_of(program: Path) -> dict[str, str]:
    """Return the settings of the tests that a program knows; an earlier version knows fewer."""
    if program == PROGRAM or program.name != PROGRAM.name:
        return SETTINGS
    sources = (program.parent / "taskapp").rglob("*.py")
    text = "".join(path.read_text(encoding="utf-8") for path in sources)
    names = {name: name.removeprefix("TASKAPP_").lower() for name in SETTINGS}
    return {name: value for name, value in SETTINGS.items() if names[name] in text}


@contextmanager
def ordinary_user(folder: Path) -> Iterator[dict[str, Any]]:
    """Create a data folder of an ordinary user; yield arguments that start a process as that user.

    For root the user is `nobody`, which may read this Python and this checkout meanwhile.
    """
    if os.geteuid() != 0:
        yield {}
        return
    needed = [Path(sys.executable).resolve(), Path(os.__file__), PROGRAM]
    parents = {parent for path in needed for parent in path.parents}
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    os.chown(folder, *NOBODY)
    with ORDINARY_USER_LOCK.open("a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        if account := postgres_account(folder.parent / "absent"):
            grant_traverse(account, needed)  # so that no first start beside this one has to
        before = {parent: (parent.stat().st_mode, _access_list(parent)) for parent in parents}
        grant_traverse(NOBODY, needed)
        try:
            uid, gid = NOBODY
            yield {"user": uid, "group": gid, "extra_groups": [], "cwd": folder}
        finally:
            for parent, (mode, access_list) in before.items():
                _restore(parent, mode, access_list)


def _access_list(folder: Path) -> bytes | None:
    with suppress(OSError):
        return os.getxattr(folder, ACCESS_LIST)
    return None


def _restore(folder: Path, mode: int, access_list: bytes | None) -> None:
    if access_list:
        os.setxattr(folder, ACCESS_LIST, access_list)
    elif _access_list(folder):
        os.removexattr(folder, ACCESS_LIST)
        folder.chmod(mode & 0o7777)
