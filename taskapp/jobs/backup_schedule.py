"""The backups that the server makes by itself, and the watch over all of them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

from taskapp.backups import create
from taskapp.backups.after_backup import BackupCommandError, run_due_command
from taskapp.backups.create import make_backup
from taskapp.backups.repository import BackupError
from taskapp.backups.status import ARCHIVE_TIMEOUT
from taskapp.core.cancellation import raise_if_cancelled
from taskapp.core.errors import TaskappError, Unavailable
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.migrations import MigrationError
from taskapp.jobs.background import Job, running_jobs
from taskapp.observability.logs import log
from taskapp.queries.postgresql import find_archiver_state
from taskapp.queries.users import count_users
from taskapp.services import Services

MAX_CHECK_INTERVAL = 60.0  # seconds between checks whether a backup is due
_INTERVAL_AFTER_FAILURE = 15 * 60.0  # seconds


@asynccontextmanager
async def run_backup_schedule(services: Services, url: str) -> AsyncIterator[None]:
    """Back the database up whenever it is time, for as long as the block lasts."""
    every = services.settings.backup_every
    interval = min(MAX_CHECK_INTERVAL, every)
    job = Job(
        "backup",
        partial(_run, services, url),
        interval,
        delay=interval,
        interval_after_failure=min(_INTERVAL_AFTER_FAILURE, every),
        ends_by_itself=False,
    )
    async with running_jobs(services.metrics, *([job] if every else [])):
        yield


async def _run(services: Services, url: str) -> bool:
    """Do what is due: a backup, and the operator's command after it; return whether all is well."""
    is_backed_up = await _back_up_if_due(services, url)
    return await _run_command_if_due(services) and is_backed_up


async def _run_command_if_due(services: Services) -> bool:
    try:
        has_run = await run_due_command(services.settings)
    except BackupCommandError as error:
        services.metrics.backup_command_failures.inc()
        log("backup.command_failed", "error", reason=str(error))
        has_run = False
    else:
        if not has_run:
            return True
    await _inspect(services)  # so that health says it at once
    return has_run


async def _back_up_if_due(services: Services, url: str) -> bool:
    """Make a backup if it is time and there is anything to keep; return whether all is well."""
    backups = services.backups
    try:
        await _inspect(services)
        if not backups.is_due or not await count_users(services.database):
            return True
        await make_backup(services.settings, url, only_if_due=True)
        await _inspect(services)
    except TaskappError as error:
        reason = error.detail
    except (BackupError, MigrationError) as error:
        reason = str(error)
    except Exception as error:  # an unknown one counts as a failed backup, too
        reason = f"{type(error).__name__}: {error}"
    else:
        backups.has_failed = False
        return True
    raise_if_cancelled()
    backups.has_failed = True
    services.metrics.backup_failures.inc()
    log("backup.failed", "error", reason=reason)
    return False


async def _inspect(services: Services) -> None:
    """Inspect the folder of backups, and log what is newly wrong."""
    report = await run_in_daemon_thread(services.backups.inspect)
    if not report.failures and not report.is_due:  # what an attempt failed of is over
        services.backups.has_failed = False
    if services.backups.has_recovered():
        log("backup.recovered")
    number, seconds = services.backups.waiting_wal
    for problem in services.backups.unreported():
        log("backup.problem_found", "warning", problem=problem)
        if seconds > ARCHIVE_TIMEOUT:
            log("backup.archive_waiting", "warning", files=number, seconds=round(seconds))


async def watch_backups(services: Services) -> None:
    """Inspect the backups, and ask PostgreSQL about its archive."""
    with suppress(Unavailable, MigrationError):  # health says that the database is away
        if services.settings.archives_wal:
            archiver = await find_archiver_state(services.database)
            services.metrics.archive_failures.set(archiver.failures)
            services.backups.note_archiver(is_failing=archiver.is_failing)
        await _inspect(services)


async def remove_leftovers(services: Services) -> None:
    """Remove what a killed command left in the data folder."""
    await create.remove_leftovers(services.settings)


def refresh_backup_gauges(services: Services) -> None:
    """Bring the gauges of the backups up to date with the last inspection."""
    newest = services.backups.newest
    services.metrics.backup_timestamp.set(newest.timestamp() if newest else 0)
    services.metrics.backup_problems.set(len(services.backups.problems))
    services.metrics.waiting_wal.set(services.backups.waiting_wal[0])
