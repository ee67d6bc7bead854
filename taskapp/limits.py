"""How often something may be done: counted in memory, or by the `limits` library in Redis."""

from collections import deque
from collections.abc import Awaitable
from itertools import islice
from time import monotonic, time
from typing import Any, TypeVar

from limits import RateLimitItem, WindowStats
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from taskapp.errors import Allowance, TooManyRequests, Unavailable
from taskapp.messages import Message

Value = TypeVar("Value")


class MovingWindows:
    """Counts in memory, with the methods of the library's `MovingWindowRateLimiter`.

    The library's own memory looks at every key again at every hit, in threads: with a thousand
    keys it takes most of a core. The clock of the wall does not matter here.
    """

    def __init__(self) -> None:
        # What was hit, when, and how long that counts; the least recently hit stands first.
        self._windows: dict[tuple[str, ...], tuple[int, deque[float]]] = {}

    async def hit(self, item: RateLimitItem, *identifiers: str) -> bool:
        """Count one more, unless nothing is left; tell which."""
        self._forget()
        hits = self._hits(identifiers)
        if len(hits) >= item.amount:
            return False
        hits.append(monotonic())
        self._windows.pop(identifiers, None)
        self._windows[identifiers] = (item.get_expiry(), hits)
        return True

    async def test(self, item: RateLimitItem, *identifiers: str) -> bool:
        """Tell whether something is left."""
        return len(self._hits(identifiers)) < item.amount

    async def get_window_stats(self, item: RateLimitItem, *identifiers: str) -> WindowStats:
        """Tell when the oldest hit will be forgotten, and how much is left."""
        hits = self._hits(identifiers)
        age = monotonic() - hits[0] if hits else 0.0
        return WindowStats(time() + item.get_expiry() - age, item.amount - len(hits))

    def _hits(self, key: tuple[str, ...]) -> deque[float]:
        """Give the hits that count still."""
        length, hits = self._windows.get(key, (0, deque()))
        oldest = monotonic() - length
        while hits and hits[0] <= oldest:
            hits.popleft()
        return hits

    def _forget(self) -> None:
        """Let go of what has ended: more than one at a time, so that it cannot pile up."""
        for key in list(islice(self._windows, 2)):
            if not self._hits(key):
                del self._windows[key]


Limiter = MovingWindows | MovingWindowRateLimiter


class Limit:
    """So many in such a period, counted for each key by itself."""

    def __init__(self, name: str, item: RateLimitItem, limiter: Limiter) -> None:
        self.name = name
        self._item = item
        self._limiter = limiter

    async def take(self, key: str) -> Allowance:
        """Count one more for a key, and tell what is left.

        Raises:
            TooManyRequests: nothing is left; it was not counted.
            Unavailable: the counts cannot be reached.
        """
        taken = await _reach(self._limiter.hit(self._item, self.name, key))
        allowance = await self.allowance(key)
        if not taken:
            raise TooManyRequests(allowance)
        return allowance

    async def check(self, key: str) -> None:
        """Refuse when nothing is left for a key, without counting.

        Raises:
            TooManyRequests: nothing is left.
            Unavailable: the counts cannot be reached.
        """
        if not await _reach(self._limiter.test(self._item, self.name, key)):
            raise TooManyRequests(await self.allowance(key))

    async def allowance(self, key: str) -> Allowance:
        """Tell what is left for a key.

        Raises:
            Unavailable: the counts cannot be reached.
        """
        stats = await _reach(self._limiter.get_window_stats(self._item, self.name, key))
        return Allowance(
            name=self.name,
            amount=self._item.amount,
            remaining=max(0, stats.remaining),
            reset=max(0, round(stats.reset_time - time())),
            window=self._item.get_expiry(),
        )


class Limits:
    """All limits of taskapp, on one storage."""

    def __init__(
        self,
        storage_url: str,
        *,
        failed_logins: RateLimitItem,
        failed_logins_of_account: RateLimitItem,
        registrations: RateLimitItem,
        api: RateLimitItem,
    ) -> None:
        """Take the address of Redis, or nothing for memory, and how much each limit allows."""
        self._storage = _redis(storage_url) if storage_url else None
        limiter = MovingWindowRateLimiter(self._storage) if self._storage else MovingWindows()
        self.failed_logins = Limit("login", failed_logins, limiter)
        self.failed_logins_of_account = Limit("account", failed_logins_of_account, limiter)
        self.registrations = Limit("register", registrations, limiter)
        self.api = Limit("api", api, limiter)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if self._storage:
            bridge: Any = self._storage.bridge  # it is redispy's, which its type does not say
            await bridge.storage.aclose()


def _redis(url: str) -> RedisStorage:
    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        socket_timeout=2.0,
        socket_connect_timeout=2.0,
    )


async def _reach(answer: Awaitable[Value]) -> Value:
    """Fail closed: without its counts, a limit lets nobody through (ASVS 16.5.3)."""
    try:
        return await answer
    except StorageError as error:
        raise Unavailable(
            Message("The counts of the rate limits cannot be reached just now.")
        ) from error
