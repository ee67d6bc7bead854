"""Background jobs: each goes on after any failure, which is logged and counted."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from taskapp.core.errors import TaskappError
from taskapp.observability.logs import log
from taskapp.observability.metrics import Metrics

Result = TypeVar("Result")


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
        result = await (asyncio.shield(_awaited(job)) if job.ends_by_itself else job.work())
    except TaskappError as error:
        log("job.failed", "warning", job=job.name, error=error.detail)
    except Exception as error:  # an unknown one must not end the job
        log("job.failed", "error", job=job.name, error=f"{type(error).__name__}: {error}")
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task and task.cancelling():  # the stop; otherwise a library cancelled something
            raise
        log("job.failed", "error", job=job.name, error="CancelledError")
    else:
        if result is not False:
            return True
    metrics.job_failures.labels(job.name).inc()
    return False


async def _awaited(job: Job) -> object:
    return await job.work()


async def run_in_daemon_thread(function: Callable[[], Result]) -> Result:
    """Run a function that may hang, such as on an unreachable network disk, in a daemon thread.

    A thread of `asyncio.to_thread` keeps the process alive until the function returns.
    """
    outcome: Future[Result] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = function()
        except Exception as error:  # the caller handles it
            outcome.set_exception(error)
        else:
            outcome.set_result(result)

    threading.Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)
