"""The start: wait for the database server, migrate and open the database; the stop signals."""

import asyncio
import signal
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager

from taskapp.core.cancellation import raise_if_cancelled
from taskapp.core.errors import Unavailable
from taskapp.db.errors import handle_loop_error
from taskapp.observability.logs import log
from taskapp.queries.postgresql import ping_server, require_facts
from taskapp.runtime.database_connections import MORE_CONNECTIONS, find_too_few_connections
from taskapp.runtime.database_server import database_server, prepare_database
from taskapp.services import Services

RETRY_INTERVAL = 2.0  # seconds between attempts


def install_stop_signals() -> asyncio.Event:
    """Install handlers for SIGTERM, SIGINT and SIGHUP, and return the event that they set.

    SIGHUP comes when the terminal is closed. If it is ignored, as below `nohup`, it stays so.
    """
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
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


@asynccontextmanager
async def open_database(services: Services, *, stop: asyncio.Event) -> AsyncIterator[str]:
    """Start, migrate and open the database, and yield its address; "" if the event is set first.

    The embedded server runs for the length of the block.
    """
    install_loop_error_handler()
    url = ""

    async def start() -> None:
        nonlocal url
        url = await stack.enter_async_context(database_server(services.settings, upgrades=True))
        await _open(services, url)

    async with AsyncExitStack() as stack:
        yield url if await run_until(stop, start()) else ""


async def _open(services: Services, url: str) -> None:
    """Open the database; log and retry while it cannot be reached."""
    while True:
        try:
            await prepare_database(services.settings, url)
            await _open_once(services, url)
        except Unavailable as error:
            raise_if_cancelled()
            log("database.waiting", "warning", reason=str(error), retrySeconds=RETRY_INTERVAL)
            await asyncio.sleep(RETRY_INTERVAL)
        else:
            return


async def _open_once(services: Services, url: str) -> None:
    database = services.database
    await database.open(url)
    try:
        await ping_server(database)
        facts = await require_facts(database)
    except BaseException:
        await database.close()
        raise
    if reason := find_too_few_connections(facts, services.settings.database_pool):
        log("database.connections_limited", "warning", reason=reason, fix=MORE_CONNECTIONS)
