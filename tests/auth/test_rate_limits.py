"""Limits allow exactly their amount for each key; without the storage, nothing passes."""

import asyncio
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from limits import parse
from redis import Redis, RedisError

from taskapp.auth.rate_limits import (
    SITE_FACTOR,
    AddressLimit,
    MemoryWindows,
    RateLimit,
    RateLimits,
    SessionLimit,
)
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import RateLimitStatus, TooManyRequests, Unavailable
from tests.support.server_process import LONG_ENOUGH, Stopwatch, reserved_port, wait_until

ALICE, BOB = "198.51.100.1", "198.51.100.2"
# Seconds of a window. If a busy machine misses what happens within it, the next one is tried.
WINDOWS = (3, 12, 48)
TIMEOUT = 3.0  # seconds in which a missing Redis has to be noticed


def responses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
        connection.connect(str(path))
        return True
    return False


@contextmanager
def redis_server(folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = ["redis-server", "--port", "0", "--unixsocket", "redis.sock", "--save", "", *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        while not responses(folder / "redis.sock"):
            assert server.poll() is None
            time.sleep(0.01)
        try:
            yield server
        finally:
            server.send_signal(signal.SIGCONT)
            server.terminate()


@pytest.fixture(scope="module")
def redis_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))  # a socket's path has to be short
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def own_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def redis_url(redis_folder: Path) -> Iterator[str]:
    with redis_server(redis_folder):
        yield f"redis+unix://{redis_folder}/redis.sock"


@pytest.fixture(params=["memory", "redis"])
def storage(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue("redis_url")) if request.param == "redis" else ""


@asynccontextmanager
async def open_limits(storage: str, plain: str = "3/15minute") -> AsyncIterator[RateLimits]:
    limits = RateLimits(
        storage,
        failed_logins=parse("5/15minute"),
        failed_logins_of_account=parse("10/hour"),
        successful_logins=parse(plain),
        registrations=parse("20/hour"),
        api=parse("5/15minute"),
        pages=parse("600/15minute"),
    )
    yield limits
    await limits.close()


async def take_all(limit: RateLimit, key: str) -> list[RateLimitStatus]:
    """Hit a limit until it is reached."""
    taken: list[RateLimitStatus] = []
    with suppress(TooManyRequests):
        while len(taken) < 1000:
            taken.append(await limit.hit(key))
    return taken


async def count_hits(limit: AddressLimit, address: str) -> int:
    """Hit the limit of an address until it is reached, and return how often it was."""
    for number in range(1000):
        try:
            await limit.counts(address).hit()
        except TooManyRequests:
            return number
    return 1000


async def try_hit(
    limit: RateLimit | SessionLimit, key: Any
) -> RateLimitStatus | TooManyRequests | None:
    try:
        return await limit.hit(key)
    except TooManyRequests as refusal:
        return refusal


def test_so_many_are_allowed_and_the_next_is_told_when_to_come_back(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage) as limits:
            limit = limits.successful_logins
            assert await limit.status("alice") == RateLimitStatus("session", 3, 3, 900, 900)
            await limit.check("alice")
            taken = await take_all(limit, "alice")
            assert [status.remaining for status in taken] == [2, 1, 0]
            with pytest.raises(TooManyRequests):
                await limit.check("alice")
            with pytest.raises(TooManyRequests) as refusal:
                await limit.hit("alice")
        assert refusal.value.rate_limit.remaining == 0
        assert 890 <= refusal.value.rate_limit.reset == refusal.value.retry_after <= 900

    asyncio.run(scenario())


def test_who_waits_as_long_as_told_is_let_in(storage: str) -> None:
    async def scenario(window: int) -> bool:
        async with open_limits(storage, f"1/{window}second") as limits:
            limit = limits.successful_logins
            started = time.monotonic()
            await limit.hit("dave")
            for wait in (0.3 * window, 0.0):  # the rest remains, and the whole window
                await asyncio.sleep(wait)
                outcome = await try_hit(limit, "dave")
                if time.monotonic() - started >= window:
                    return False
                assert isinstance(outcome, TooManyRequests)
                assert outcome.retry_after <= window
                await asyncio.sleep(outcome.retry_after + 0.01)
                started = time.monotonic()
                await limit.hit("dave")
        return True

    assert any(asyncio.run(scenario(window)) for window in WINDOWS)


def test_keys_and_limits_are_counted_apart(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage) as limits:
            await take_all(limits.successful_logins, ALICE)
            assert len(await take_all(limits.successful_logins, BOB)) == 3
            assert len(await take_all(limits.failed_logins_of_account, ALICE)) == 10
            assert len(await take_all(limits.failed_logins_of_account_from_site, ALICE)) == 2
            assert await count_hits(limits.failed_logins, ALICE) == 5
            assert await count_hits(limits.registrations, ALICE) == 20

    asyncio.run(scenario())


def test_refusals_and_looks_are_not_counted(storage: str) -> None:
    async def scenario(window: int) -> bool:
        async with open_limits(storage, f"2/{window}second") as limits:
            limit = limits.successful_logins
            started = time.monotonic()
            await limit.hit("carol")
            await asyncio.sleep(0.5 * window)
            await limit.hit("carol")
            outcomes = [await try_hit(limit, "carol") for _ in range(5)]
            if time.monotonic() - started >= window:
                return False
            for outcome in outcomes:
                assert isinstance(outcome, TooManyRequests)
                assert 0 < outcome.retry_after <= 0.5 * window + 1  # whole seconds
            # The first ends, not the second.
            await asyncio.sleep(started + window + 0.2 - time.monotonic())
            await limit.check("carol")
            last = await try_hit(limit, "carol")
            if time.monotonic() - started >= 1.5 * window:
                return False
            assert isinstance(last, RateLimitStatus)
            assert last.remaining == 0
        return True

    assert any(asyncio.run(scenario(window)) for window in WINDOWS)


def test_many_at_once_are_counted_one_by_one(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage, "7/15minute") as limits:
            outcomes = await asyncio.gather(
                *(limits.successful_logins.hit("dave") for _ in range(50)), return_exceptions=True
            )
        taken = [outcome for outcome in outcomes if isinstance(outcome, RateLimitStatus)]
        refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyRequests)]
        assert (len(taken), len(refused)) == (7, 43)

    asyncio.run(scenario())


def test_an_ipv6_subscriber_has_one_count(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage) as limits:
            for host in range(5):
                await limits.failed_logins.counts(f"2001:db8:0:1::{host:x}").hit()
            with pytest.raises(TooManyRequests):
                await limits.failed_logins.counts("2001:db8:0:1:ffff::1").check()
            await limits.failed_logins.counts("2001:db8:0:2::1").check()

    asyncio.run(scenario())


def probe() -> SessionToken:
    """Return a new session of Alice."""
    return SessionToken("alice", secrets.token_bytes(32))


async def left(limit: SessionLimit, session: SessionToken) -> int | None:
    """Return what remains after a request; None if it is one too many."""
    outcome = await try_hit(limit, session)
    return outcome.remaining if isinstance(outcome, RateLimitStatus) else None


async def comes_down(limit: SessionLimit, remaining: int | None) -> bool:
    """Return whether so much remains for Alice soon."""
    for _ in range(1000):
        if await left(limit, probe()) == remaining:
            return True
        await asyncio.sleep(0.01)
    return False


def test_the_requests_of_a_session_count_for_its_user_when_they_are_recorded(storage: str) -> None:
    ended, live, other = probe(), probe(), probe()

    async def scenario() -> None:
        async with open_limits(storage) as limits:
            for remaining in (4, 3, 2, 1, 0):
                assert await left(limits.api, ended) == remaining
            with pytest.raises(TooManyRequests):
                await limits.api.hit(ended)
            for remaining in (4, 3, 2):
                assert await left(limits.api, live) == remaining
                limits.api.record_for_user(live)
                assert await comes_down(limits.api, remaining - 1)
            # Two are left for all sessions of the user.
            assert await left(limits.api, other) == 1
            limits.api.record_for_user(other)
            assert await comes_down(limits.api, 0)
            limits.api.record_for_user(other)
            assert await comes_down(limits.api, None)
            for session in (live, other, ended):
                assert isinstance(await try_hit(limits.api, session), TooManyRequests)
            await limits.api.hit(SessionToken("bob", bytes(32)))

    asyncio.run(scenario())


def test_a_site_of_ipv6_has_a_count_for_all_of_its_networks(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage) as limits:
            networks = [f"2001:db8:1:{number:x}::1" for number in range(100)]
            counted = [await count_hits(limits.failed_logins, network) for network in networks]
            assert sum(counted) == SITE_FACTOR * 5
            assert max(counted) == 5
            assert await count_hits(limits.failed_logins, "2001:db8:2:1::1") == 5

    asyncio.run(scenario())


@pytest.mark.parametrize("tries", [1, 3, 7])
def test_as_many_attempts_run_at_once_as_may_fail(storage: str, tries: int) -> None:
    """However many come at once, no more than the limit are made while all of them fail."""

    async def scenario() -> None:
        running = most = failed = 0
        async with open_limits(storage, f"{tries}/15minute") as limits:
            limit = limits.successful_logins

            async def fail() -> None:
                nonlocal running, most, failed
                async with limit.attempt("mallory"):
                    running += 1
                    most = max(most, running)
                    await asyncio.sleep(0.001)
                    await limit.hit("mallory")
                    failed += 1
                    running -= 1

            outcomes = await asyncio.gather(*(fail() for _ in range(30)), return_exceptions=True)
        refused = sum(isinstance(outcome, TooManyRequests) for outcome in outcomes)
        assert (failed, refused) == (tries, 30 - tries)
        assert most <= tries

    asyncio.run(scenario())


def test_attempts_that_succeed_refuse_nobody_however_many_run_at_once(storage: str) -> None:
    async def scenario() -> None:
        async with open_limits(storage, "2/15minute") as limits:

            async def succeed() -> None:
                async with limits.successful_logins.attempt("school"):
                    await asyncio.sleep(0)

            async with asyncio.timeout(LONG_ENOUGH):
                await asyncio.gather(*(succeed() for _ in range(30)))

    asyncio.run(scenario())


def test_two_processes_share_the_counts_in_redis(redis_url: str) -> None:
    async def scenario() -> None:
        async with open_limits(redis_url) as one, open_limits(redis_url) as other:
            await one.successful_logins.hit("erin")
            assert (await other.successful_logins.hit("erin")).remaining == 1

    asyncio.run(scenario())


async def assert_fails_closed(limits: RateLimits) -> None:
    stopwatch = Stopwatch()
    outcomes = await asyncio.gather(
        limits.successful_logins.hit(ALICE),
        limits.failed_logins.counts(ALICE).check(),
        limits.registrations.counts(ALICE).hit(),
        return_exceptions=True,
    )
    assert stopwatch.seconds < TIMEOUT
    assert [type(outcome) for outcome in outcomes] == [Unavailable] * 3


def test_without_redis_nobody_passes_and_afterwards_all_is_well() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))

    async def scenario() -> None:
        async with open_limits(f"redis+unix://{folder}/redis.sock") as limits:
            await assert_fails_closed(limits)
            with redis_server(folder) as server:
                await limits.successful_logins.hit(ALICE)
                server.send_signal(signal.SIGSTOP)
                await assert_fails_closed(limits)
            await assert_fails_closed(limits)
            with redis_server(folder):
                await limits.successful_logins.hit(ALICE)

    asyncio.run(scenario())
    shutil.rmtree(folder)


def test_requests_of_the_api_pass_uncounted_without_redis_and_are_counted_afterwards(
    own_folder: Path,
) -> None:
    async def scenario() -> None:
        async with open_limits(f"redis+unix://{own_folder}/redis.sock") as limits:
            assert await limits.api.hit(probe()) is None
            with redis_server(own_folder) as server:
                await until_counted(limits)
                server.send_signal(signal.SIGSTOP)
                stopwatch = Stopwatch()
                assert await limits.api.hit(probe()) is None
                assert await limits.api.hit(probe()) is None
                assert stopwatch.seconds < TIMEOUT
                server.send_signal(signal.SIGCONT)
                await until_counted(limits)

    asyncio.run(scenario())


async def until_counted(limits: RateLimits) -> RateLimitStatus:
    async with asyncio.timeout(LONG_ENOUGH):
        while (status := await limits.api.hit(probe())) is None:  # noqa: ASYNC110  # Redis has to be asked
            await asyncio.sleep(0.01)
    return status


@contextmanager
def redis_with_sentinel(folder: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield the address of a Sentinel of two Redis, and a function that kills the primary."""
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in range(3)]
        processes: list[subprocess.Popen[bytes]] = []
        follow = ["--replicaof", f"127.0.0.1 {ports[0]}"]
        for number, port in enumerate(ports[:2]):
            home = folder / str(number)
            home.mkdir()
            options = ["--port", str(port), *(follow if number else ())]
            processes.append(stack.enter_context(redis_server(home, *options)))
        sentinel = folder / "sentinel.conf"
        sentinel.write_text(
            f"port {ports[2]}\nsentinel monitor tasks 127.0.0.1 {ports[0]} 1\n"
            "sentinel down-after-milliseconds tasks 500\nsentinel failover-timeout tasks 5000\n"
        )
        command = ["redis-server", str(sentinel), "--sentinel"]
        watching = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        stack.enter_context(watching)
        stack.callback(watching.terminate)
        with closing(Redis(port=ports[2])) as asked:
            wait_until(lambda: knows_the_replica(asked))
        yield f"redis+sentinel://127.0.0.1:{ports[2]}/tasks", processes[0].kill


def knows_the_replica(sentinel: Redis) -> bool:
    with suppress(RedisError):
        replicas = sentinel.sentinel_slaves("tasks")
        return [replica["master-link-status"] for replica in replicas] == ["ok"]
    return False


def test_when_the_primary_is_killed_sentinel_names_another_that_has_the_counts(
    own_folder: Path,
) -> None:
    async def scenario() -> None:
        with redis_with_sentinel(own_folder) as (url, kill_primary):
            async with open_limits(url) as limits:
                await limits.successful_logins.hit(ALICE)
                kill_primary()
                with pytest.raises(Unavailable):
                    await limits.successful_logins.hit(ALICE)
                await until_counted(limits)
                assert (await limits.successful_logins.hit(ALICE)).remaining == 1

    asyncio.run(scenario())


def test_a_redis_that_is_down_is_unavailable() -> None:
    async def scenario() -> None:
        async with open_limits("redis://127.0.0.1:1/0") as limits:
            await assert_fails_closed(limits)

    asyncio.run(scenario())


def test_in_memory_a_hit_costs_the_same_however_many_others_there_are() -> None:
    async def spent(windows: MemoryWindows, keys: int) -> float:
        item = parse("100/hour")
        for number in range(keys):
            await windows.hit(item, "api", str(number))
        started = time.process_time()
        for number in range(2000):
            await windows.hit(item, "api", str(number % keys))
        await asyncio.sleep(0.1)  # nor does it leave work behind
        return time.process_time() - started

    few, many = (asyncio.run(spent(MemoryWindows(), keys)) for keys in (100, 20_000))
    assert many < 5 * few + 0.05


def count(windows: MemoryWindows) -> int:
    return len(vars(windows)["_windows"])


def test_in_memory_what_has_ended_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]  # a clock of the test's own: on a busy machine a second may pass at any time
    monkeypatch.setattr("taskapp.auth.rate_limits.monotonic", lambda: clock[0])

    async def scenario() -> None:
        windows = MemoryWindows()
        for number in range(1000):
            await windows.hit(parse("5/second"), "api", f"short {number}")
        assert count(windows) == 1000
        clock[0] = 1.05
        for number in range(501):
            await windows.hit(parse("5/hour"), "api", f"long {number}")
        assert count(windows) == 501

    asyncio.run(scenario())
