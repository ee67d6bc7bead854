"""Rate limits, counted in memory or, by the `limits` library, in Redis."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from itertools import islice
from math import ceil
from time import monotonic, time
from typing import Any, TypeVar

from limits import RateLimitItem, RateLimitItemPerSecond, WindowStats
from limits.aio.storage import RedisSentinelStorage, RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError

from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import limit_key, site_key
from taskapp.core.errors import RateLimitStatus, TooManyRequests, Unavailable
from taskapp.core.messages import Message

Value = TypeVar("Value")
SITE_FACTOR = 4  # how much more a site of IPv6 (/48, RFC 6177) may do than one of its networks
# Failed logins from fewer sites never reach the limit of an account: what one may add is so small.
SITES_TO_LOCK = 7
_TRIAL = RateLimitItemPerSecond(1000)  # never reached
SENTINEL_SCHEME = "redis+sentinel://"
_TIMEOUT = 2.0  # seconds
_UNCOUNTED_TIME = 1.0  # seconds in which an optional limit does not ask a Redis that failed again


class MemoryWindows:
    """Moving windows in memory, with the results of the library's `MovingWindowRateLimiter`.

    The library's own memory storage checks every key after every hit, in threads: with a thousand
    keys that takes most of a core (limits 5.8). Windows are measured on the monotonic clock.
    """

    def __init__(self) -> None:
        # By limit and key, least recently hit first: the window in seconds and the times of hits.
        self._windows: dict[tuple[str, str], tuple[int, deque[float]]] = {}

    async def hit(self, item: RateLimitItem, name: str, key: str) -> tuple[bool, WindowStats]:
        """Count a hit unless the limit is reached; return whether it was counted, and the state."""
        now = monotonic()
        is_counted, hits = self._count(item, name, key, now)
        return is_counted, _stats(item, hits, now)

    def record(self, item: RateLimitItem, name: str, key: str) -> None:
        """Count a hit unless the limit is reached."""
        self._count(item, name, key, monotonic())

    async def find_problem(self) -> str:
        """Return an empty text: memory is always there."""
        return ""

    async def peek(self, item: RateLimitItem, name: str, key: str) -> WindowStats:
        """Return when the oldest hit expires, and how many hits remain, without counting one."""
        now = monotonic()
        return _stats(item, self._hits((name, key), now), now)

    def _count(
        self, item: RateLimitItem, name: str, key: str, now: float
    ) -> tuple[bool, deque[float]]:
        hits = self._hits((name, key), now)
        is_counted = len(hits) < item.amount
        if is_counted:
            hits.append(now)
            if self._windows.pop((name, key), None) is None:
                self._evict_expired(now)
            self._windows[name, key] = (item.get_expiry(), hits)
        return is_counted, hits

    def _hits(self, key: tuple[str, str], now: float) -> deque[float]:
        """Return the times of the hits that have not expired."""
        length, hits = self._windows.get(key, (0, deque()))
        while hits and hits[0] <= now - length:
            hits.popleft()
        return hits

    def _evict_expired(self, now: float) -> None:
        """Remove up to two expired keys: more than one is added, so they cannot pile up."""
        for key in list(islice(self._windows, 2)):
            if not self._hits(key, now):
                del self._windows[key]


class RedisWindows:
    """Moving windows in Redis, by the library; every method raises Unavailable without Redis."""

    def __init__(self, url: str) -> None:
        """`url` names a Redis, or the Sentinels that know which Redis is the primary."""
        self._storage = _sentinel(url) if url.startswith(SENTINEL_SCHEME) else _redis(url)
        self._limiter = MovingWindowRateLimiter(self._storage)
        self._recording: set[asyncio.Task[None]] = set()

    async def hit(self, item: RateLimitItem, name: str, key: str) -> tuple[bool, WindowStats]:
        """Count a hit unless the limit is reached; return whether it was counted, and the state."""
        is_counted = await _reach(self._limiter.hit(item, name, key))
        return is_counted, await self.peek(item, name, key)

    def record(self, item: RateLimitItem, name: str, key: str) -> None:
        """Begin to count a hit unless the limit is reached; without Redis it is lost."""
        task = asyncio.create_task(self._record(item, name, key))
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    async def _record(self, item: RateLimitItem, name: str, key: str) -> None:
        with suppress(StorageError):
            await self._limiter.hit(item, name, key)

    async def find_problem(self) -> str:
        """Return why Redis cannot count; empty if all is well.

        It counts a hit, because a Redis may respond and refuse writes: one that is full, a replica.
        """
        try:
            await self._limiter.hit(_TRIAL, "trial")
        except StorageError as error:
            return str(error.storage_error) or type(error.storage_error).__name__
        return ""

    async def peek(self, item: RateLimitItem, name: str, key: str) -> WindowStats:
        """Return when the oldest hit expires, and how many hits remain, without counting one."""
        return await _reach(self._limiter.get_window_stats(item, name, key))

    async def close(self) -> None:
        if self._recording:
            await asyncio.wait(self._recording)
        bridge: Any = self._storage.bridge  # redispy's, which its declared type does not say
        sentinels = bridge.sentinel.sentinels if hasattr(bridge, "sentinel") else ()
        for client in (bridge.storage, *sentinels):
            await client.aclose()


class RateLimit:
    """A number of hits in a moving window, counted for each key separately."""

    def __init__(
        self, name: str, item: RateLimitItem, windows: MemoryWindows | RedisWindows
    ) -> None:
        self.name = name
        self._item = item
        self._window = item.get_expiry()  # seconds
        self._windows = windows
        self._attempts: Counter[str] = Counter()  # that have not ended, by key
        self._any_end = asyncio.Event()  # of an attempt; each has a new one

    async def hit(self, key: str) -> RateLimitStatus:
        """Count a hit for a key, and return what remains.

        Raises:
            TooManyRequests: the limit is reached; the hit was not counted.
            Unavailable: Redis cannot be reached.
        """
        is_counted, stats = await self._windows.hit(self._item, self.name, key)
        status = self._status(stats)
        if not is_counted:
            raise TooManyRequests(status)
        return status

    def record(self, key: str) -> None:
        """Count a hit for a key, unless the limit is reached; in Redis it is counted soon."""
        self._windows.record(self._item, self.name, key)

    @asynccontextmanager
    async def attempt(self, key: str) -> AsyncIterator[None]:
        """Run a block that hits the limit if it fails.

        At most as many run at once as may still fail; the others wait for them.

        Raises:
            TooManyRequests: the limit is reached.
            Unavailable: Redis cannot be reached.
        """
        while (status := await self.status(key)).remaining <= self._attempts[key]:
            if status.remaining == 0:
                raise TooManyRequests(status)
            await self._any_end.wait()
        self._attempts[key] += 1
        try:
            yield
        finally:
            self._attempts[key] -= 1
            if not self._attempts[key]:
                del self._attempts[key]
            self._any_end.set()
            self._any_end = asyncio.Event()

    async def check(self, key: str) -> None:
        """Check a limit for a key, without counting a hit.

        Raises:
            TooManyRequests: the limit is reached.
            Unavailable: Redis cannot be reached.
        """
        status = await self.status(key)
        if status.remaining == 0:
            raise TooManyRequests(status)

    async def status(self, key: str) -> RateLimitStatus:
        """Return what remains for a key.

        Raises:
            Unavailable: Redis cannot be reached.
        """
        return self._status(await self._windows.peek(self._item, self.name, key))

    def _status(self, stats: WindowStats) -> RateLimitStatus:
        # Rounded up: a client that waits as long as it is told is not refused again.
        reset = ceil(stats.reset_time - time())
        return RateLimitStatus(
            name=self.name,
            amount=self._item.amount,
            remaining=max(0, stats.remaining),
            reset=min(max(0, reset), self._window),
            window=self._window,
        )


class Counts:
    """The counts that one event belongs to, such as those of an address and of its site."""

    def __init__(self, *counts: tuple[RateLimit, str]) -> None:
        """Set each limit with its key."""
        self._counts = counts

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*self._counts, *other._counts)

    async def check(self) -> None:
        """Check the limits as `RateLimit.check` does."""
        for limit, key in self._counts:
            await limit.check(key)

    async def hit(self) -> None:
        """Count a hit everywhere, unless a limit is reached, as `RateLimit.hit` does."""
        for limit, key in self._counts:
            await limit.hit(key)

    @asynccontextmanager
    async def attempt(self) -> AsyncIterator[None]:
        """Run a block that hits the limits if it fails, as `RateLimit.attempt` does."""
        async with AsyncExitStack() as stack:
            for limit, key in self._counts:
                await stack.enter_async_context(limit.attempt(key))
            yield


class AddressLimit:
    """A limit for each address; a site of IPv6 has SITE_FACTOR times as much."""

    def __init__(
        self, name: str, item: RateLimitItem, windows: MemoryWindows | RedisWindows
    ) -> None:
        self._addresses = RateLimit(name, item, windows)
        self._sites = RateLimit(name, _with_amount(item, SITE_FACTOR * item.amount), windows)

    def counts(self, address: str) -> Counts:
        address_key, site = limit_key(address), site_key(address)
        counts = [(self._addresses, address_key)]
        if site != address_key:
            counts.append((self._sites, site))
        return Counts(*counts)


class SessionLimit:
    """A limit of the requests of a user, which only live sessions spend.

    The signature of a token says whose it is, and not whether its session is live; the statement
    that serves the request finds that. So a request is counted for its session first, and for the
    user when it has been served.
    """

    def __init__(
        self, name: str, item: RateLimitItem, windows: MemoryWindows | RedisWindows
    ) -> None:
        self._limit = RateLimit(name, item, windows)
        self._uncounted_until = 0.0  # seconds of the monotonic clock

    async def hit(self, session: SessionToken) -> RateLimitStatus | None:
        """Count a request of a session, and return what remains for it and its user.

        Return None, and count nothing, while Redis cannot be reached: what a limit protects from
        guessing must not pass uncounted (ASVS 16.5.3), but this one only shares out.

        Raises:
            TooManyRequests: the session or its user has reached the limit.
        """
        if monotonic() < self._uncounted_until:
            return None
        try:
            return await self._hit(session)
        except Unavailable:
            self._uncounted_until = monotonic() + _UNCOUNTED_TIME
            return None

    async def _hit(self, session: SessionToken) -> RateLimitStatus:
        of_user = await self._limit.status(session.user_id)
        if of_user.remaining == 0:
            raise TooManyRequests(of_user)
        of_session = await self._limit.hit(session.secret_hash.hex())
        if of_session.remaining < of_user.remaining:
            return of_session
        return of_user._replace(remaining=of_user.remaining - 1)

    def record_for_user(self, session: SessionToken) -> None:
        """Count a request of a session that was found to be live for its user."""
        self._limit.record(session.user_id)


class RateLimits:
    """All rate limits of taskapp, on one storage."""

    def __init__(
        self,
        storage_url: str,
        *,
        failed_logins: RateLimitItem,
        failed_logins_of_account: RateLimitItem,
        successful_logins: RateLimitItem,
        registrations: RateLimitItem,
        api: RateLimitItem,
        pages: RateLimitItem,
    ) -> None:
        """Count in Redis at `storage_url`, or in memory if it is empty."""
        self._windows = RedisWindows(storage_url) if storage_url else MemoryWindows()
        self.failed_logins = AddressLimit("login", failed_logins, self._windows)
        self.failed_logins_of_device = RateLimit("device", failed_logins, self._windows)
        self.failed_logins_of_account = RateLimit(
            "account", failed_logins_of_account, self._windows
        )
        share = ceil(failed_logins_of_account.amount / SITES_TO_LOCK)
        self.failed_logins_of_account_from_site = RateLimit(
            "account-site", _with_amount(failed_logins_of_account, share), self._windows
        )
        self.successful_logins = RateLimit("session", successful_logins, self._windows)
        self.registrations = AddressLimit("register", registrations, self._windows)
        self.api = SessionLimit("api", api, self._windows)
        self.pages = SessionLimit("pages", pages, self._windows)

    async def find_problem(self) -> str:
        """Return why hits cannot be counted; empty if all is well."""
        return await self._windows.find_problem()

    async def close(self) -> None:
        """Close the connections to Redis, if there are any."""
        if isinstance(self._windows, RedisWindows):
            await self._windows.close()


def _redis(url: str) -> RedisStorage:
    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
    )


def _sentinel(url: str) -> RedisStorage:
    return RedisSentinelStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        use_replicas=False,  # one may lack the latest hits
        sentinel_kwargs={"socket_timeout": _TIMEOUT, "socket_connect_timeout": _TIMEOUT},
        socket_timeout=_TIMEOUT,
        socket_connect_timeout=_TIMEOUT,
    )


def _with_amount(item: RateLimitItem, amount: int) -> RateLimitItem:
    return type(item)(amount, item.multiples, item.namespace)


def _stats(item: RateLimitItem, hits: deque[float], now: float) -> WindowStats:
    age = now - hits[0] if hits else 0.0
    return WindowStats(time() + item.get_expiry() - age, item.amount - len(hits))


async def _reach(response: Awaitable[Value]) -> Value:
    try:
        return await response
    except StorageError as error:
        raise Unavailable(Message("The rate limit storage is not responding.")) from error
