"""Runs the real `server.py` as a process of its own, and speaks HTTP with it."""

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
from tests.support.environment import inherited_environment

CHECKOUT = Path(__file__).parents[2]
PROGRAM = CHECKOUT / "server.py"
PASSWORD = "SecurePass123!"
NOBODY = UnixUser(65534, 65534)
ACCESS_LIST = "system.posix_acl_access"
CALM = ("debug", "info")
SETTINGS = {
    "TASKAPP_BCRYPT_ROUNDS": "4",
    "TASKAPP_API_LIMIT": "1000000/minute",
    "TASKAPP_REGISTER_LIMIT": "1000000/minute",
    "TASKAPP_LOGIN_LIMIT": "1000000/minute",
}
# Becomes `server.py` with an open socket as its third descriptor, as systemd does (sd_listen_fds).
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
CHANGED = "import server, {0}; {0}.{1} = {2}; server.cli()"
# Seconds that nothing takes unless it never happens, however busy the machine is. Whoever promises
# less says so where it is measured.
LONG_ENOUGH = 120.0
# Held by whoever lets an ordinary user in: tests run side by side, also those of other checkouts.
DOORKEEPER = Path(tempfile.gettempdir(), "taskapp-tests-ordinary-user.lock")


def wait_until(condition: Callable[[], bool], seconds: float = LONG_ENOUGH) -> float:
    """Wait for something, and give the seconds that it took."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.01)
    return time.monotonic() - started


@contextmanager
def reserved_port() -> Iterator[int]:
    """Give a port at which a server of the test can listen, and that the system gives nobody else.

    Until one does, and after it, a connection is refused. Both ends need SO_REUSEADDR: with it,
    Linux lets a second socket have the address as long as the first does not listen.
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


def processor_seconds(pid: int) -> tuple[float, float]:
    """Tell for how long a process ran, and for how long it could have but others did (Linux)."""
    ran, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    return int(ran) / 1e9, int(waited) / 1e9


def processor_share(pid: int, since: tuple[float, float] = (0.0, 0.0)) -> float:
    """Tell in how much of the time in which it wanted to run a process did; others had the rest.

    What takes a second on a quiet machine takes a second divided by this.
    """
    ran, waited = (now - then for now, then in zip(processor_seconds(pid), since, strict=True))
    return ran / (ran + waited)


@contextmanager
def stopped_processes(find: Callable[[], Iterable[int]]) -> Iterator[None]:
    """Let all processes that are found hang for as long as the block lasts."""
    stopped: set[int] = set()
    try:
        while found := {*find()} - stopped:  # one that was not stopped yet may have made others
            stopped |= found
            for pid in found:
                with suppress(ProcessLookupError):  # it has ended by itself
                    os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


@contextmanager
def new_data_folder() -> Iterator[Path]:
    """Name a data folder with room for a socket's name (107 bytes); at the end nobody uses it."""
    parent = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))
    try:
        yield parent / "data"
    finally:
        wait_until(lambda: not postgres_processes(parent / "data"))  # those of a killed server
        shutil.rmtree(parent)


@dataclass
class Response:
    """A whole answer, and how long it took."""

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
    """Speaks as one user, on one connection for as long as the server keeps it open."""

    address: str  # a port of this machine, or unix:/path
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
        """Send one request, its body as JSON, and read the answer.

        Raises NoResponse.
        """
        if body is None:
            return self._send(method, path, None, headers)
        headers["Content-Type"] = "application/json"
        return self._send(method, path, json.dumps(body).encode(), headers)

    def send_form(self, method: str, path: str, form: str, **headers: str) -> Response:
        """Send one request with the fields of a form, and read the answer.

        Raises NoResponse.
        """
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return self._send(method, path, form.encode(), headers)

    def _send(
        self, method: str, path: str, content: bytes | None, headers: dict[str, str]
    ) -> Response:
        started = time.monotonic()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        try:
            connection = self.connected()
            connection.request(method, path, content, sent)
            with connection.getresponse() as got:
                response = Response(got.status, got.headers, got.read(), time.monotonic() - started)
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
        """Give the status of a GET; 0 when nobody answers."""
        try:
            return self.send("GET", path).status
        except NoResponse:
            return 0

    def moved_to(self, address: str) -> Self:
        """Go on at another address, as the same user."""
        self.close()
        self.address = address
        return self

    def register(self, email: str) -> None:
        response = self.send("POST", "/api/auth/register", {"email": email, "password": PASSWORD})
        assert response.status == 201, response.body

    def log_in(self, email: str) -> None:
        """Log in; what is sent from now on carries the token."""
        response = self.send("POST", "/api/auth/login", {"email": email, "password": PASSWORD})
        assert response.status == 200, response.body
        self.token, self.email = response.json["token"], email

    def sign_up(self, email: str) -> Self:
        self.register(email)
        self.log_in(email)
        return self

    def titles(self) -> list[str]:
        """List the titles of all tasks, newest first, page after page."""
        titles: list[str] = []
        path = "/api/tasks?limit=100"
        cursor = ""
        while cursor is not None:
            page = self.send("GET", path + (f"&after={cursor}" if cursor else ""))
            assert page.status == 200, page.body
            titles += [task["title"] for task in page.json["tasks"]]
            cursor = page.json["nextCursor"]
        return titles


class NoResponse(Exception):  # as the client sees it: refused, reset, or silence
    """The server closed the connection, or was not there."""


def _connection_to(address: str, timeout: float) -> http.client.HTTPConnection:
    if address.startswith("unix:"):
        return _UnixConnection(address.removeprefix("unix:"), timeout)
    return http.client.HTTPConnection("127.0.0.1", int(address), timeout=timeout)


def _has_hung_up(connection: http.client.HTTPConnection) -> bool:
    """Tell whether the server closed a connection while it was idle, as every client looks."""
    idle = connection.sock
    return idle is not None and bool(select.select([idle], [], [], 0)[0])


class ServerProcess:
    """A running `server.py`, what it says on standard output, and what it logs."""

    def __init__(
        self,
        data_folder: Path,
        *arguments: str,
        settings: dict[str, str] | None = None,
        constant: tuple[str, str, float] | None = None,
        forgiven: str = "error",
        launcher: list[str] | None = None,
        program: Path = PROGRAM,
        **more: Any,
    ) -> None:
        """Start it, by a launcher or by Python, where every warning but a forgiven one is an error.

        `constant` is the module, the name and the value of one that shall be different; what is
        not named here goes to `subprocess.Popen`.
        """
        self.data_folder = data_folder
        self._clients: list[Client] = []
        self._ends = ExitStack()
        self._folder = tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp")
        self._said = Path(self._folder.name, "stdout")
        self._logged = Path(self._folder.name, "stderr")
        wanted = SETTINGS | {"TASKAPP_DATA_DIR": str(data_folder)} | (settings or {})
        if "TASKAPP_PORT" not in wanted:
            wanted["TASKAPP_PORT"] = str(self._ends.enter_context(reserved_port()))
        host = wanted.get("TASKAPP_HOST", "")
        self.address = host if host.startswith("unix:") else wanted["TASKAPP_PORT"]
        python = launcher or [sys.executable, "-W", "error", "-W", forgiven]
        started = ["-c", CHANGED.format(*constant)] if constant else [str(program)]
        inherited = inherited_environment(measured="user" not in more)  # who may write here
        wanted["PYTHONPATH"] = str(CHECKOUT)
        with self._said.open("wb") as said, self._logged.open("wb") as logged:
            self.process = subprocess.Popen(
                [*python, *started, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=logged,
                env=inherited | wanted,
                **{"cwd": self._folder.name} | more,  # where nobody's .env is read
            )

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
        """Every line of the log so far; one that is not JSON fails the test."""
        whole = self.log_text.rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]

    def complaints(self) -> list[str]:
        """Every line that is more than information, without its time."""
        return [str([*line.values()][1:]) for line in self.log if line["level"] not in CALM]

    def surprises(self) -> list[str]:
        """Every line about an error that nobody expected."""
        return [str(line) for line in self.log if "traceback" in line]

    def client(self) -> Client:
        """Make a client, whose connection is closed when the server is cleaned up."""
        client = Client(self.address)
        self._clients.append(client)
        return client

    def wait_until_ready(self, seconds: float = LONG_ENOUGH) -> Self:
        """Wait until the server takes requests; fail at once if it has ended."""
        with Client(self.address) as client:
            wait_until(partial(self._is_ready, client), seconds)
        return self

    def _is_ready(self, client: Client) -> bool:
        assert self.process.poll() is None, self.log_text
        return client.status("/api/health/ready") == 200

    def end(self, number: int = signal.SIGTERM, seconds: float = LONG_ENOUGH) -> int:
        """Send a signal, wait for the end, and give the exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def idle_until_end(self) -> float:
        """Wait for the end, and give the seconds in which the process did not even want to run."""
        started, before = time.monotonic(), sum(processor_seconds(self.pid))
        look = os.WEXITED | os.WNOWAIT | os.WNOHANG  # and leave it to whoever reads the exit code
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
    """Run `server.py` in a data folder; kill it at the end if it still runs."""
    server = ServerProcess(data_folder, *arguments, **more)
    try:
        yield server
    finally:
        server.clean_up()


@contextmanager
def ordinary_user(folder: Path) -> Iterator[dict[str, Any]]:
    """Make a data folder of an ordinary user's, and give what starts a process as that user.

    For root that is `nobody`, who may run this Python and this checkout meanwhile.
    """
    if os.geteuid() != 0:
        yield {}
        return
    needed = [Path(sys.executable).resolve(), Path(os.__file__), PROGRAM]
    parents = {parent for path in needed for parent in path.parents}
    folder.parent.chmod(0o755)
    folder.mkdir(mode=0o700)
    os.chown(folder, *NOBODY)
    with DOORKEEPER.open("a") as door:
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
