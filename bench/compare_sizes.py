"""Compare the answers of a nearly empty taskapp with those of a loaded one.

    python -m bench.compare_sizes [--users 10000] [--tasks 100] [--requests 400]

Both run at the same time, each the real server.py with its own embedded PostgreSQL, and are asked
in turn over one keep-alive connection each.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import click

from bench.load import PASSWORD
from taskapp.commands import Failure

CHECKOUT = Path(__file__).resolve().parents[1]
OPERATIONS = {"list": 200, "get": 200, "create": 201, "update": 200}
WORST_RATIO = 1.25  # of medians; what is below may be noise
START_PATIENCE = 60.0  # seconds
STOP_PATIENCE = 20.0  # seconds
_TEXT = "Call the office, ask for the report of last month and send it to everybody. " * 3
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Connection:
    """One keep-alive HTTP connection; it does so little that the server's time is what counts."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request, and give the status and the body of the answer."""
        self._socket.sendall(request)
        answer = bytearray()
        while (end := answer.find(b"\r\n\r\n")) < 0:
            self._receive(answer)
        length = _LENGTH.search(answer, 0, end + 2)
        if length is None:
            raise Failure(f"An answer has no Content-Length: {bytes(answer[:end])!r}")
        while len(answer) < end + 4 + int(length[1]):
            self._receive(answer)
        return int(answer[9:12]), bytes(answer[end + 4 :])

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _receive(self, answer: bytearray) -> None:
        received = self._socket.recv(262_144)
        if not received:
            raise Failure("The server closed the connection in the middle of an answer.")
        answer += received


@dataclass
class Session:
    """Somebody who is logged in, and the tasks that are theirs."""

    token: str
    task_ids: list[str]

    def request(self, operation: str, number: int) -> bytes:
        """Write the request of an operation, on another task for each number."""
        task = f"/api/tasks/{self.task_ids[number * 7 % len(self.task_ids)]}"
        match operation:
            case "list":
                return _request("GET", "/api/tasks?limit=50", self.token)
            case "get":
                return _request("GET", task, self.token)
            case "create":
                body = {"title": f"Created {number}", "description": _TEXT, "status": "pending"}
                return _request("POST", "/api/tasks", self.token, body)
        body = {"title": f"Updated {number}", "description": _TEXT, "status": "completed"}
        return _request("PUT", task, self.token, body)


@dataclass
class Side:
    """One of the two servers: its connection, its sessions, and what was measured."""

    name: str
    connection: Connection
    sessions: list[Session]
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, operation: str, number: int) -> None:
        """Ask once, and note the milliseconds."""
        request = self.sessions[number % len(self.sessions)].request(operation, number)
        started = time.perf_counter()
        status, body = self.connection.ask(request)
        self.times[operation].append((time.perf_counter() - started) * 1000)
        if status != OPERATIONS[operation]:
            raise Failure(f"{operation} was answered with {status}: {body[:300]!r}")

    def forget(self) -> None:
        """Drop what was measured, for it was the warm-up."""
        self.times.clear()


def _request(method: str, path: str, token: str = "", body: Any = None) -> bytes:
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _environment(data_folder: Path, port: int = 0) -> dict[str, str]:
    """Make the environment of a server: shipped settings, but for the limit and quick logins."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPP_")}
    return others | {
        "PYTHONPATH": str(CHECKOUT),
        "TASKAPP_DATA_DIR": str(data_folder),
        "TASKAPP_PORT": str(port),
        "TASKAPP_API_LIMIT": "1000000/minute",
        "TASKAPP_BCRYPT_ROUNDS": "4",
    }


def _load(data_folder: Path, users: int, tasks: int) -> None:
    command = [sys.executable, "-m", "bench.load", "--users", str(users), "--tasks", str(tasks)]
    # Not in the checkout, where a .env may name somebody's database.
    done = subprocess.run(
        command,
        cwd=data_folder.parent,
        env=_environment(data_folder),
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(f"The data could not be loaded: {done.stderr}")


@contextmanager
def _server(data_folder: Path) -> Iterator[int]:
    """Run server.py for as long as the block lasts, and give its port."""
    port = _free_port()
    log = data_folder.with_suffix(".log")
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, str(CHECKOUT / "server.py")],
            cwd=data_folder.parent,
            env=_environment(data_folder, port),
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            _wait_until_ready(port, process, log)
            yield port
        finally:
            _stop(process)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_ready(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            connection = Connection(port)
        except OSError:
            time.sleep(0.05)
            continue
        status, _ = connection.ask(_request("GET", "/api/health/ready"))
        connection.close()
        if status == 200:
            return
        time.sleep(0.05)
    raise Failure(f"server.py does not serve. Its last words:\n{log.read_text()[-2000:]}")


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()


def _log_in(connection: Connection, number: int) -> Session:
    account = {"email": f"user{number:05d}@example.com", "password": PASSWORD}
    status, body = connection.ask(_request("POST", "/api/auth/login", body=account))
    if status != 200:
        raise Failure(f"The login of user {number} was answered with {status}: {body[:300]!r}")
    token = json.loads(body)["token"]
    _, body = connection.ask(_request("GET", "/api/tasks?limit=100", token))
    return Session(token, [task["id"] for task in json.loads(body)["tasks"]])


def _open(stack: ExitStack, data_folder: Path, users: int, options: Mapping[str, int]) -> Side:
    """Start the server of a loaded database, and log in people from all over it."""
    port = stack.enter_context(_server(data_folder))
    connection = Connection(port)
    stack.callback(connection.close)
    count = min(options["sessions"], options["few"], options["users"])
    numbers = [1 + place * users // count for place in range(count)]
    sessions = [_log_in(connection, number) for number in numbers]
    return Side(f"{users * options['tasks']:,} tasks", connection, sessions)


def _measure(sides: Sequence[Side], requests: int) -> None:
    """Ask both sides everything, time and again, in an order that is another one each time.

    So what else the machine does, and what an answer leaves to be done after it, meets both alike.
    """
    turns = [(side, operation) for side in sides for operation in OPERATIONS]
    order = Random(requests)  # noqa: S311  # nothing here is secret
    warm_up = max(5, requests // 10)
    for number in range(-warm_up, requests):
        if number == 0:
            for side in sides:
                side.forget()
        order.shuffle(turns)
        for side, operation in turns:
            side.measure(operation, number)


def _report(small: Side, large: Side) -> bool:
    """Print the table; tell whether the large side is as fast as the small one."""
    print(f"| ms | {small.name}: median | p95 | {large.name}: median | p95 | ratio of medians |")
    print("|---|--:|--:|--:|--:|--:|")
    worst = 0.0
    for operation in OPERATIONS:
        first, second = small.times[operation], large.times[operation]
        ratio = median(second) / median(first)
        worst = max(worst, ratio)
        cells = [f"{number:.2f}" for times in (first, second) for number in _two(times)]
        print(f"| {operation} | {' | '.join(cells)} | {ratio:.2f} |")
    print(f"\nThe worst ratio is {worst:.2f}; at most {WORST_RATIO} is accepted.")
    return worst <= WORST_RATIO


def _two(times: list[float]) -> tuple[float, float]:
    return median(times), sorted(times)[len(times) * 95 // 100]


def compare(**options: int) -> bool:
    """Measure both sizes and print the table; tell whether size makes no difference."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-bench-"))  # sockets need a short path
    try:
        users = {"small": options["few"], "large": options["users"]}
        for name, number in users.items():
            _load(folder / name, number, options["tasks"])
        with ExitStack() as stack:
            small, large = (_open(stack, folder / name, users[name], options) for name in users)
            _measure((small, large), options["requests"])
            return _report(small, large)
    finally:
        shutil.rmtree(folder)


_count = click.IntRange(1)


@click.command(
    help="Compare the answers of a nearly empty taskapp with those of a loaded one. The exit code "
    f"is 1 if a median is more than {WORST_RATIO} times the other one."
)
@click.option("--users", type=_count, default=10_000, show_default=True, help="On the large side.")
@click.option("--few", type=_count, default=20, show_default=True, help="Users on the small side.")
@click.option("--tasks", type=_count, default=100, show_default=True, help="Of each user.")
@click.option("--sessions", type=_count, default=20, show_default=True, help="On each side.")
@click.option("--requests", type=_count, default=400, show_default=True, help="Of each kind.")
@click.pass_context
def main(context: click.Context, /, **options: int) -> None:
    """Compare the sizes that the command line asks for."""
    context.exit(0 if compare(**options) else 1)


if __name__ == "__main__":
    main()
