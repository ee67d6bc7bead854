"""Refuses writes while the server confirms none, and finds out when it does (ADR 0048).

Each write that waits for a standby keeps a connection of the server, also after we have closed our
end: without a limit they would use up all connections, and reads would fail too.
"""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from taskapp.core.errors import TaskappError
from taskapp.observability.logs import log

_PAUSE = 0.5  # seconds between two trials


class WriteBreaker:
    """A circuit breaker: open from a write that was given up until a trial write succeeds.

    Only while the server answers reads: one that answers nothing keeps no write waiting.
    """

    def __init__(self, try_write: Callable[[Callable[[], None]], Awaitable[bool]]) -> None:
        """`try_write` is that of `ConnectionPool`."""
        self._try_write = try_write
        self._trials: asyncio.Task[None] | None = None
        self.is_open = False  # writes have to be refused

    def suspect(self) -> None:
        """Start to try one write at a time, unless that is going on."""
        if self._trials is None:
            self._trials = asyncio.create_task(self._try_until_confirmed(), name="trial_writes")

    async def stop(self) -> None:
        """End the trials."""
        if self._trials:
            self._trials.cancel()
            await asyncio.wait({self._trials})

    def _open(self) -> None:
        self.is_open = True

    async def _try_until_confirmed(self) -> None:
        since = monotonic()
        is_logged = False
        try:
            while not await self._try_write(self._open):
                if not is_logged:
                    log("database.writes_stalled", "warning")
                is_logged = True
                await asyncio.sleep(_PAUSE)
        except TaskappError:
            pass  # the server is away, which requests find out for themselves
        finally:
            self._trials = None
            self.is_open = False
        if is_logged:
            log("database.writes_resumed", seconds=round(monotonic() - since, 1))
