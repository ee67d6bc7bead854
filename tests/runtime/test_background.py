"""Jobs in the background: whatever happens in one, it is told and counted, and the job goes on."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from taskapp.core.errors import Unavailable
from taskapp.core.threads import run_in_daemon_thread
from taskapp.jobs import backup_schedule, housekeeping
from taskapp.jobs.background import Job, running_jobs
from taskapp.observability.metrics import Metrics
from taskapp.services import Services
from tests.support.server_process import Stopwatch, wait_until

pytestmark = pytest.mark.gen_test


async def fail_of_ours() -> None:
    raise Unavailable  # with a Message, which is translated for users


async def fail_unexpectedly() -> None:
    raise ValueError("nobody thought of it")


async def give_up_by_itself() -> None:
    raise asyncio.CancelledError


async def cancel_another() -> None:
    task = asyncio.ensure_future(asyncio.sleep(10))
    task.cancel()
    await task


async def return_false() -> bool:
    return False


def failures(metrics: Metrics, job: str) -> float:
    return metrics.registry.get_sample_value("taskapp_job_failures_total", {"job": job}) or 0.0


@pytest.mark.parametrize("ends_by_itself", [True, False])
@pytest.mark.parametrize(
    "fail", [fail_of_ours, fail_unexpectedly, give_up_by_itself, cancel_another, return_false]
)
async def test_a_job_goes_on_after_whatever_happens_in_it(
    fail: Callable[[], Awaitable[object]],
    ends_by_itself: bool,  # a parameter of the test
) -> None:
    metrics, runs = Metrics(), 0

    async def work() -> object:
        nonlocal runs
        runs += 1
        return await fail() if runs < 3 else None

    job = Job("sweep", work, 0.001, ends_by_itself=ends_by_itself)
    async with running_jobs(metrics, job):
        await asyncio.to_thread(wait_until, lambda: runs >= 5)
    assert failures(metrics, "sweep") == 2


async def test_a_stop_ends_a_job_wherever_it_is() -> None:
    begun, released = asyncio.Event(), asyncio.Event()

    async def hang() -> None:
        begun.set()
        await released.wait()

    stopwatch = Stopwatch()
    for ends_by_itself in (True, False):
        async with running_jobs(Metrics(), Job("x", hang, 1, ends_by_itself=ends_by_itself)):
            await begun.wait()
        begun.clear()
    released.set()
    async with running_jobs(Metrics(), Job("x", hang, 1, delay=60)):
        pass
    assert stopwatch.seconds < 5


@pytest.mark.parametrize("error", [OSError(), Unavailable(), None])
async def test_a_stop_ends_a_job_whose_clean_up_hides_the_cancel(error: Exception | None) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            if error:
                raise error from None

    async with running_jobs(Metrics(), Job("x", hang, 60, ends_by_itself=False)):
        await begun.wait()


async def test_after_a_failure_a_job_may_wait_longer() -> None:
    runs = 0

    async def work() -> bool:
        nonlocal runs
        runs += 1
        return False

    async with running_jobs(Metrics(), Job("x", work, 0.001, interval_after_failure=60)):
        await asyncio.sleep(0.2)
    assert runs == 1


async def test_a_thread_that_hangs_keeps_nothing_from_ending() -> None:
    released = threading.Event()
    hanging = asyncio.ensure_future(run_in_daemon_thread(lambda: released.wait(60)))
    await asyncio.sleep(0.01)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert [thread.daemon for thread in threading.enumerate() if thread.name.startswith("Thread")]
    released.set()
    assert await run_in_daemon_thread(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await run_in_daemon_thread(lambda: 1 // 0)


async def test_every_job_of_the_server_goes_on_when_its_work_fails(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: dict[str, int] = {}

    def failing(name: str) -> Any:
        async def work(*_: object) -> None:
            runs[name] = runs.get(name, 0) + 1
            raise ValueError(name)

        work.__name__ = name
        return work

    monkeypatch.setattr(housekeeping, "HOUSEKEEPING", {failing("upkeep"): 0.001})
    monkeypatch.setattr(housekeeping, "HEALTH_CHECKS", {failing("watch"): 0.001})
    monkeypatch.setattr(housekeeping, "_measure_loop", failing("measure_loop"))
    monkeypatch.setattr(backup_schedule, "_inspect", failing("backup"))
    monkeypatch.setattr(backup_schedule, "MAX_CHECK_INTERVAL", 0.001)
    monkeypatch.setattr(backup_schedule, "_INTERVAL_AFTER_FAILURE", 0.001)
    async with (
        housekeeping.run_housekeeping(services),
        housekeeping.run_health_checks(services),
        backup_schedule.run_backup_schedule(services, services.settings.database_url),
    ):
        names = {"upkeep", "watch", "measure_loop", "backup"}
        await asyncio.to_thread(
            wait_until, lambda: {name for name, number in runs.items() if number > 2} == names
        )
    assert all(failures(services.metrics, name) >= 2 for name in names)
