"""PostgreSQL is killed, restarted, loses a process or hangs; taskapp recovers."""

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from taskapp.postgres.server import EmbeddedPostgres
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import Outcome, writing
from tests.faults.outage import TIMEOUT, Watchers
from tests.faults.own_postgres import OwnPostgres, backends_of, own_postgres
from tests.support.server_process import (
    ServerProcess,
    new_data_folder,
    postgres_processes,
    postmaster_of,
    server_process,
    stopped_processes,
    wait_until,
)

HANGS_FOR = 6.0  # seconds, longer than the timeout of a statement


@dataclass
class Site:
    """A taskapp with its own PostgreSQL."""

    server: ServerProcess
    postgres: OwnPostgres


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """Share both servers between all tests, so that leftovers of one fault affect the next."""
    with new_data_folder() as folder, own_postgres() as postgres:
        settings = {"TASKAPP_DATABASE_URL": postgres.url}
        with server_process(folder, settings=settings) as server:
            yield Site(server.wait_until_ready(), postgres)
            assert server.surprises() == []


def kill_everything(postgres: OwnPostgres) -> None:
    postgres.kill()


def stop_immediately(postgres: OwnPostgres) -> None:
    postgres.stop(signal.SIGQUIT)


def stop_fast(postgres: OwnPostgres) -> None:
    postgres.stop(signal.SIGINT)


@pytest.mark.parametrize("end", [kill_everything, stop_immediately, stop_fast])
def test_a_postgresql_that_ended_is_missed_in_words_and_found_again(
    site: Site, chance: random.Random, end: Callable[[OwnPostgres], None]
) -> None:
    with writing(site.server.address, chance) as ledger:
        watchers = Watchers(site.server.address)
        time.sleep(chance.uniform(0, 0.3))
        end(site.postgres)
        watchers.assert_told_of_outage()
        site.postgres.start()
        watchers.assert_first_requests_succeed()
        ledger.wait_for_writes()
    assert ledger.longest_response < TIMEOUT
    assert_all_is_well(ledger, site.postgres.url)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_backend_that_ended_takes_no_write_with_it(
    site: Site, chance: random.Random, number: signal.Signals
) -> None:
    with writing(site.server.address, chance) as ledger:
        for _ in range(3):
            site.postgres.kill_backend(chance, number)
            site.postgres.wait_until_recovered()
            ledger.wait_for_writes()
    assert ledger.longest_response < TIMEOUT
    assert_all_is_well(ledger, site.postgres.url)


def test_requests_get_a_response_in_time_while_postgresql_hangs(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        watchers = Watchers(site.server.address)
        with stopped_processes(lambda: postgres_processes(site.postgres.folder)):
            continued_at = time.monotonic() + HANGS_FOR
            watchers.assert_told_of_outage()
            time.sleep(max(0.0, continued_at - time.monotonic()))
        watchers.assert_first_requests_succeed()
        ledger.wait_for_writes()
    assert ledger.longest_response < TIMEOUT
    assert ledger.outcomes[Outcome.UNKNOWN] > 0
    assert_all_is_well(ledger, site.postgres.url)


@pytest.mark.parametrize("whose", ["postmaster", "backend"])
def test_the_postgresql_inside_comes_back_by_itself(
    folder: Path, chance: random.Random, whose: str
) -> None:
    postgres = EmbeddedPostgres(folder)
    with server_process(folder) as server:
        with writing(server.wait_until_ready().address, chance) as ledger:
            for _ in range(3):
                postmaster = postmaster_of(folder)
                backend = chance.choice(backends_of(postgres.url))
                os.kill(postmaster if whose == "postmaster" else backend, signal.SIGKILL)
                # Backends outlive their postmaster, and write on until they notice.
                wait_until(partial(is_run_anew, postgres, folder, postmaster))
                ledger.wait_for_writes()
                assert server.client().status("/api/health/ready") == 200
        assert ledger.longest_response < TIMEOUT
        assert_all_is_well(ledger, postgres.url)
        assert server.surprises() == []


def is_run_anew(postgres: EmbeddedPostgres, folder: Path, before: int) -> bool:
    """Return whether PostgreSQL is ready under another postmaster than before."""
    with suppress(FileNotFoundError, IndexError):  # its file is not there, or is empty still
        return postmaster_of(folder) != before and postgres.accepts_connections()
    return False
