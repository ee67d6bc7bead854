"""What the server does each hour, and each few seconds: delete what has ended, check health."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

from taskapp.backups.status import INSPECTION_INTERVAL
from taskapp.jobs.background import Job, running_jobs
from taskapp.jobs.backup_schedule import remove_leftovers, watch_backups
from taskapp.jobs.health_check import find_database_problem, watch_limits, watch_schema
from taskapp.jobs.postgresql_version import watch_postgresql
from taskapp.operations.account_deletion import delete_closed_accounts
from taskapp.operations.accounts import forget_addresses, purge_sessions
from taskapp.services import Services

Work = Callable[[Services], Coroutine[Any, Any, object]]

# By job, the seconds from the end of one run to the next.
HOUSEKEEPING: dict[Work, float] = {
    purge_sessions: 3600.0,
    forget_addresses: 3600.0,
    delete_closed_accounts: 10.0,
    remove_leftovers: 3600.0,
}
HEALTH_CHECKS: dict[Work, float] = {
    find_database_problem: 15.0,
    watch_schema: 15.0,
    watch_limits: 15.0,
    watch_backups: INSPECTION_INTERVAL,
}
_LOOP_SAMPLE = 1.0  # seconds
_VERSION_INTERVAL = 3600.0  # seconds; a package is upgraded a few times a year


@asynccontextmanager
async def run_housekeeping(services: Services) -> AsyncIterator[None]:
    """Delete what has ended, for the length of the block."""
    jobs = [
        Job(work.__name__, partial(_unless_under_maintenance, work, services), interval)
        for work, interval in HOUSEKEEPING.items()
    ]
    async with running_jobs(services.metrics, *jobs):
        yield


@asynccontextmanager
async def run_health_checks(services: Services) -> AsyncIterator[None]:
    """Watch all that can be away, and the event loop, for the length of the block."""
    jobs = [
        Job(work.__name__, partial(work, services), interval)
        for work, interval in HEALTH_CHECKS.items()
    ]
    version = Job("watch_postgresql", partial(watch_postgresql, services), _VERSION_INTERVAL)
    loop = Job("measure_loop", partial(_measure_loop, services), 0, ends_by_itself=False)
    async with running_jobs(services.metrics, *jobs, version, loop):
        yield


async def _unless_under_maintenance(work: Work, services: Services) -> None:
    if services.maintenance.window is None:
        await work(services)


async def _measure_loop(services: Services) -> None:
    loop = asyncio.get_running_loop()
    wanted = loop.time() + _LOOP_SAMPLE
    await asyncio.sleep(_LOOP_SAMPLE)
    services.metrics.loop_delay.observe(max(0.0, loop.time() - wanted))
