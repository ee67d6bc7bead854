"""From a database server that may still be starting to one that is migrated and open."""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import psycopg2.errors

from taskapp.config.settings import Settings
from taskapp.core.errors import Unavailable
from taskapp.observability.logs import log
from taskapp.runtime.database_server import prepare_database
from taskapp.services import Services

RETRY_INTERVAL = 2.0  # seconds between attempts


def install_stop_signals() -> asyncio.Event:
    """Give the event that SIGTERM and Ctrl-C set."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def install_loop_error_handler() -> None:
    """Log errors of the running event loop; a cancelled statement is a warning, not a traceback."""
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    if isinstance(error, psycopg2.errors.QueryCanceled):
        # aiopg tells the loop that PostgreSQL cancelled a statement, and raises it to the caller.
        log("database.refused", "warning", code=error.pgcode)
    else:
        loop.default_exception_handler(context)


async def run_until(event: asyncio.Event, work: Coroutine[object, object, object]) -> bool:
    """Do some work; give it up, and say False, when the event comes first."""
    doing, happening = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, happening}, return_when=asyncio.FIRST_COMPLETED)
    for task in (doing, happening):
        task.cancel()
    await asyncio.wait({doing, happening})
    if not doing.cancelled():
        doing.result()
    return not event.is_set()


async def open_database(
    services: Services,
    url: str,
    *,
    stop: asyncio.Event,
    prepare: Callable[[Settings, str], Awaitable[object]] = prepare_database,
) -> bool:
    """Migrate and open the database; return False if `stop` is set first."""
    install_loop_error_handler()
    return await run_until(stop, _open(services, url, prepare))


async def _open(
    services: Services, url: str, prepare: Callable[[Settings, str], Awaitable[object]]
) -> None:
    """Open the database; while it cannot be reached, say so and try again."""
    while True:
        try:
            await prepare(services.settings, url)
            await services.database.open(url)
        except Unavailable as error:
            log("database.waiting", "warning", reason=error.detail, retrySeconds=RETRY_INTERVAL)
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            return
