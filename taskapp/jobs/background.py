"""Background jobs: each goes on after any failure, which is logged and counted."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from taskapp.core.cancellation import raise_if_cancelled
from taskapp.core.errors import TaskappError
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics


@dataclass(frozen=True)
class Job:
    """A job that is repeated; all times are in seconds."""

    name: str  # as the log and the metrics show it
    work: Callable[[], Awaitable[object]]  # returns False if it failed and has logged that itself
    interval: float  # from the end of one run to the next
    delay: float = 0.0  # before the first run
    interval_after_failure: float | None = None  # None: the same
    # At the stop a run finishes: PostgreSQL logs an error for a statement that is cut off.
    ends_by_itself: bool = True


@asynccontextmanager
async def running_jobs(metrics: Metrics, *jobs: Job) -> AsyncIterator[None]:
    """Run jobs concurrently for the length of the block."""
    tasks = [asyncio.create_task(_repeat(job, metrics), name=job.name) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _repeat(job: Job, metrics: Metrics) -> None:
    if job.delay:
        await asyncio.sleep(job.delay)
    while True:
        succeeded = await _run(job, metrics)
        backoff = None if succeeded else job.interval_after_failure
        await asyncio.sleep(job.interval if backoff is None else backoff)


async def _run(job: Job, metrics: Metrics) -> bool:
    """Run a job once, and return whether it succeeded."""
    try:
        result = await (_shielded(job) if job.ends_by_itself else job.work())
    except (Exception, asyncio.CancelledError) as error:  # an unknown one must not end the job
        raise_if_cancelled()  # the stop; otherwise a library cancelled something
        _log_failure(job, error)
    else:
        raise_if_cancelled()
        if result is not False:
            return True
    metrics.job_failures.labels(job.name).inc()
    return False


def _log_failure(job: Job, error: BaseException) -> None:
    if isinstance(error, TaskappError):
        log("job.failed", "warning", job=job.name, error=error.detail)
    else:
        log("job.failed", "error", job=job.name, error=f"{type(error).__name__}: {error}")


async def _shielded(job: Job) -> object:
    """Run a job that a stop does not cancel; its error after the stop has nobody to tell."""
    task = asyncio.ensure_future(job.work())
    task.add_done_callback(_retrieve)
    return await asyncio.shield(task)


def _retrieve(task: asyncio.Future[object]) -> None:
    if not task.cancelled():
        task.exception()
