"""A new process replaces the old one during requests, and no request fails."""

import random
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from taskapp.postgres.server import EmbeddedPostgres
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Ledger, Outcome, going_on, sign_up
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.support.server_process import PROGRAM, SYSTEMD, ServerProcess, server_process, wait_until

BROKEN = Path(__file__).with_name("broken_server.py")
ATTEMPTS = 5
THINKING = 0.5  # max seconds that some clients pause between two requests


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Hold the socket, like systemd, across processes."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as held:
        yield held


@contextmanager
def serving(
    listener: socket.socket, folder: Path, url: str = "", broken: str = ""
) -> Iterator[ServerProcess]:
    with server_process(
        folder,
        *([broken] if broken else []),
        program=BROKEN if broken else PROGRAM,
        settings={"TASKAPP_DATABASE_URL": url},
        launcher=[sys.executable, "-c", SYSTEMD, str(listener.fileno())],
        pass_fds=[listener.fileno()],
    ) as server:
        server.address = str(listener.getsockname()[1])
        yield server


@contextmanager
def working(address: str, chance: random.Random) -> Iterator[Ledger]:
    """Run some clients without pauses, and others with pauses between requests."""
    ledger = Ledger()
    sign_up(ledger, address, 3)
    with (
        going_on(ledger, chance, writers=1),
        going_on(ledger, chance, writers=4, thinking=THINKING),
    ):
        ledger.wait_for_writes()
        yield ledger


def assert_nobody_noticed(ledger: Ledger, url: str) -> None:
    assert {*ledger.outcomes} == {Outcome.ACKNOWLEDGED}
    assert_all_is_well(ledger, url)


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


def test_beside_a_database_of_its_own_the_new_process_listens_first(
    folder: Path, postgres: OwnPostgres, chance: random.Random, listener: socket.socket
) -> None:
    with ExitStack() as stack:

        def start() -> ServerProcess:
            server = stack.enter_context(serving(listener, folder, postgres.url))
            wait_until(lambda: "taskapp is ready" in server.said)
            return server

        old = start()
        with working(old.address, chance) as ledger:
            for _ in range(3):
                new = start()
                assert old.end() == 0
                assert old.complaints() == []
                ledger.wait_for_writes()
                old = new
        assert_nobody_noticed(ledger, postgres.url)


def test_with_the_database_inside_requests_wait_for_the_new_process(
    folder: Path, chance: random.Random, listener: socket.socket
) -> None:
    with ExitStack() as stack:
        old = stack.enter_context(serving(listener, folder)).wait_until_ready()
        with working(old.address, chance) as ledger:
            for _ in range(3):
                assert old.end() == 0
                assert old.complaints() == []
                old = stack.enter_context(serving(listener, folder))
                ledger.wait_for_writes()
        assert_nobody_noticed(ledger, EmbeddedPostgres(folder).url)


def test_a_process_that_closes_at_once_is_found_out(
    folder: Path, postgres: OwnPostgres, chance: random.Random, listener: socket.socket
) -> None:
    for _ in range(ATTEMPTS):
        with (
            serving(listener, folder, postgres.url, broken="closes at once") as old,
            working(old.wait_until_ready().address, chance) as ledger,
            serving(listener, folder, postgres.url) as new,
        ):
            wait_until(lambda: "taskapp is ready" in new.said)
            old.end()
            ledger.wait_for_writes()
        if {*ledger.outcomes} != {Outcome.ACKNOWLEDGED}:
            return
    pytest.fail("a process that closes at once looks as good as one that does not")
