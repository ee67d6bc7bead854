"""What the server does by itself from time to time."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from taskapp.errors import TaskappError
from taskapp.logs import log
from taskapp.operations.accounts import forget_addresses, purge_sessions
from taskapp.operations.health import find_database_problem
from taskapp.services import Services

Work = Callable[[Services], Awaitable[object]]

SECONDS_BETWEEN: dict[Work, float] = {
    purge_sessions: 3600.0,
    forget_addresses: 3600.0,
    find_database_problem: 15.0,
}
_LOOP_SAMPLE = 1.0  # seconds


@asynccontextmanager
async def keep_up(services: Services) -> AsyncIterator[None]:
    """Delete what has ended, and watch database and loop, for as long as the block lasts."""
    tasks = [
        asyncio.create_task(_repeat(work, services, seconds))
        for work, seconds in SECONDS_BETWEEN.items()
    ]
    tasks.append(asyncio.create_task(_measure_loop(services)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _repeat(work: Work, services: Services, seconds: float) -> None:
    while True:
        try:
            await work(services)
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
