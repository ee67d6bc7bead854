"""Measures what reads on a standby would bring and cost (ADR 0052), as root on a running cluster:

python -m tests.cluster.measure_standby_reads
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from http.client import HTTPConnection
from itertools import count
from typing import Any

import psycopg2

from tests.support.cluster import (
    TASKAPP_PORT,
    Cluster,
    Machine,
    installed_patroni,
    running_cluster,
)
from tests.support.server_process import Client, processor_seconds

TASKS = 100
REQUESTS = 3000
READERS = 4
ROUNDS = 5
SECONDS = 1.0  # of a round
WRITES = 200
MODES = ("on", "remote_apply")


def main() -> None:
    with installed_patroni() as patroni, running_cluster(patroni) as cluster:
        cluster.primary().execute("CREATE TABLE measured (number int)")
        measure_reads(cluster)
        measure_commits(cluster.primary())
        measure_lag(cluster.primary(), cluster.synchronous_standby())


@contextmanager
def connected(machine: Machine, database: str = "postgres", mode: str = "on") -> Iterator[Any]:
    url = machine.url.replace("/postgres?", f"/{database}?")
    with machine.host.entered():
        connection = psycopg2.connect(f"{url}&options=-csynchronous_commit%3D{mode}")
    with closing(connection):
        connection.autocommit = True
        with connection.cursor() as cursor:
            yield cursor


def measure_reads(cluster: Cluster) -> None:
    """Print how many reads a second of a core's time gives, of taskapp and of PostgreSQL."""
    machine = cluster.primary()
    with Client(cluster.address) as alice:
        alice.sign_up("alice@example.com")
        for number in range(TASKS):
            alice.send("POST", "/api/tasks", {"title": f"Task {number}"})
    headers = {"Authorization": f"Bearer {alice.token}"}

    def read(path: str, times: int) -> None:
        with machine.host.entered():
            connection = HTTPConnection(machine.address, TASKAPP_PORT)
            connection.connect()
        with closing(connection):
            for _ in range(times):
                connection.request("GET", path, headers=headers)
                response = connection.getresponse()
                response.read()
                assert response.status == 200

    for path in ("/api/tasks?limit=20", "/api/tasks?limit=100"):
        read(path, READERS)
        taskapp, backends = machine.pids("taskapp")[0], machine.pids("postgresql")
        before = processor_seconds(taskapp)[0], sum_of(backends)
        with ThreadPoolExecutor(READERS) as pool:
            list(pool.map(partial(read, path), [REQUESTS // READERS] * READERS))
        python = processor_seconds(taskapp)[0] - before[0]
        postgresql = sum_of(backends) - before[1]
        print(  # noqa: T201  # for ADR 0052
            f"{path}: {REQUESTS / python:,.0f} a second of a core of taskapp,"
            f" {REQUESTS / postgresql:,.0f} of PostgreSQL,"
            f" which takes {postgresql / (python + postgresql):.0%} of both"
        )
    with connected(machine, "taskapp") as cursor:
        cursor.execute("SELECT id FROM tasks LIMIT 1")
        (task,) = cursor.fetchone()
        cursor.execute("PREPARE one AS SELECT title FROM tasks WHERE id = $1")
        cursor.execute("SELECT pg_backend_pid()")
        (backend,) = cursor.fetchone()
        before_one = processor_seconds(backend)[0]
        for _ in range(10 * REQUESTS):
            cursor.execute("EXECUTE one (%s)", (task,))
        rate = 10 * REQUESTS / (processor_seconds(backend)[0] - before_one)
        print(f"single reads: {rate:,.0f} a second of a core of PostgreSQL")  # noqa: T201  # as above


def sum_of(pids: list[int]) -> float:
    return sum(processor_seconds(pid)[0] for pid in pids)


def measure_commits(primary: Machine) -> None:
    """Print how many commits there are with remote_apply for each one with on, in turns."""
    for clients in (1, 8):
        rates: defaultdict[str, list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for mode in MODES:
                with ThreadPoolExecutor(clients) as pool:
                    work = partial(commits, primary, mode)
                    rates[mode].append(sum(pool.map(work, range(clients))) / SECONDS)
        ratios = [slow / fast for fast, slow in zip(*(rates[mode] for mode in MODES), strict=True)]
        print(  # noqa: T201  # as above
            f"{clients} clients: on {statistics.median(rates['on']):.0f} commits a second,"
            f" remote_apply {statistics.median(ratios):.2f} times as many"
            f" ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def commits(primary: Machine, mode: str, _client: int) -> int:
    with connected(primary, mode=mode) as cursor:
        ends = time.monotonic() + SECONDS
        for number in count():
            cursor.execute("INSERT INTO measured VALUES (0)")
            if time.monotonic() > ends:
                return number
    raise AssertionError


def measure_lag(primary: Machine, standby: Machine) -> None:
    """Print how often the synchronous standby does not have yet what was acknowledged."""
    for mode in MODES:
        with connected(primary, mode=mode) as writer, connected(standby) as reader:
            delays = []
            for number in range(WRITES):
                writer.execute("DELETE FROM measured")
                writer.execute("INSERT INTO measured VALUES (%s)", (number,))
                delays.append(delay(reader, number))
        late = [seconds for seconds in delays if seconds]
        print(  # noqa: T201  # as above
            f"{mode}: {len(late) / WRITES:.0%} not there yet,"
            f" p99 {statistics.quantiles(delays, n=100)[-1] * 1000:.0f} ms,"
            f" max {max(delays) * 1000:.0f} ms"
        )


def delay(reader: Any, number: int) -> float:
    """Return the seconds until a row is there; 0 if the first look finds it."""
    began = time.monotonic()
    for look in count():
        reader.execute("SELECT 1 FROM measured WHERE number = %s", (number,))
        if reader.fetchone():
            return time.monotonic() - began if look else 0.0
    raise AssertionError


if __name__ == "__main__":
    main()
