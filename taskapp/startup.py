"""From a database server that may still be starting to one that is migrated and open."""

import asyncio

from taskapp.database_server import prepare_database
from taskapp.errors import Unavailable
from taskapp.logs import log
from taskapp.services import Services

PAUSE = 2.0  # seconds between attempts


async def open_database(services: Services, url: str, *, unless: asyncio.Event) -> bool:
    """Migrate and open the database; give up, and say False, when the event comes first."""
    opening, event = asyncio.create_task(_open(services, url)), asyncio.create_task(unless.wait())
    await asyncio.wait({opening, event}, return_when=asyncio.FIRST_COMPLETED)
    for task in (opening, event):
        task.cancel()
    await asyncio.wait({opening, event})
    if not opening.cancelled():
        opening.result()
    return not unless.is_set()


async def _open(services: Services, url: str) -> None:
    """Open the database; while it cannot be reached, say so and try again."""
    while True:
        try:
            await prepare_database(services.settings, url)
            await services.database.open(url)
        except Unavailable as error:
            log("database.waiting", "warning", reason=error.detail, retrySeconds=PAUSE)
            await asyncio.sleep(PAUSE)
        else:
            return
