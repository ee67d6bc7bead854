"""What the server does by itself from time to time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from taskapp.errors import TaskappError
from taskapp.logs import log
from taskapp.operations.accounts import forget_addresses, purge_sessions
from taskapp.services import Services

INTERVAL = 3600.0  # seconds


@asynccontextmanager
async def keep_up(services: Services) -> AsyncIterator[None]:
    """Delete what has ended, now and once an hour for as long as the block lasts."""
    task = asyncio.create_task(_repeat(services))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(services: Services) -> None:
    while True:
        try:
            await purge_sessions(services)
            await forget_addresses(services)
        except TaskappError as error:
            log("upkeep.failed", "warning", error=error.detail)
        except Exception as error:  # an unknown one must not end the upkeep
            log("upkeep.failed", "error", error=type(error).__name__)
        await asyncio.sleep(INTERVAL)
