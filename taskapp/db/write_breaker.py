"""Refuses writes while the server confirms none, and finds out when it does (ADR 0048).

Each write that waits for a standby keeps a connection of the server, also after we have closed our
end: without a limit they would use up all connections, and reads would fail too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from taskapp.observability.logs import log

_PAUSE = 0.5  # seconds between two trials


class WriteBreaker:
    """A circuit breaker: open from a write that was given up until a trial write succeeds."""

    def __init__(self, try_write: Callable[[], Awaitable[bool]]) -> None:
        """`try_write` returns whether the server has confirmed a write."""
        self._try_write = try_write
        self._trials: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        """Return whether writes have to be refused."""
        return self._trials is not None

    def open(self) -> None:
        """Start to try one write at a time, unless that is going on."""
        if self._trials is None:
            self._trials = asyncio.create_task(self._try_until_confirmed(), name="trial_writes")

    async def stop(self) -> None:
        """End the trials."""
        if self._trials:
            self._trials.cancel()
            await asyncio.wait({self._trials})
            self._trials = None

    async def _try_until_confirmed(self) -> None:
        since = monotonic()
        is_logged = False
        while not await self._try_write():
            if not is_logged:
                log("database.writes_stalled", "warning")
            is_logged = True
            await asyncio.sleep(_PAUSE)
        self._trials = None
        if is_logged:
            log("database.writes_resumed", seconds=round(monotonic() - since, 1))
