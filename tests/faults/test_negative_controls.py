"""The experiments find every deliberate defect, so they can fail."""

import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.checker import check
from tests.faults.ledger import writing
from tests.faults.own_postgres import OwnPostgres, own_postgres
from tests.support.server_process import server_process

BROKEN = Path(__file__).with_name("broken_server.py")
ATTEMPTS = 5


@pytest.fixture(scope="module")
def postgres() -> Iterator[OwnPostgres]:
    with own_postgres() as running:
        yield running


def kill_a_backend(postgres: OwnPostgres, chance: random.Random) -> None:
    postgres.kill_backend(chance, signal.SIGKILL)


def do_nothing(_postgres: OwnPostgres, _chance: random.Random) -> None:
    pass


@pytest.mark.parametrize(
    ("what", "fault", "finding"),
    [
        ("acknowledges before commit", kill_a_backend, "lost"),
        ("commits twice", kill_a_backend, "half_done"),
        ("keeps the user in a global", do_nothing, "misplaced"),
    ],
)
def test_a_taskapp_that_is_broken_is_found_out(
    folder: Path,
    postgres: OwnPostgres,
    chance: random.Random,
    what: str,
    fault: Callable[[OwnPostgres, random.Random], None],
    finding: str,
) -> None:
    settings = {"TASKAPP_DATABASE_URL": postgres.url}
    with server_process(folder, what, settings=settings, program=BROKEN) as server:
        server.wait_until_ready()
        for _ in range(ATTEMPTS):
            with writing(server.address, chance) as ledger:
                time.sleep(chance.uniform(0.2, 0.5))
                fault(postgres, chance)
            postgres.wait_until_recovered()
            if getattr(check(ledger, postgres.url), finding):
                return
    pytest.fail(f"a taskapp that {what} looks as good as one that does not")


def test_a_database_that_acknowledges_what_is_not_on_the_disk_is_found_out(
    folder: Path, postgres: OwnPostgres, chance: random.Random
) -> None:
    postgres.stop()
    postgres.start({"synchronous_commit": "off", "wal_writer_delay": "10s"})
    settings = {"TASKAPP_DATABASE_URL": postgres.url}
    with server_process(folder, settings=settings) as server:
        with writing(server.wait_until_ready().address, chance) as ledger:
            postgres.kill()
        postgres.start()
        assert check(ledger, postgres.url).lost
