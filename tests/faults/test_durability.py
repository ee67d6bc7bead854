"""A write is acknowledged only after it is on disk."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.own_postgres import OwnPostgres, backends_of, own_postgres
from tests.support.database_fixtures import execute
from tests.support.server_process import server_process, wait_until

WRITES = 100


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


def count_flushes(url: str) -> int:
    """Return how often PostgreSQL has flushed its WAL to disk."""
    return int(execute(url, "SELECT sum(fsyncs) FROM pg_stat_io WHERE object = 'wal'")[0][0])


def flushes_of_writes(folder: Path, postgres: OwnPostgres, **changed: str) -> int:
    """Write sequentially with one client, and return the number of flushes meanwhile."""
    postgres.stop()
    postgres.start(changed)
    settings = {"TASKAPP_DATABASE_URL": postgres.url}
    with server_process(folder, settings=settings) as server, server.client() as alice:
        server.wait_until_ready()
        alice.sign_up(f"{uuid4().hex}@example.com")
        before = count_flushes(postgres.url)
        for number in range(WRITES):
            assert alice.send("POST", "/api/tasks", {"title": f"Task {number}"}).status == 201
        assert server.end() == 0
    wait_until(lambda: not backends_of(postgres.url))  # they report their statistics at their end
    return count_flushes(postgres.url) - before


def test_every_acknowledged_write_was_flushed(folder: Path, postgres: OwnPostgres) -> None:
    assert flushes_of_writes(folder, postgres) >= WRITES


@pytest.mark.parametrize("setting", ["fsync", "synchronous_commit"])
def test_a_database_that_does_not_flush_is_found_out(
    folder: Path, postgres: OwnPostgres, setting: str
) -> None:
    changed = {setting: "off", "wal_writer_delay": "10s"}
    assert flushes_of_writes(folder, postgres, **changed) < WRITES
