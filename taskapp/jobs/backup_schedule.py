"""The backups that the server makes by itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from taskapp.backups.create import make_backup
from taskapp.backups.repository import BackupError
from taskapp.core.errors import TaskappError
from taskapp.observability.logs import log
from taskapp.queries.server import count_archive_failures
from taskapp.queries.users import count_users
from taskapp.services import Services

MAX_CHECK_INTERVAL = 60.0  # seconds between looks at the age of the newest backup
_AFTER_FAILURE = 15 * 60.0  # seconds


@asynccontextmanager
async def run_backup_schedule(services: Services, url: str) -> AsyncIterator[None]:
    """Back the database up whenever it is time, for as long as the block lasts."""
    task = asyncio.create_task(_repeat(services, url))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _repeat(services: Services, url: str) -> None:
    every = services.settings.backup_every
    while every:
        await asyncio.sleep(min(MAX_CHECK_INTERVAL, every))
        _warn_of_archive(services)
        if services.backups.is_due and not await _back_up(services, url):
            await asyncio.sleep(min(_AFTER_FAILURE, every))


async def _back_up(services: Services, url: str) -> bool:
    """Make a backup if there is anything to keep; say whether all is well."""
    try:
        if await count_users(services.database):
            await make_backup(services.settings, url, only_if=lambda: services.backups.is_due)
    except TaskappError as error:
        reason = error.detail
    except BackupError as error:
        reason = str(error)
    except Exception as error:  # an unknown one must not end the backups
        reason = type(error).__name__
    else:
        services.backups.has_failed = False
        return True
    services.backups.has_failed = True
    services.metrics.backup_failures.inc()
    log("backup.failed", "error", reason=reason)
    return False


def _warn_of_archive(services: Services) -> None:
    number, seconds = services.backups.waiting_wal
    if services.backups.is_archive_broken:
        log("backup.archive_waits", "warning", files=number, seconds=round(seconds))


async def refresh_backup_gauges(services: Services) -> None:
    """Bring the gauges of the backups up to date."""
    newest = services.backups.newest
    services.metrics.backup_timestamp.set(newest.timestamp() if newest else 0)
    services.metrics.waiting_wal.set(services.backups.waiting_wal[0])
    if services.settings.archives_wal:
        failures = await count_archive_failures(services.database)
        services.metrics.archive_failures.set(failures)
