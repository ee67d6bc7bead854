"""A fair queue: a client that asks often delays itself, and not the others."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from weakref import WeakSet

from taskapp.core.errors import Disconnected, RateLimitStatus, TooManyRequests, Unavailable
from taskapp.core.messages import Message

RETRY_AFTER = 5  # seconds


class FairQueue:
    """Lets some callers work at a time, and the others wait, in one line for each client.

    The lines are served in turn. A client and an account get at most half of the places. When all
    places, or those of an account, are taken, the last one of the longest line has to leave for a
    client that waits less (longest queue drop, Suter et al. 1999). Callers whom their account knows
    have places of their own besides, and are served alternately with the others.
    """

    def __init__(self, workers: int, *, places: int, places_for_known: int) -> None:
        """Set how many work at a time, and how many may work and wait together."""
        self._idle = workers
        self._open = _Queue(places)
        self._reserved = _Queue(places_for_known)
        self._queues = deque([self._open, self._reserved])
        self._turns: dict[asyncio.Task[Any] | None, _Turn] = {}
        self._gone: WeakSet[asyncio.Task[Any]] = WeakSet()  # whose clients have hung up

    @asynccontextmanager
    async def turn(self, client: str, account: str, *, is_known: bool) -> AsyncIterator[None]:
        """Wait for a turn, which lasts as long as the block.

        Raises:
            TooManyRequests: the client or the account holds its share of the places, or others
                need the place.
            Unavailable: each place is taken by another client.
            Disconnected: the client has hung up meanwhile.
        """
        task = asyncio.current_task()
        if task in self._gone:
            raise Disconnected
        turn = self._take_place(client, account, is_known=is_known)
        self._turns[task] = turn
        self._begin_turns()
        try:
            await turn.begun
            yield
        finally:
            del self._turns[task]
            if turn.has_begun():
                self._idle += 1
            turn.queue.give_back(turn)
            self._begin_turns()

    def is_waiting(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a task waits for a turn that has not begun."""
        turn = self._turns.get(task)
        return turn is not None and not turn.begun.done()

    def leave(self, task: asyncio.Task[Any]) -> None:
        """Let a task whose client has hung up wait no longer; a turn that has begun goes on."""
        self._gone.add(task)
        turn = self._turns.get(task)
        if turn is not None and not turn.begun.done():
            turn.begun.set_exception(Disconnected())

    def _take_place(self, client: str, account: str, *, is_known: bool) -> "_Turn":
        if is_known:
            with suppress(TooManyRequests, Unavailable):
                return self._reserved.take_place(client, account)
        return self._open.take_place(client, account)

    def _begin_turns(self) -> None:
        while self._idle and (turn := self._next_turn()):
            self._idle -= 1
            turn.begun.set_result(None)

    def _next_turn(self) -> "_Turn | None":
        for _ in range(len(self._queues)):
            self._queues.rotate()
            if turn := self._queues[0].next_turn():
                return turn
        return None


@dataclass(eq=False)
class _Turn:
    """The place of a caller; the future `begun` is done when it may work, or waits no longer."""

    queue: "_Queue"
    client: str
    account: str
    begun: asyncio.Future[None]

    def has_begun(self) -> bool:
        return self.begun.done() and not self.begun.cancelled() and not self.begun.exception()


class _Queue:
    """A number of places, and the lines of the callers who wait in them."""

    def __init__(self, places: int) -> None:
        self._free = places
        self._share = places // 2
        self._held: Counter[tuple[str, str]] = Counter()  # places, by client and by account
        self._lines: dict[str, deque[_Turn]] = {}  # by client, the next one first

    def take_place(self, client: str, account: str) -> _Turn:
        if self._held["client", client] >= self._share:
            raise _too_many(self._share)
        if self._held["account", account] >= self._share:
            if not self._push_out_for(client, account):
                raise _too_many(self._share)
        elif self._free <= 0 and not self._push_out_for(client):
            detail = Message("Too many people are logging in right now.")
            raise Unavailable(detail, retry_after=RETRY_AFTER)
        self._free -= 1
        self._held.update([("client", client), ("account", account)])
        turn = _Turn(self, client, account, asyncio.get_running_loop().create_future())
        self._lines.setdefault(client, deque()).append(turn)
        return turn

    def _push_out_for(self, client: str, account: str | None = None) -> bool:
        """Make one leave that waits in the longest line, or in that for an account.

        Return False if no other client waits more often than this one would.
        """
        lines = {
            other: [turn for turn in line if account in {None, turn.account}]
            for other, line in self._lines.items()
        }
        longest = max(lines.values(), key=len, default=[])
        if len(longest) <= len(lines.get(client, ())) + 1:
            return False
        last = longest[-1]
        self._lines[last.client].remove(last)
        if not last.begun.done():
            last.begun.set_exception(_too_many(len(longest) - 1))
        return True

    def give_back(self, turn: _Turn) -> None:
        self._free += 1
        for key in (("client", turn.client), ("account", turn.account)):
            self._held[key] -= 1
            if not self._held[key]:
                del self._held[key]
        line = self._lines.get(turn.client, ())
        if turn in line:  # it did not begin
            self._lines[turn.client].remove(turn)
            if not line:
                del self._lines[turn.client]

    def next_turn(self) -> _Turn | None:
        """Return the first of the next line, which goes to the end of the lines."""
        while self._lines:
            client, line = next(iter(self._lines.items()))
            del self._lines[client]
            turn = line.popleft()
            if line:
                self._lines[client] = line
            if not turn.begun.done():  # it was not cancelled
                return turn
        return None


def _too_many(share: int) -> TooManyRequests:
    return TooManyRequests(
        RateLimitStatus("queue", share, remaining=0, reset=RETRY_AFTER, window=RETRY_AFTER)
    )
