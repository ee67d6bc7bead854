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

from taskapp.core.errors import RateLimitStatus, TooManyRequests, Unavailable
from taskapp.core.messages import Message

Value = TypeVar("Value")


class MemoryWindows:
    """Counts in memory, as the library's `MovingWindowRateLimiter` does.

    The library's own memory looks at every key again at every hit, in threads: with a thousand
    keys it takes most of a core. The clock of the wall does not matter here.
    """

    def __init__(self) -> None:
        # What was hit, when, and how long that counts; the least recently hit stands first.
        self._windows: dict[tuple[str, str], tuple[int, deque[float]]] = {}

    async def hit(self, item: RateLimitItem, name: str, key: str) -> tuple[bool, WindowStats]:
        """Count one more, unless nothing is left; tell which, and what is left then."""
        self._forget()
        now, length = monotonic(), item.get_expiry()
        hits = self._hits((name, key), now)
        is_taken = len(hits) < item.amount
        if is_taken:
            hits.append(now)
            self._windows.pop((name, key), None)
            self._windows[name, key] = (length, hits)
        return is_taken, _stats(item, hits, now)

    async def peek(self, item: RateLimitItem, name: str, key: str) -> WindowStats:
        """Tell when the oldest hit will be forgotten, and how much is left."""
        now = monotonic()
        return _stats(item, self._hits((name, key), now), now)

    def _hits(self, key: tuple[str, str], now: float) -> deque[float]:
        """Give the hits that count still."""
        length, hits = self._windows.get(key, (0, deque()))
        while hits and hits[0] <= now - length:
            hits.popleft()
        return hits

    def _forget(self) -> None:
        """Let go of what has ended: more than one at a time, so that it cannot pile up."""
        now = monotonic()
        for key in list(islice(self._windows, 2)):
            if not self._hits(key, now):
                del self._windows[key]


class RedisWindows:
    """Counts in Redis, by the library; without its counts a limit lets nobody through.

    Raises Unavailable (ASVS 16.5.3).
    """

    def __init__(self, url: str) -> None:
        """Take the address of a Redis; it is not asked yet."""
        self._storage = RedisStorage(
            f"async+{url}",
            wrap_exceptions=True,
            implementation="redispy",
            socket_timeout=2.0,
            socket_connect_timeout=2.0,
        )
        self._limiter = MovingWindowRateLimiter(self._storage)

    async def hit(self, item: RateLimitItem, name: str, key: str) -> tuple[bool, WindowStats]:
        """Count one more, unless nothing is left; tell which, and what is left then."""
        is_taken = await _reach(self._limiter.hit(item, name, key))
        return is_taken, await self.peek(item, name, key)

    async def peek(self, item: RateLimitItem, name: str, key: str) -> WindowStats:
        """Tell when the oldest hit will be forgotten, and how much is left."""
        return await _reach(self._limiter.get_window_stats(item, name, key))

    async def close(self) -> None:
        """Close the connections."""
        bridge: Any = self._storage.bridge  # it is redispy's, which its type does not say
        await bridge.storage.aclose()


class Limit:
    """So many in such a period, counted for each key by itself."""

    def __init__(
        self, name: str, item: RateLimitItem, windows: MemoryWindows | RedisWindows
    ) -> None:
        self.name = name
        self._item = item
        self._windows = windows

    async def hit(self, key: str) -> RateLimitStatus:
        """Count one more for a key, and tell what is left.

        Raises:
            TooManyRequests: nothing is left; it was not counted.
            Unavailable: the counts cannot be reached.
        """
        is_taken, stats = await self._windows.hit(self._item, self.name, key)
        allowance = self._allowance(stats)
        if not is_taken:
            raise TooManyRequests(allowance)
        return allowance

    async def check(self, key: str) -> None:
        """Refuse when nothing is left for a key, without counting.

        Raises:
            TooManyRequests: nothing is left.
            Unavailable: the counts cannot be reached.
        """
        allowance = await self.allowance(key)
        if allowance.remaining == 0:
            raise TooManyRequests(allowance)

    async def allowance(self, key: str) -> RateLimitStatus:
        """Tell what is left for a key.

        Raises:
            Unavailable: the counts cannot be reached.
        """
        return self._allowance(await self._windows.peek(self._item, self.name, key))

    def _allowance(self, stats: WindowStats) -> RateLimitStatus:
        return RateLimitStatus(
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
        self._windows = RedisWindows(storage_url) if storage_url else MemoryWindows()
        self.failed_logins = Limit("login", failed_logins, self._windows)
        self.failed_logins_of_account = Limit("account", failed_logins_of_account, self._windows)
        self.registrations = Limit("register", registrations, self._windows)
        self.api = Limit("api", api, self._windows)

    async def close(self) -> None:
        """Close the connections to Redis."""
        if isinstance(self._windows, RedisWindows):
            await self._windows.close()


def _stats(item: RateLimitItem, hits: deque[float], now: float) -> WindowStats:
    age = now - hits[0] if hits else 0.0
    return WindowStats(time() + item.get_expiry() - age, item.amount - len(hits))


async def _reach(response: Awaitable[Value]) -> Value:
    try:
        return await response
    except StorageError as error:
        raise Unavailable(
            Message("The counts of the rate limits cannot be reached just now.")
        ) from error
