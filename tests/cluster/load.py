"""What works while something is broken: writers with a ledger, readers, and probes.

A probe is a client inside one PostgreSQL's machine, which nothing can cut off from it.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any
from uuid import uuid4

import psycopg2

from tests.faults.checker import Findings, check
from tests.faults.ledger import UNAVAILABLE, Ledger, Outcome, is_problem, writing
from tests.support.cluster import Cluster, Machine
from tests.support.server_process import Client, NoResponse, wait_until

PROBES = "CREATE TABLE IF NOT EXISTS probes (key text PRIMARY KEY)"
# The timeline is part of the name of the WAL file in which the write is.
PROBE = """
    INSERT INTO probes VALUES (%s)
    RETURNING ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int
"""
INTERVAL = 0.1  # seconds between two probes
POSTGRESQL = 5432  # port
BACK_WITHIN = 30.0  # seconds, by itself, where the engines allow it


@dataclass(frozen=True)
class ProbeWrite:
    """An acknowledged write of a probe."""

    key: str
    machine: str
    timeline: int
    sent: float
    acknowledged: float


class Stoppable(threading.Thread):
    """A thread that does one thing again and again until it is stopped."""

    def __init__(self, step: Callable[[], None], interval: float) -> None:
        super().__init__(daemon=True)
        self.stopped = threading.Event()
        self._step, self._interval = step, interval

    def run(self) -> None:
        while not self.stopped.is_set():
            self._step()
            self.stopped.wait(self._interval)


@contextmanager
def repeating(step: Callable[[], None], interval: float) -> Iterator[None]:
    thread = Stoppable(step, interval)
    thread.start()
    try:
        yield
    finally:
        thread.stopped.set()
        thread.join()


class Probe:
    """Writes to the PostgreSQL of one machine, whenever that accepts writes."""

    def __init__(self, machine: Machine, synchronous_commit: str) -> None:
        self.writes: list[ProbeWrite] = []
        self._machine = machine
        self._options = f"&options=-csynchronous_commit%3D{synchronous_commit}"
        self._mark = f"{machine.name} {synchronous_commit} {uuid4()}"
        self._connection: Any = None
        self._number = 0

    def write(self) -> None:
        self._number += 1
        key = f"{self._mark} {self._number}"
        try:
            if self._connection is None:
                with self._machine.host.entered():
                    self._connection = psycopg2.connect(self._machine.url + self._options)
                self._connection.autocommit = True
            sent = time.monotonic()
            with self._connection.cursor() as cursor:
                cursor.execute(PROBE, (key,))
                ((timeline,),) = cursor.fetchall()
            if self._connection.notices:  # the wait for a standby was canceled
                del self._connection.notices[:]
                return
        except psycopg2.Error:
            self.close()
            return
        written = ProbeWrite(key, self._machine.name, timeline, sent, time.monotonic())
        self.writes.append(written)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Reader:
    """Reads the tasks of a user, again and again."""

    def __init__(self, user: Client) -> None:
        self.client = Client(user.address, user.token)
        self.read: list[float] = []  # when
        self.surprises: list[str] = []
        self.refused = 0

    def list(self) -> None:
        try:
            response = self.client.send("GET", "/api/tasks?limit=5")
        except NoResponse as error:
            self.surprises.append(str(error))
            return
        if response.status == 200:
            self.read.append(time.monotonic())
        elif response.status in UNAVAILABLE and is_problem(response):
            self.refused += 1
        else:
            self.surprises.append(f"GET: {response.status} {response.body!r}")


def longest_pause(times: list[float]) -> float:
    return max((after - before for before, after in pairwise(sorted(times))), default=0.0)


@dataclass
class Load:
    """Everything that works at the same time, and what it saw."""

    cluster: Cluster
    ledger: Ledger
    readers: list[Reader] = field(default_factory=list)
    probes: list[Probe] = field(default_factory=list)  # each commit waits for a standby
    local_probes: list[Probe] = field(default_factory=list)  # no commit waits

    def wait_for_writes(self) -> None:
        """Wait until writes that are sent from now on are acknowledged."""
        self.ledger.wait_for_writes()

    def wait_for_timeline(self, old: int) -> None:
        """Wait until a new primary has acknowledged the write of a probe."""
        wait_until(lambda: any(one.timeline > old for probe in self.probes for one in probe.writes))

    @property
    def write_pause(self) -> float:
        return longest_pause([at for _, at in self.ledger.acknowledged])

    @property
    def read_pause(self) -> float:
        return longest_pause([at for reader in self.readers for at in reader.read])

    def surprises(self) -> list[str]:
        own = [one for reader in self.readers for one in reader.surprises]
        return own + [
            line for machine in self.cluster.machines.values() for line in machine.surprises()
        ]

    def statuses(self) -> "Counter[int]":
        """Return how often writers were refused, by status; 0 without a response."""
        refused = Counter(one.status for one in self.ledger.responses if one.status in UNAVAILABLE)
        attempts = sum(self.ledger.outcomes.values())
        silent = attempts - len(self.ledger.responses)
        return refused + Counter({0: max(silent, 0)})

    def check(self) -> Findings:
        """Compare the primary with the ledger."""
        machine = self.cluster.primary()
        with machine.host.entered():
            return check(self.ledger, machine.url.replace("/postgres?", "/taskapp?"))

    def lost_probes(self) -> list[str]:
        """Return the acknowledged writes of probes that the primary does not have."""
        kept = {key for (key,) in self.cluster.primary().execute("SELECT key FROM probes")}
        return [one.key for probe in self.probes for one in probe.writes if one.key not in kept]

    def two_primaries(self) -> list[ProbeWrite]:
        """Return the writes acknowledged by an old primary after a new one acknowledged some."""
        return _behind(self.probes, self.probes)

    def seconds_beside(self) -> float:
        """Return for how long an old primary took writes that wait for no standby."""
        late = _behind(self.probes, self.local_probes)
        first = {
            newer.timeline: newer.acknowledged
            for probe in self.probes
            for newer in reversed(probe.writes)
        }
        ends = [one.acknowledged - min(first[t] for t in first if t > one.timeline) for one in late]
        return max(ends, default=0.0)


def _behind(new: list[Probe], old: list[Probe]) -> list[ProbeWrite]:
    writes = [one for probe in new for one in probe.writes]
    first: dict[int, float] = {}
    for one in writes:
        first[one.timeline] = min(first.get(one.timeline, one.acknowledged), one.acknowledged)
    return [
        one
        for probe in old
        for one in probe.writes
        if any(one.timeline < timeline and one.sent > at for timeline, at in first.items())
    ]


@contextmanager
def under_load(cluster: Cluster, chance: random.Random) -> Iterator[Load]:
    """Run six writers, two readers and two probes for each machine while the block runs."""
    cluster.wait_until_healthy()
    cluster.primary().execute(PROBES)
    with writing(cluster.address, chance) as ledger, ExitStack() as stack:
        load = Load(cluster, ledger)
        load.readers = [Reader(user) for user in ledger.users[:2]]
        machines = cluster.machines.values()
        load.probes = [Probe(machine, "on") for machine in machines]
        load.local_probes = [Probe(machine, "local") for machine in machines]
        for reader in load.readers:
            stack.callback(reader.client.close)
            stack.enter_context(repeating(reader.list, INTERVAL))
        for probe in load.probes + load.local_probes:
            stack.callback(probe.close)
            stack.enter_context(repeating(probe.write, INTERVAL))
        wait_until(lambda: any(probe.writes for probe in load.probes))
        yield load
        cluster.wait_until_healthy()
        load.wait_for_writes()


@dataclass
class Result:
    """One line of the table in docs/reliability.md."""

    fault: str
    load: Load
    lost: int

    def __str__(self) -> str:
        outcomes = self.load.ledger.outcomes
        slowest = self.load.ledger.longest_response
        statuses = self.load.statuses()
        numbers = [
            f"{self.load.write_pause:.1f}",
            f"{self.load.read_pause:.1f}",
            f"{outcomes[Outcome.ACKNOWLEDGED]}",
            f"{outcomes[Outcome.REFUSED]}",
            f"{outcomes[Outcome.UNKNOWN]}",
            " ".join(f"{number} x {status}" for status, number in sorted(statuses.items())) or "-",
            f"{slowest:.1f}",
            f"{self.lost}",
            f"{self.load.seconds_beside():.1f}",
        ]
        return f"| {self.fault} | {' | '.join(numbers)} |"
