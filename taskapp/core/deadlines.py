"""One timer for much that waits at once."""

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

TICK = 0.1  # seconds; so late a deadline may be noticed
Waiting = TypeVar("Waiting", bound=Hashable)


class DeadlineTimer(Generic[Waiting]):
    """Does something about each that is late, with one timer for all of them.

    To start and stop a timer for each, as `asyncio.timeout` does, is a twenty-fifth of a short
    request.
    """

    def __init__(self, when_late: Callable[[Waiting], object]) -> None:
        """Take what to do, once, with each that is late."""
        self._when_late = when_late
        self._deadlines: dict[Waiting, float] = {}
        self._late: set[Waiting] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Count those who are watched."""
        return len(self._deadlines)

    def begin(self, waiting: Waiting, deadline: float) -> None:
        """Watch until a time of the loop's clock; `end` has to follow."""
        self._deadlines[waiting] = deadline
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(TICK, self._look, loop)

    def end(self, waiting: Waiting) -> bool:
        """Stop watching, and tell whether it was late."""
        del self._deadlines[waiting]
        if waiting not in self._late:
            return False
        self._late.discard(waiting)
        return True

    def discard(self, waiting: Waiting) -> None:
        """Stop watching, if it was watched."""
        self._deadlines.pop(waiting, None)
        self._late.discard(waiting)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        late = [waiting for waiting, deadline in self._deadlines.items() if deadline <= now]
        for waiting in late:
            if waiting not in self._late:
                self._late.add(waiting)
                self._when_late(waiting)
        self._timer = loop.call_later(TICK, self._look, loop) if self._deadlines else None
