"""How the process and its database are."""

import asyncio
import shutil
from time import monotonic

from taskapp.core.errors import TaskappError
from taskapp.observability.availability import Problem
from taskapp.queries.server import ping_server
from taskapp.services import Services

TIMEOUT = 4.5  # seconds; MON-11 in docs/design/requirements.md promises a response within 5
MIN_FREE_SPACE = 64 * 1024 * 1024  # bytes; a write of the database's log takes sixteen million
_started = monotonic()


def uptime() -> int:
    """Return how long the process has been running, in seconds."""
    return int(monotonic() - _started)


async def find_database_problem(services: Services) -> Problem | None:
    """Return what is wrong with the database, within five seconds; None when all is well."""
    ping = asyncio.ensure_future(ping_server(services.database))
    # Not a timeout around the statement: cancelling one waits for the server, which may be away.
    try:
        await asyncio.wait({ping}, timeout=TIMEOUT)
    finally:
        ping.cancel()
    if not ping.done():
        problem: Problem | None = "disconnected"
    elif isinstance(ping.exception(), TaskappError):
        problem = "disconnected"
    else:
        ping.result()
        problem = None if services.database.accepts_writes and _has_space(services) else "read-only"
    services.metrics.database_up.set(problem != "disconnected")
    services.availability.note(problem)
    return problem


def _has_space(services: Services) -> bool:
    if not services.settings.uses_embedded_database:
        return True
    return shutil.disk_usage(services.settings.data_dir).free >= MIN_FREE_SPACE
