"""taskapp is killed repeatedly at random times, and loses no acknowledged write."""

import multiprocessing
import os
import random
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from server import cli
from taskapp.postgres.server import EmbeddedPostgres
from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import going_on, writing
from tests.faults.own_postgres import own_postgres
from tests.support.server_process import SETTINGS, reserved_port, server_process

KILLS = 10  # with each kind of database


@pytest.mark.parametrize("kind", ["embedded", "own"])
def test_killing_taskapp_loses_nothing_acknowledged(
    folder: Path, chance: random.Random, kind: str
) -> None:
    with reserved_port() as port:
        settings = {"TASKAPP_PORT": str(port)}
        if kind == "embedded":
            kill_often(folder, chance, settings, EmbeddedPostgres(folder).url)
            return
        with own_postgres() as postgres:
            settings["TASKAPP_DATABASE_URL"] = postgres.url
            kill_often(folder, chance, settings, postgres.url)


def kill_often(folder: Path, chance: random.Random, settings: dict[str, str], url: str) -> None:
    port = settings["TASKAPP_PORT"]
    with server_process(folder, settings=settings) as server:
        server.wait_until_ready()
        with writing(port, chance) as ledger:
            time.sleep(chance.uniform(0, 0.3))
            server.process.kill()
            server.process.wait()
    for _ in range(KILLS - 1):
        with going_on(ledger, chance), killed_at_the_end(folder, settings):
            ledger.wait_for_writes()  # without help, with the old sessions
            time.sleep(chance.uniform(0, 0.3))
    with server_process(folder, settings=settings) as server:
        server.wait_until_ready()
        assert_all_is_well(ledger, url)


@contextmanager
def killed_at_the_end(folder: Path, settings: dict[str, str]) -> Iterator[None]:
    """Serve until killed; forked after the imports, which are most of a start."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    environment = SETTINGS | {"TASKAPP_DATA_DIR": str(folder), "TASKAPP_LOG_LEVEL": "error"}
    process = context.Process(target=serve, args=[environment | settings])
    process.start()
    try:
        yield
    finally:
        process.kill()
        process.join()
        process.close()


def serve(settings: dict[str, str]) -> None:
    warnings.simplefilter("error")
    os.environ.update(settings)
    cli([])
