"""The start: wait for the database server, migrate and open the database; the stop signals."""

import asyncio
import signal
from collections.abc import Coroutine

from taskapp.core.errors import Unavailable
from taskapp.db.errors import handle_loop_error
from taskapp.observability.logs import log
from taskapp.runtime.database_server import prepare_database
from taskapp.services import Services

RETRY_INTERVAL = 2.0  # seconds between attempts


def install_stop_signals() -> asyncio.Event:
    """Install handlers for SIGTERM and SIGINT, and return the event that they set."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    return stopped


def install_loop_error_handler() -> None:
    """Log errors of the running event loop; a cancelled statement is a warning, not a traceback."""
    asyncio.get_running_loop().set_exception_handler(handle_loop_error)


async def run_until(event: asyncio.Event, work: Coroutine[object, object, object]) -> bool:
    """Run a coroutine until an event is set; return False if the event cancelled it."""
    doing, happening = asyncio.create_task(work), asyncio.create_task(event.wait())
    await asyncio.wait({doing, happening}, return_when=asyncio.FIRST_COMPLETED)
    for task in (doing, happening):
        task.cancel()
    await asyncio.wait({doing, happening})
    if not doing.cancelled():
        doing.result()
    return not event.is_set()


async def open_database(services: Services, url: str, *, stop: asyncio.Event) -> bool:
    """Migrate and open the database; return False if the event is set first."""
    install_loop_error_handler()
    return await run_until(stop, _open(services, url))


async def _open(services: Services, url: str) -> None:
    """Open the database; log and retry while it cannot be reached."""
    while True:
        try:
            await prepare_database(services.settings, url)
            await services.database.open(url)
        except Unavailable as error:
            log("database.waiting", "warning", reason=error.detail, retrySeconds=RETRY_INTERVAL)
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            return
