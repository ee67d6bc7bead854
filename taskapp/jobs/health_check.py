"""How the process, its database and its rate limits are."""

import asyncio
import os
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Literal

from taskapp.core.errors import TablesUnusable, TaskappError, Unavailable
from taskapp.db.migrations import HEAD
from taskapp.observability.availability import Problem
from taskapp.queries.postgresql import find_revision, ping_server
from taskapp.services import Services

TIMEOUT = 4.5  # seconds; MON-11 in docs/design/requirements.md promises a response within 5
MIN_FREE_SPACE = 64 * 1024 * 1024  # bytes; a write of the database's log takes sixteen million
_started = monotonic()


def uptime() -> int:
    """Return how long the process has been running, in seconds."""
    return int(monotonic() - _started)


async def find_problem(services: Services) -> Problem | None:
    """Return what keeps requests from working, within five seconds; None when all is well.

    The database is asked now; what the jobs watch is as they saw it last.
    """
    await find_database_problem(services)
    return services.availability.problem


async def find_database_problem(services: Services) -> Problem | None:
    """Return what is wrong with the database, within five seconds; None when all is well."""
    ping = asyncio.ensure_future(ping_server(services.database))
    # Not a timeout around the statement: cancelling one waits for the server, which may be away.
    try:
        await asyncio.wait({ping}, timeout=TIMEOUT)
    finally:
        ping.cancel()
    problem: Problem | None
    if not ping.done() or isinstance(ping.exception(), TaskappError):
        error = ping.exception() if ping.done() else None
        reason = str(error) if isinstance(error, TablesUnusable) else ""
        problem = "disconnected"
    else:
        reason = _find_reason(services, is_read_only=ping.result())
        problem = "read-only" if reason else None
        if not problem and services.database.are_writes_stalled:
            problem, reason = "writes-stalled", "the server does not confirm writes"
    services.metrics.database_up.set(problem != "disconnected")
    services.metrics.database_writable.set(problem is None)
    services.availability.note("database", problem, reason)
    return problem


def _find_reason(services: Services, *, is_read_only: bool) -> str:
    """Return why the database, which responds, accepts no writes; empty if it does."""
    if is_read_only:
        return "the server is read-only"
    if not services.database.accepts_writes:
        return "the server rejected a write"
    if services.settings.uses_embedded_database:
        return _find_disk_problem(services.settings.data_dir)
    return ""


def _find_disk_problem(folder: Path) -> str:
    """Return why nothing can be written on the disk of a folder; empty if all is well."""
    try:
        disk = os.statvfs(folder)
    except OSError as error:
        return f"the data folder cannot be read: {error.strerror}"
    if disk.f_flag & os.ST_RDONLY:
        return "the disk is read-only"
    if disk.f_bavail * disk.f_frsize < MIN_FREE_SPACE:
        return f"less than {MIN_FREE_SPACE // 1024**2} MiB are free on the disk"
    if disk.f_files and not disk.f_favail:  # some file systems count no files
        return "the disk can hold no more files"
    return ""


async def watch_schema(services: Services) -> None:
    """Check whether the database has the tables of this version of taskapp."""
    with suppress(Unavailable):  # health says that the database is away
        revision = await find_revision(services.database)
        pending = int(HEAD) - int(revision or 0)
        services.metrics.pending_migrations.set(pending)
        problem: Problem | Literal["newer"] | None = None
        if pending:
            problem = "outdated" if pending > 0 else "newer"
        services.availability.note("schema", problem, f"revision {revision}" if problem else "")


async def watch_limits(services: Services) -> None:
    """Check whether the rate limits can be counted: without them nobody logs in."""
    reason = await services.limits.find_problem()
    services.metrics.limits_up.set(not reason)
    services.availability.note("limits", "uncounted" if reason else None, reason)
