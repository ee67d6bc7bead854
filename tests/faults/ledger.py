"""Clients that write a known sequence, and the ledger with the outcome of each write.

A write is acknowledged, refused or unknown; never "failed", because a missing response proves
nothing. An unknown write is sent again, unchanged, until it is acknowledged.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

from taskapp.core.errors import OutcomeUnknown
from tests.support.server_process import PASSWORD, Client, NoResponse, Response, wait_until

COMES_BACK_WITHIN = 20.0  # seconds, without help (docs/reliability.md)
PROBLEM = "application/problem+json"
BALANCER = "taskapp "  # how the errors of deploy/haproxy/ begin, which know of no outcome
INTERVAL = 0.05  # seconds between attempts of an unacknowledged write
STATUSES = ("pending", "completed")
UNAVAILABLE = {502, 503, 504}  # 502 and 504 are of a balancer
SUCCESS = {"POST": 201, "PUT": 200, "DELETE": 200}


class Outcome(Enum):
    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"  # known not to have happened
    UNKNOWN = "unknown"


def is_problem(response: Response) -> bool:
    """Return whether a refusal has the form of taskapp, and says when to try again."""
    headers = response.headers
    return headers["Content-Type"] == PROBLEM and int(headers["Retry-After"] or 0) > 0


def content(owner: str, key: str, revision: int) -> dict[str, str]:
    """Return a task's fields at a revision; each field names it, so that a mix is visible."""
    mark = f"{owner} {key} {revision}"
    return {"title": mark, "description": f"{mark}\n", "status": STATUSES[revision % 2]}


@dataclass
class Attempt:
    """A sent, unacknowledged write and its revision; None for a deletion."""

    method: str
    revision: int | None
    is_unknown: bool = False


@dataclass
class LedgerTask:
    """A task as known to its only writer."""

    owner: str
    key: str
    revision: int | None = None  # the last acknowledged one; None without a task
    path: str = "/api/tasks"
    version: str = ""
    attempt: Attempt | None = None

    @property
    def possible(self) -> set[int | None]:
        """Return the revisions that the database may hold."""
        if self.attempt and self.attempt.is_unknown:
            return {self.revision, self.attempt.revision}
        return {self.revision}


@dataclass
class Ledger:
    """The outcomes of all writes."""

    users: list[Client] = field(default_factory=list)
    tasks: list[LedgerTask] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    acknowledged: list[tuple[float, float]] = field(default_factory=list)  # when sent, and when
    surprises: list[str] = field(default_factory=list)  # unexpected responses

    @property
    def longest_response(self) -> float:
        """Return the seconds of the slowest response."""
        return max(response.seconds for response in self.responses)

    def measure_longest_pause(self) -> float:
        """Return and print the longest time in seconds without an acknowledged write."""
        times = sorted(at for _, at in self.acknowledged)
        longest = max(after - before for before, after in pairwise(times))
        print(f"longest time without an acknowledged write: {longest:.2f} s")  # noqa: T201  # for docs/reliability.md
        return longest

    def wait_for_writes(self, number: int = 10) -> float:
        """Wait until writes sent from now on are acknowledged, and return the seconds waited.

        An earlier write whose response is still to come proves nothing about the present state.
        """
        began = time.monotonic()
        known = len(self.acknowledged)

        def is_enough() -> bool:
            return sum(sent >= began for sent, _ in self.acknowledged[known:]) >= number

        return wait_until(is_enough)

    def wait_for(self, outcome: Outcome, number: int = 1) -> None:
        """Wait until this many more writes have this outcome."""
        enough = self.outcomes[outcome] + number
        wait_until(lambda: self.outcomes[outcome] >= enough)

    def settle(self) -> None:
        """Resend unknown writes until each is acknowledged."""
        for task in self.tasks:
            if task.attempt:
                writer = Writer(self, self._user(task.owner), random.Random(0))  # noqa: S311  # for no secret
                wait_until(lambda task=task, writer=writer: writer.send(task))  # type: ignore[misc]  # mypy reads defaults of a lambda as missing arguments
                writer.client.close()

    def _user(self, owner: str) -> Client:
        return next(user for user in self.users if owner_of(user) == owner)


def owner_of(user: Client) -> str:
    """Return the mark of a user's tasks."""
    return user.email.partition("@")[0]


class Writer(threading.Thread):
    """Creates, changes and deletes tasks of one user, one write after another."""

    def __init__(
        self, ledger: Ledger, user: Client, chance: random.Random, thinking: float = 0.0
    ) -> None:
        super().__init__()
        self.client = Client(user.address, user.token, user.email)
        self.stopped = threading.Event()
        self._ledger = ledger
        self._chance = chance
        self._thinking = thinking  # max seconds between two writes
        self._own: list[LedgerTask] = []
        self._unsettled: LedgerTask | None = None
        self._was_acknowledged = False

    def run(self) -> None:
        """Write until the event is set."""
        with self.client:
            while not self.stopped.is_set():
                task = self._unsettled or self._begin()
                is_settled = self.send(task)
                self._unsettled = None if is_settled else task
                pause = self._chance.uniform(0, self._thinking) if self._thinking else 0.0
                self.stopped.wait(pause if self._was_acknowledged else INTERVAL)

    def _begin(self) -> LedgerTask:
        """Choose the next write."""
        alive = [task for task in self._own[-20:] if task.revision is not None]
        drawn = self._chance.random()
        if not alive or drawn < 0.5:
            key = str(UUID(int=self._chance.getrandbits(128), version=4))
            task = LedgerTask(owner_of(self.client), key, attempt=Attempt("POST", 0))
            self._own.append(task)
            self._ledger.tasks.append(task)
            return task
        task = self._chance.choice(alive)
        is_change = drawn < 0.9
        revision = (task.revision or 0) + 1 if is_change else None
        task.attempt = Attempt("PUT" if is_change else "DELETE", revision)
        return task

    def send(self, task: LedgerTask) -> bool:
        """Send the attempt of a task; return whether its outcome is known now."""
        attempt = task.attempt
        assert attempt
        sent = time.monotonic()
        outcome = self._try(task, attempt)
        self._ledger.outcomes[outcome] += 1
        self._was_acknowledged = outcome is Outcome.ACKNOWLEDGED
        if outcome is Outcome.UNKNOWN:
            attempt.is_unknown = True
        elif outcome is Outcome.ACKNOWLEDGED:
            task.revision, task.attempt = attempt.revision, None
            self._ledger.acknowledged.append((sent, time.monotonic()))
        elif not attempt.is_unknown:
            task.attempt = None
        return task.attempt is None

    def _try(self, task: LedgerTask, attempt: Attempt) -> Outcome:
        is_new = attempt.method == "POST"
        fields = None
        if attempt.revision is not None:
            fields = content(task.owner, task.key, attempt.revision)
        headers = {"Idempotency_Key": task.key} if is_new else {"If_Match": task.version}
        try:
            response = self.client.send(attempt.method, task.path, fields, **headers)
        except NoResponse as error:
            was_sent = not isinstance(error.__cause__, ConnectionRefusedError)
            return Outcome.UNKNOWN if was_sent else Outcome.REFUSED
        self._ledger.responses.append(response)
        if response.status == SUCCESS[attempt.method]:
            self._take(task, response, fields)
            return Outcome.ACKNOWLEDGED
        if response.status in UNAVAILABLE:
            return self._read_refusal(response)
        if attempt.is_unknown and fields is None and response.status == 404:
            return Outcome.ACKNOWLEDGED
        if attempt.is_unknown and fields and response.status == 412:
            return self._find_applied(task, attempt, fields)
        return self._surprise(f"{attempt.method}: {response.status} {response.body!r}")

    def _take(self, task: LedgerTask, response: Response, fields: dict[str, str] | None) -> None:
        """Record the acknowledged state of a task, which has to equal the sent one."""
        if fields is None:
            return
        shown: dict[str, Any] = response.json
        if {name: shown[name] for name in fields} != fields:
            self._surprise(f"sent {fields}, was shown {shown}")
        task.path, task.version = f"/api/tasks/{shown['id']}", response.headers["ETag"]

    def _read_refusal(self, response: Response) -> Outcome:
        if not is_problem(response):
            return self._surprise(f"{response.status} of another shape: {response.headers}")
        detail = response.json["detail"]
        is_unknown = detail == OutcomeUnknown.detail or detail.startswith(BALANCER)
        return Outcome.UNKNOWN if is_unknown else Outcome.REFUSED

    def _find_applied(self, task: LedgerTask, attempt: Attempt, fields: dict[str, str]) -> Outcome:
        """Read a task whose version did not match: an earlier attempt may have succeeded."""
        try:
            response = self.client.send("GET", task.path)
        except NoResponse:
            return Outcome.UNKNOWN
        if response.status == 200:
            self._take(task, response, fields)
            return Outcome.ACKNOWLEDGED
        if response.status in UNAVAILABLE:
            return Outcome.UNKNOWN
        return self._surprise(f"after an unknown {attempt.method}: {response.status}")

    def _surprise(self, what: str) -> Outcome:
        self._ledger.surprises.append(what)
        return Outcome.UNKNOWN


def sign_up(ledger: Ledger, address: str, number: int) -> None:
    """Create accounts with a writer each, as soon as they can be created."""
    for _ in range(number):
        with Client(address) as client:
            wait_until(partial(is_registered, client))
            client.log_in(client.email)
            ledger.users.append(client)


def is_registered(client: Client) -> bool:
    client.email = f"{uuid4().hex[:12]}@example.com"
    fields = {"email": client.email, "password": PASSWORD}
    return client.send("POST", "/api/auth/register", fields).status == SUCCESS["POST"]


@contextmanager
def writing(
    address: str, chance: random.Random, *, users: int = 3, writers: int = 2
) -> Iterator[Ledger]:
    """Run several writers for each of several users while the block runs."""
    ledger = Ledger()
    sign_up(ledger, address, users)
    with going_on(ledger, chance, writers=writers):
        ledger.wait_for_writes()
        yield ledger


@contextmanager
def going_on(
    ledger: Ledger, chance: random.Random, *, writers: int = 2, thinking: float = 0.0
) -> Iterator[None]:
    """Run the writers of a ledger while the block runs."""
    threads = [
        Writer(ledger, user, random.Random(chance.random()), thinking)  # noqa: S311  # for no secret
        for user in ledger.users
        for _ in range(writers)
    ]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.stopped.set()
        for thread in threads:
            thread.join()
