"""Point 5: how response time and memory grow with the number of tasks.

A small and a large data set get the same requests, each over one keep-alive connection.
"""

import json
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

import click

from bench.accounts import Account, log_in, log_in_all
from bench.connection import Connection, write_request
from bench.processes import resident_megabytes
from bench.scenarios import OPERATIONS, Scenario
from bench.servers import Server, load_folders, servers
from bench.verdicts import Verdict, compared
from taskapp.cli.common import CliError

_FEW = 100  # the small side has 1/100 of the users
_SESSIONS = 20  # of each side
_MAX_RATIO = 1.1  # of the large side to the small one
_PAGE_SIZE = 100  # tasks


@dataclass
class Side:
    """One of the two servers: its data, connection, accounts and measured times."""

    name: str
    data_folder: Path
    server: Server
    connection: Connection
    accounts: list[Account]
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def measure(self, scenario: Scenario, number: int) -> None:
        """Send one request, and record its milliseconds.

        Raises:
            CliError: the status is not the expected one.
        """
        request = scenario.request(self.accounts[number % len(self.accounts)], number)
        self.times[scenario.name].append(_time(self.connection, request, scenario.status))


def compare_growth(*, users: int, tasks: int, requests: int) -> list[Verdict]:
    """Compare few tasks with many: response times, memory, and the first page with the last."""
    few = max(2, users // _FEW)
    with _both_sizes(users=users, few=few, tasks=tasks) as (small, large):
        click.echo(f"# asking {small.name} and {large.name}, {requests} times each")
        _ask_both((small, large), requests)
        verdicts = [
            compared(
                5,
                f"{scenario.name}, {large.name}, median of one client",
                median(large.times[scenario.name]),
                "at most",
                _MAX_RATIO,
                (small.name, median(small.times[scenario.name])),
                "ms",
            )
            for scenario in OPERATIONS
        ]
        memory, base = (resident_megabytes(side.server.pid) for side in (large, small))
        what = f"memory, {large.name}"
        verdicts.append(compared(5, what, memory, "at most", _MAX_RATIO, (small.name, base), "MB"))
        verdicts.append(_compare_pages(large, users, users * tasks, requests))
    return verdicts


@contextmanager
def _both_sizes(*, users: int, few: int, tasks: int) -> Iterator[tuple[Side, Side]]:
    """Run the small and the large side on new data folders while the block runs."""
    folder = Path(tempfile.mkdtemp(prefix="ta-bench-"))
    sizes = {folder / "small": few, folder / "large": users}
    try:
        load_folders(sizes, tasks)
        with servers(list(sizes)) as running:
            connections = [Connection(server.port) for server in running]
            small, large = (
                Side(
                    f"{number * tasks:,} tasks",
                    data_folder,
                    server,
                    connection,
                    log_in_all(connection, number, min(_SESSIONS, few)),
                )
                for (data_folder, number), server, connection in zip(
                    sizes.items(), running, connections, strict=True
                )
            )
            with closing(small.connection), closing(large.connection):
                yield small, large
    finally:
        shutil.rmtree(folder)


def _ask_both(sides: Sequence[Side], requests: int) -> None:
    """Send every request to both sides, in a new random order each round.

    The order spreads disturbances, and work after a response, evenly over both sides.
    """
    turns = [(side, scenario) for side in sides for scenario in OPERATIONS]
    order = Random(requests)  # noqa: S311  # nothing here is secret
    for number in range(-max(5, requests // 10), requests):
        if number == 0:  # negative numbers are the warm-up
            for side in sides:
                side.times.clear()
        order.shuffle(turns)
        for side, scenario in turns:
            side.measure(scenario, number)


def _compare_pages(side: Side, users: int, tasks: int, requests: int) -> Verdict:
    """Create one user with many tasks, and compare the user's last page with the first."""
    click.echo(f"# loading one user with {tasks:,} tasks, and going through all of their pages")
    load_folders({side.data_folder: 1}, tasks)
    owner = log_in(side.connection, users + 1)
    last, pages = _find_last_page(side.connection, owner)
    first = _page_request(owner)
    times: dict[bytes, list[float]] = {first: [], last: []}
    for _ in range(requests):
        for request, spent in times.items():
            spent.append(_time(side.connection, request, 200))
    what = f"page {pages:,} of a list"
    base = ("the first page", median(times[first]))
    return compared(5, what, median(times[last]), "at most", _MAX_RATIO, base, "ms")


def _find_last_page(connection: Connection, owner: Account) -> tuple[bytes, int]:
    """Follow the cursors; return the request of the last page and its number."""
    request, number = _page_request(owner), 1
    while True:
        status, body = connection.ask(request)
        _check(request, status, 200, body)
        cursor = json.loads(body)["nextCursor"]
        if cursor is None:
            return request, number
        request, number = _page_request(owner, cursor), number + 1


def _page_request(owner: Account, cursor: str = "") -> bytes:
    after = f"&after={cursor}" if cursor else ""
    return write_request("GET", f"/api/tasks?limit={_PAGE_SIZE}{after}", owner.token)


def _time(connection: Connection, request: bytes, expected: int) -> float:
    """Send one request, and return its milliseconds."""
    started = time.perf_counter()
    status, body = connection.ask(request)
    spent = (time.perf_counter() - started) * 1000
    _check(request, status, expected, body)
    return spent


def _check(request: bytes, status: int, expected: int, body: bytes) -> None:
    if status != expected:
        raise CliError(f"{request[:80]!r} returned {status}: {body[:300]!r}")
