"""Compare the answers of a nearly empty taskapp with those of a loaded one.

Both run at the same time and are asked the same things over one keep-alive connection each. Run
`python -m bench.compare_sizes --help` in the checkout.
"""

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import click

from bench.connection import Connection, write_request
from bench.load import PASSWORD
from bench.servers import load_folders, servers
from taskapp.commands import Failure

OPERATIONS = {"list": 200, "get": 200, "create": 201, "update": 200}  # and the expected status
WORST_RATIO = 1.25  # of medians; what is below may be noise
_TEXT = "Call the office, ask for the report of last month and send it to everybody. " * 3


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
                return write_request("GET", "/api/tasks?limit=50", self.token)
            case "get":
                return write_request("GET", task, self.token)
            case "create":
                body = {"title": f"Created {number}", "description": _TEXT, "status": "pending"}
                return write_request("POST", "/api/tasks", self.token, body)
        body = {"title": f"Updated {number}", "description": _TEXT, "status": "completed"}
        return write_request("PUT", task, self.token, body)


@dataclass
class Side:
    """One of the two servers: its connection, its sessions, and what was measured."""

    name: str
    connection: Connection
    sessions: list[Session]
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, operation: str, number: int) -> None:
        """Ask once, and note the milliseconds.

        Raises:
            Failure: it is not answered as it should be.
        """
        request = self.sessions[number % len(self.sessions)].request(operation, number)
        started = time.perf_counter()
        status, body = self.connection.ask(request)
        self.times[operation].append((time.perf_counter() - started) * 1000)
        if status != OPERATIONS[operation]:
            raise Failure(f"{operation} was answered with {status}: {body[:300]!r}")


def compare(*, users: int, few: int, tasks: int, sessions: int, requests: int) -> bool:
    """Measure both sizes and print the table; tell whether size makes no difference."""
    folder = Path(tempfile.mkdtemp(prefix="ta-bench-"))
    sizes = {folder / "small": few, folder / "large": users}
    try:
        load_folders(sizes, tasks)
        with servers(list(sizes)) as connections:
            sides = [
                Side(
                    f"{number * tasks:,} tasks",
                    connection,
                    _log_in_all(connection, number, min(sessions, few, users)),
                )
                for connection, number in zip(connections, sizes.values(), strict=True)
            ]
            _measure(sides, requests)
        return _report(*sides)
    finally:
        shutil.rmtree(folder)


def _log_in_all(connection: Connection, users: int, sessions: int) -> list[Session]:
    """Log in people from all over the database."""
    return [_log_in(connection, 1 + place * users // sessions) for place in range(sessions)]


def _log_in(connection: Connection, number: int) -> Session:
    account = {"email": f"user{number:05d}@example.com", "password": PASSWORD}
    status, body = connection.ask(write_request("POST", "/api/auth/login", body=account))
    if status != 200:
        raise Failure(f"The login of user {number} was answered with {status}: {body[:300]!r}")
    token = json.loads(body)["token"]
    _, body = connection.ask(write_request("GET", "/api/tasks?limit=100", token))
    return Session(token, [task["id"] for task in json.loads(body)["tasks"]])


def _measure(sides: Sequence[Side], requests: int) -> None:
    """Ask both sides everything, time and again, in an order that is another one each time.

    So what else the machine does, and what an answer leaves to be done after it, meets both alike.
    """
    turns = [(side, operation) for side in sides for operation in OPERATIONS]
    order = Random(requests)  # noqa: S311  # nothing here is secret
    for number in range(-max(5, requests // 10), requests):
        if number == 0:  # what came before was the warm-up
            for side in sides:
                side.times.clear()
        order.shuffle(turns)
        for side, operation in turns:
            side.measure(operation, number)


def _report(small: Side, large: Side) -> bool:
    click.echo(f"| ms | {small.name}: median | p95 | {large.name}: median | p95 | ratio |")
    click.echo("|---|--:|--:|--:|--:|--:|")
    worst = 0.0
    for operation in OPERATIONS:
        first, second = small.times[operation], large.times[operation]
        ratio = median(second) / median(first)
        worst = max(worst, ratio)
        cells = (median(first), _p95(first), median(second), _p95(second), ratio)
        click.echo(f"| {operation} | {' | '.join(f'{cell:.2f}' for cell in cells)} |")
    click.echo(f"\nThe worst ratio of medians is {worst:.2f}; at most {WORST_RATIO} is accepted.")
    return worst <= WORST_RATIO


def _p95(times: list[float]) -> float:
    return sorted(times)[len(times) * 95 // 100]


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
