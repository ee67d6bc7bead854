"""One time limit for much that waits at once."""

import asyncio
from typing import cast

TICK = 0.1  # seconds; so late a deadline may be noticed


class Deadlines:
    """Cancels the tasks whose deadline has passed, with one timer for all of them.

    `asyncio.timeout` starts and stops a timer for each, which is a twenty-fifth of a short request.
    """

    def __init__(self) -> None:
        self._deadlines: dict[asyncio.Task[object], float] = {}
        self._cancelled: set[asyncio.Task[object]] = set()
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, deadline: float) -> asyncio.Task[object]:
        """Watch the current task until a time of the loop's clock; `end` has to follow."""
        loop = asyncio.get_running_loop()
        task = cast("asyncio.Task[object]", asyncio.current_task(loop))
        self._deadlines[task] = deadline
        if self._timer is None:
            self._timer = loop.call_later(TICK, self._look, loop)
        return task

    def end(self, task: asyncio.Task[object]) -> bool:
        """Stop watching a task, and tell whether it was cancelled for being late."""
        del self._deadlines[task]
        if task not in self._cancelled:
            return False
        self._cancelled.discard(task)
        return task.uncancel() == 0  # if not, somebody else has cancelled it as well

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        for task, deadline in self._deadlines.items():
            if deadline <= now and task not in self._cancelled:
                self._cancelled.add(task)
                task.cancel()
        self._timer = loop.call_later(TICK, self._look, loop) if self._deadlines else None
