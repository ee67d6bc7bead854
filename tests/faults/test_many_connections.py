"""1,000 idle connections and 500 busy ones are all served."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapp.runtime.listeners import allow_many_connections
from tests.faults.crowd import Crowd
from tests.faults.outage import TIMEOUT
from tests.support.server_process import (
    ServerProcess,
    processor_seconds,
    processor_share,
    server_process,
)

IDLE, BUSY = 1000, 500
QUEUES = 3
SECONDS = 6.0
# Starts a program with the usual default limit of open files.
AS_USUAL = ["sh", "-c", 'ulimit -Sn 1024 && exec "$@"', "sh", sys.executable, "-W", "error"]


@pytest.fixture
def server(folder: Path) -> Iterator[ServerProcess]:
    with server_process(folder, launcher=AS_USUAL) as process:
        yield process.wait_until_ready()
        assert process.surprises() == []


def test_a_thousand_idle_and_five_hundred_busy_connections_are_all_served(
    server: ServerProcess,
) -> None:
    allow_many_connections()  # for the client's side
    with server.client() as alice:
        alice.sign_up("alice@example.com")
        crowd = Crowd(int(server.address), alice.token)

    async def scenario() -> int:
        is_over = asyncio.Event()
        idle = asyncio.create_task(crowd.stay_idle(IDLE, is_over))
        least = await crowd.keep_busy(BUSY, SECONDS)
        is_over.set()
        await idle
        return least

    before = processor_seconds(server.pid)
    assert asyncio.run(scenario()) > 0
    share = processor_share(server.pid, before)
    assert {*crowd.statuses} == {200, 201}
    # First come, first served: the server's loop, its pool and the client's loop are queues. In
    # each of them all others may be ahead of a request, and none overtakes it.
    assert crowd.overtaken < QUEUES * BUSY
    assert crowd.slowest * share < TIMEOUT  # the time in which the server had the processor
    with server.client() as bob:
        bob.sign_up("bob@example.com")
