"""Giving way to the cancellation of a task."""

import asyncio


def raise_if_cancelled() -> None:
    """Raise CancelledError if the current task has been cancelled.

    Whoever handles an error and goes on calls this first. The clean-up of a cancelled task may
    raise an error in place of the CancelledError, and a task is cancelled only once.
    """
    if is_cancelled():
        raise asyncio.CancelledError


def is_cancelled() -> bool:
    """Return whether the current task has been cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
