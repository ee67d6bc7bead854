"""Threads for functions that may hang, such as on an unreachable disk or server."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import AbstractContextManager, asynccontextmanager
from functools import partial
from typing import ParamSpec, TypeVar

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def start_daemon_thread(function: Callable[[], Result]) -> Future[Result]:
    """Run a function in a daemon thread, and return its future result.

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
    return outcome


async def run_in_daemon_thread(
    function: Callable[Parameters, Result], *args: Parameters.args, **kwargs: Parameters.kwargs
) -> Result:
    """Run a function in a daemon thread, and return its result; a cancel does not wait for it."""
    return await asyncio.wrap_future(start_daemon_thread(partial(function, *args, **kwargs)))


@asynccontextmanager
async def entered_in_daemon_thread(
    context: AbstractContextManager[Result],
) -> AsyncIterator[Result]:
    """Enter and leave a context that may hang in daemon threads; a cancel does not wait for it."""
    value = await run_in_daemon_thread(context.__enter__)
    try:
        yield value
    except asyncio.CancelledError as error:
        start_daemon_thread(partial(context.__exit__, type(error), error, None))
        raise
    except BaseException as error:
        await run_in_daemon_thread(context.__exit__, type(error), error, error.__traceback__)
        raise
    await run_in_daemon_thread(context.__exit__, None, None, None)
