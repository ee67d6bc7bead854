"""What the metrics show of the database and the disk, read when somebody asks for it."""

import shutil
from contextlib import suppress

from taskapp.core.errors import Unavailable
from taskapp.jobs.backup_schedule import refresh_backup_gauges
from taskapp.jobs.health_check import find_database_problem
from taskapp.queries.postgresql import find_statistics
from taskapp.queries.sessions import count_live_sessions
from taskapp.queries.tasks import estimate_tasks
from taskapp.queries.users import count_active_users
from taskapp.services import Services


async def refresh_gauges(services: Services) -> None:
    """Bring the gauges up to date, those of the database as far as it answers."""
    _refresh_disk(services)
    refresh_backup_gauges(services)
    services.metrics.database.statistics = None
    if await find_database_problem(services) == "disconnected":
        return
    with suppress(Unavailable):  # it went away just now: the other metrics still count
        await _refresh_database(services)


def _refresh_disk(services: Services) -> None:
    with suppress(OSError):  # with another PostgreSQL there may be no data folder
        usage = shutil.disk_usage(services.settings.data_dir)
        services.metrics.disk_size.set(usage.total)
        services.metrics.disk_free.set(usage.free)


async def _refresh_database(services: Services) -> None:
    metrics, database = services.metrics, services.database
    metrics.active_sessions.set(await count_live_sessions(database))
    users, active = await count_active_users(database)
    metrics.users.set(users)
    for days, number in active.items():
        metrics.active_users.labels(str(days)).set(number)
    metrics.stored_tasks.set(await estimate_tasks(database))
    metrics.database.statistics = await find_statistics(database)
