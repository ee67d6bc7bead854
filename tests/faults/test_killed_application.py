"""taskapp is killed again and again, at any moment, and loses nothing that it acknowledged."""

import random
import time
from pathlib import Path

import pytest

from taskapp.embedded import EmbeddedPostgres
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import COMES_BACK_WITHIN, going_on, writing
from tests.faults.lengths import KILLS
from tests.faults.own_postgres import own_postgres
from tests.server_process import free_port, server_process


@pytest.mark.parametrize("kind", ["embedded", "own"])
def test_killing_taskapp_loses_nothing_acknowledged(
    folder: Path, chance: random.Random, kind: str
) -> None:
    settings = {"TASKAPP_PORT": free_port_text()}
    if kind == "embedded":
        kill_often(folder, chance, settings, EmbeddedPostgres(folder).url)
        return
    with own_postgres() as postgres:
        kill_often(folder, chance, settings | {"TASKAPP_DATABASE_URL": postgres.url}, postgres.url)


def free_port_text() -> str:
    return str(free_port())


def kill_often(folder: Path, chance: random.Random, settings: dict[str, str], url: str) -> None:
    port = settings["TASKAPP_PORT"]
    with server_process(folder, settings=settings) as server:
        server.wait_until_ready()
        with writing(port, chance) as ledger:
            time.sleep(chance.uniform(0, 0.3))
            server.process.kill()
            server.process.wait()
    for _ in range(KILLS - 1):
        with going_on(ledger, chance), server_process(folder, settings=settings) as server:
            ledger.wait_for_writes()  # by itself, as soon as it is there, with the old sessions
            time.sleep(chance.uniform(0, 0.3))
            server.process.kill()
            server.process.wait()
    with server_process(folder, settings=settings) as server:
        server.wait_until_ready()
        assert_all_is_well(ledger, url)
    assert ledger.measure_longest_pause() < COMES_BACK_WITHIN
