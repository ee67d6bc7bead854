"""After long use, the process needs no more resources than before (`make soak`: ten minutes)."""

import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread

from taskapp.config.settings import load_settings
from taskapp.postgres.server import EmbeddedPostgres
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Outcome, going_on, writing
from tests.faults.lengths import SOAK_SECONDS, WARM_UP_SECONDS
from tests.faults.outage import Browser
from tests.support.database_fixtures import execute
from tests.support.server_process import Client, ServerProcess, server_process, wait_until

POOL = load_settings({}).database_pool
GROWTH = 16 * 1024 * 1024  # bytes that memory may vary, for any length
DATABASE_CONNECTIONS = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'taskapp'"


@dataclass
class Possessions:
    """The resources of a process."""

    memory: int  # bytes
    descriptors: int
    database_connections: int


def possessions(server: ServerProcess, url: str) -> Possessions:
    process = Path(f"/proc/{server.pid}")
    pages = int((process / "statm").read_text().split()[1])
    return Possessions(
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
        descriptors=len([*(process / "fd").iterdir()]),
        database_connections=execute(url, DATABASE_CONNECTIONS)[0][0],
    )


def hang_up_early(address: str, token: str) -> None:
    """Close the connection before the response, or in the middle of the request."""
    request = (
        "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f'Authorization: Bearer {token}\r\nContent-Length: 15\r\n\r\n{{"title": "go"}}'
    ).encode()
    for sent in (request, request[:-5], request[:30]):
        with socket.create_connection(("127.0.0.1", int(address))) as connection:
            connection.sendall(sent)


@contextmanager
def visitors(address: str, stopped: Event) -> Iterator[None]:
    """Run visitors while the block runs; they log in and out, and close connections early."""

    def come_and_go() -> None:
        with Client(address) as client:
            client.sign_up(f"{time.monotonic_ns()}@example.com")
        while not stopped.wait(0.05):
            browser = Browser(address, client.email)
            assert browser.get("/tasks").status == 200
            assert browser.post("/logout").status == 303
            assert browser.get("/nowhere").status == 404
            hang_up_early(address, client.token)

    visitor = Thread(target=come_and_go)
    visitor.start()
    try:
        yield
    finally:
        stopped.set()
        visitor.join()


def test_memory_descriptors_and_connections_end_where_they_began(
    folder: Path, chance: random.Random
) -> None:
    url = EmbeddedPostgres(folder).url
    with server_process(folder) as server:
        address = server.wait_until_ready().address
        with writing(address, chance, writers=5) as ledger, visitors(address, Event()):
            time.sleep(WARM_UP_SECONDS)
            wait_until(lambda: possessions(server, url).database_connections == POOL)
        before = possessions(server, url)
        with going_on(ledger, chance, writers=5), visitors(address, Event()):
            time.sleep(SOAK_SECONDS)
        wait_until(lambda: possessions(server, url).descriptors <= before.descriptors)
        after = possessions(server, url)
        assert {*ledger.outcomes} == {Outcome.ACKNOWLEDGED}
        assert server.complaints() == []
        assert after.database_connections <= POOL
        assert after.memory - before.memory < GROWTH
        assert_all_is_well(ledger, url)
    print(f"{len(ledger.responses)} writes; {before}, then {after}")  # noqa: T201  # for docs/reliability.md
