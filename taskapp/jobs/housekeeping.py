"""What the server does by itself from time to time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from taskapp.core.errors import TaskappError
from taskapp.jobs.health_check import find_database_problem
from taskapp.observability.logs import log
from taskapp.operations.accounts import forget_addresses, purge_sessions
from taskapp.services import Services

Work = Callable[[Services], Coroutine[Any, Any, object]]

UPKEEP: dict[Work, float] = {purge_sessions: 3600.0, forget_addresses: 3600.0}  # seconds between
WATCH: dict[Work, float] = {find_database_problem: 15.0}  # seconds between
_LOOP_SAMPLE = 1.0  # seconds


@asynccontextmanager
async def run_housekeeping(services: Services) -> AsyncIterator[None]:
    """Delete what has ended, for as long as the block lasts."""
    upkeep = [
        _repeat(partial(_unless_under_maintenance, work), services, pause)
        for work, pause in UPKEEP.items()
    ]
    async with _going_on(upkeep):
        yield


@asynccontextmanager
async def run_health_checks(services: Services) -> AsyncIterator[None]:
    """Watch the database and the event loop, for as long as the block lasts."""
    watch = [_repeat(work, services, pause) for work, pause in WATCH.items()]
    async with _going_on([*watch, _measure_loop(services)]):
        yield


async def _unless_under_maintenance(work: Work, services: Services) -> None:
    if services.maintenance.window is None:
        await work(services)


@asynccontextmanager
async def _going_on(work: Sequence[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(part) for part in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _repeat(work: Work, services: Services, seconds: float) -> None:
    while True:
        try:
            # The stop ends the waiting alone: a statement cut off would be an error to PostgreSQL.
            await asyncio.shield(work(services))
        except TaskappError as error:
            log("upkeep.failed", "warning", error=error.detail)
        except Exception as error:  # an unknown one must not end the upkeep
            log("upkeep.failed", "error", error=type(error).__name__)
        await asyncio.sleep(seconds)


async def _measure_loop(services: Services) -> None:
    loop = asyncio.get_running_loop()
    while True:
        wanted = loop.time() + _LOOP_SAMPLE
        await asyncio.sleep(_LOOP_SAMPLE)
        services.metrics.loop_delay.observe(max(0.0, loop.time() - wanted))
