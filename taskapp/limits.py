"""How often something may be done: counts by the `limits` library, in memory or in Redis."""

from collections.abc import Awaitable
from time import time
from typing import TypeVar

from limits import RateLimitItem
from limits.aio.storage import MemoryStorage, RedisStorage, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from taskapp.errors import Allowance, TooManyRequests, Unavailable

Value = TypeVar("Value")


class Limit:
    """So many in such a period, counted for each key by itself."""

    def __init__(self, name: str, item: RateLimitItem, limiter: MovingWindowRateLimiter) -> None:
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
        registrations: RateLimitItem,
        api: RateLimitItem,
    ) -> None:
        """Take the address of Redis, or nothing for memory, and how much each limit allows."""
        limiter = MovingWindowRateLimiter(_storage(storage_url))
        self.failed_logins = Limit("login", failed_logins, limiter)
        self.registrations = Limit("register", registrations, limiter)
        self.api = Limit("api", api, limiter)


def _storage(url: str) -> Storage:
    if not url:
        return MemoryStorage()
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
        raise Unavailable("The counts of the rate limits cannot be reached just now.") from error
