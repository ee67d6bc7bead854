"""How the process and its database are."""

import asyncio
import shutil
from contextlib import suppress
from time import monotonic

from sqlalchemy import literal, select

from taskapp.database import Statement
from taskapp.errors import TaskappError, Unavailable
from taskapp.operations.backups import refresh_backup_gauges
from taskapp.queries.sessions import count_live_sessions
from taskapp.queries.tasks import estimate_tasks
from taskapp.queries.users import count_users
from taskapp.services import Services

TIME_LIMIT = 4.5  # seconds; the high-level design (10.6) promises an answer within five
LEAST_FREE_SPACE = 64 * 1024 * 1024  # bytes; a write of the database's log takes sixteen million
_PING = Statement("health.ping", select(literal(1)))
_started = monotonic()


def uptime() -> int:
    """Give how long the process has been running, in seconds."""
    return int(monotonic() - _started)


async def find_database_problem(services: Services) -> str | None:
    """Tell what is wrong with the database, within five seconds; None when all is well."""
    ping = asyncio.ensure_future(services.database.fetch_one(_PING))
    # Not a timeout around the statement: cancelling one waits for the server, which may be away.
    await asyncio.wait({ping}, timeout=TIME_LIMIT)
    if not ping.done():
        ping.cancel()
        problem: str | None = "disconnected"
    elif isinstance(ping.exception(), TaskappError):
        problem = "disconnected"
    else:
        ping.result()
        problem = None if services.database.accepts_writes and _has_space(services) else "read-only"
    services.metrics.database_up.set(problem != "disconnected")
    return problem


def _has_space(services: Services) -> bool:
    if not services.settings.uses_embedded_database:
        return True
    return shutil.disk_usage(services.settings.data_dir).free >= LEAST_FREE_SPACE


async def refresh_gauges(services: Services) -> None:
    """Bring the gauges that are read from the database up to date, as far as it answers."""
    if await find_database_problem(services) == "disconnected":
        return
    with suppress(Unavailable):  # it went away just now: the other metrics still count
        services.metrics.active_sessions.set(await count_live_sessions(services.database))
        services.metrics.users.set(await count_users(services.database))
        services.metrics.stored_tasks.set(await estimate_tasks(services.database))
        await refresh_backup_gauges(services)
