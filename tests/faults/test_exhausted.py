"""Resources run out: pool connections, the database's connections, and the disk."""

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2

from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Outcome, writing
from tests.faults.outage import TIMEOUT, Watchers
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.support.database_fixtures import is_waited_for, locked_tasks
from tests.support.server_process import server_process, wait_until

PLACES = 20  # max_connections, including those reserved for superusers
LOCKED_FOR = 6.0  # seconds, longer than the timeout of a statement
# Mounts a small disk as data folder, visible only to the program.
WITH_SMALL_DISK = 'mount -t tmpfs -o size=180m,mode=0700 small "$0" && exec "$@"'


def test_statements_that_block_all_connections_refuse_in_time_and_leave_nothing(
    folder: Path, chance: random.Random
) -> None:
    with (
        own_postgres() as postgres,
        server_process(folder, settings={"TASKAPP_DATABASE_URL": postgres.url}) as server,
    ):
        with writing(server.wait_until_ready().address, chance, writers=8) as ledger:
            watchers = Watchers(server.address)
            with locked_tasks(postgres.url):
                time.sleep(LOCKED_FOR)
            wait_until(lambda: not is_waited_for(postgres.url))
            watchers.assert_first_requests_succeed()
            ledger.wait_for_writes()
        assert ledger.outcomes[Outcome.REFUSED] > 0
        assert ledger.longest_response < TIMEOUT
        assert_all_is_well(ledger, postgres.url)
        assert server.surprises() == []


def test_a_database_without_a_free_place_is_missed_in_words_and_found_again(
    folder: Path, chance: random.Random
) -> None:
    with (
        own_postgres({"max_connections": str(PLACES)}) as postgres,
        server_process(folder, settings={"TASKAPP_DATABASE_URL": postgres.url}) as server,
    ):
        with writing(server.wait_until_ready().address, chance) as ledger:
            watchers = Watchers(server.address)
            with all_places_taken(postgres):
                watchers.assert_told_of_outage()
            watchers.assert_first_requests_succeed()
            ledger.wait_for_writes()
        assert ledger.longest_response < TIMEOUT
        assert_all_is_well(ledger, postgres.url)
        assert server.surprises() == []


@contextmanager
def all_places_taken(postgres: OwnPostgres) -> Iterator[None]:
    """Open connections until the database accepts no more; close them at the end."""
    backends: list[int] = []
    with ExitStack() as stack, closing(psycopg2.connect(postgres.url)) as first:
        first.autocommit = True
        cursor = first.cursor()
        while len(backends) < PLACES - 1:
            with suppress(psycopg2.OperationalError):
                while True:
                    connection: Any = psycopg2.connect(postgres.url)
                    stack.callback(connection.close)
                    backends.append(connection.get_backend_pid())
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'taskapp'"
            )
        yield
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in backends))


def test_a_full_disk_refuses_writes_in_words_and_takes_them_again(
    folder: Path, chance: random.Random
) -> None:
    folder.mkdir()
    launcher = ["unshare", *namespaces(), "sh", "-c", WITH_SMALL_DISK, str(folder)]
    with server_process(folder, launcher=[*launcher, sys.executable, "-W", "error"]) as server:
        inside = Path(f"/proc/{server.wait_until_ready().pid}/root{folder}")
        url = f"postgresql://taskapp@/postgres?host={inside}/socket"
        with writing(server.address, chance) as ledger:
            fill(inside / "filling")
            ledger.wait_for(Outcome.REFUSED, 10)
            with server.client() as client:
                health = client.send("GET", "/api/health")
                assert (health.status, health.json["database"]) == (503, "read-only")
                assert client.status("/api/health/ready") == 200
            with ledger.users[0] as reader:
                assert reader.status("/api/tasks") == 200
            (inside / "filling").unlink()
            ledger.wait_for_writes(30)
            with server.client() as client:
                wait_until(lambda: client.status("/api/health") == 200)
        assert_all_is_well(ledger, url)
        assert server.surprises() == []


def namespaces() -> list[str]:
    """Return the options of `unshare` for a mount; users other than root need a user namespace."""
    return ["--mount"] if os.geteuid() == 0 else ["--mount", "--map-current-user", "--keep-caps"]


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
