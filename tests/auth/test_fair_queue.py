"""Whoever asks often waits for itself: its line is long, and the others' are not."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest

from taskapp.auth.fair_queue import FairQueue
from taskapp.core.errors import Disconnected, TaskappError, TooManyRequests, Unavailable
from tests.support.server_process import LONG_ENOUGH

PLACES, KEPT = 40, 20


class Office:
    """A queue whose workers finish when the test says so, and who began in which order."""

    def __init__(self, queue: FairQueue) -> None:
        self.queue = queue
        self.begun: list[str] = []
        self.refused: list[TaskappError] = []
        self.tasks: list[asyncio.Task[None]] = []
        self._finish = asyncio.Semaphore(0)

    async def ask(
        self, client: str, times: int = 1, *, account: str = "", is_known: bool = False
    ) -> None:
        """Ask so many times at once; each has an account of its own unless one is named."""
        for _ in range(times):
            own = account or f"account {len(self.tasks)}"
            self.tasks.append(asyncio.create_task(self._work(client, own, is_known)))
        await asyncio.sleep(0)
        await asyncio.sleep(0)

    async def _work(self, client: str, account: str, is_known: bool) -> None:
        try:
            async with self.queue.turn(client, account, is_known=is_known):
                self.begun.append(client)
                await self._finish.acquire()
        except (TooManyRequests, Unavailable, Disconnected) as error:
            self.refused.append(error)

    async def finish(self, number: int) -> None:
        """Let so many end their turns, one after the other."""
        for _ in range(number):
            self._finish.release()
            for _ in range(4):
                await asyncio.sleep(0)

    async def close(self) -> None:
        for _ in self.tasks:
            self._finish.release()
        async with asyncio.timeout(LONG_ENOUGH):
            await asyncio.gather(*self.tasks, return_exceptions=True)


@asynccontextmanager
async def office(workers: int = 1) -> AsyncIterator[Office]:
    opened = Office(FairQueue(workers, places=PLACES, places_for_known=KEPT))
    try:
        yield opened
    finally:
        await opened.close()


def story(scenario: Callable[[], Awaitable[None]]) -> None:
    async def run() -> None:
        await scenario()

    asyncio.run(run())


def test_as_many_work_at_once_as_there_are_workers() -> None:
    async def scenario() -> None:
        async with office(workers=3) as at:
            await at.ask("alice", 7)
            for working in (3, 4, 5, 6, 7, 7):
                assert len(at.begun) == working
                await at.finish(1)

    story(scenario)


def test_a_client_is_served_in_the_order_of_asking_and_clients_in_turn() -> None:
    async def scenario() -> None:
        async with office() as at:
            await at.ask("mallory", 10)
            await at.ask("alice", 2)
            await at.ask("bob", 1)
            await at.finish(6)
            assert at.begun == ["mallory", "mallory", "alice", "bob", "mallory", "alice", "mallory"]

    story(scenario)


def test_a_newcomer_waits_for_one_turn_of_each_client_however_many_places_they_hold() -> None:
    async def scenario() -> None:
        async with office() as at:
            for number in range(10):
                await at.ask(f"mallory {number}", PLACES)
            assert {type(error) for error in at.refused} <= {TooManyRequests, Unavailable}
            await at.ask("alice")
            await at.finish(11)
            assert at.begun.index("alice") <= 11
            assert len({*at.begun}) == 11

    story(scenario)


@pytest.mark.parametrize("floods", [1, 2, 3, 10, PLACES - 2])
def test_any_number_of_floods_leaves_others_a_place(floods: int) -> None:
    async def scenario() -> None:
        async with office() as at:
            for number in range(floods):
                await at.ask(f"mallory {number}", PLACES)
            await at.ask("alice")
            assert not at.tasks[-1].done()
            for number in range(floods):
                await at.ask(f"mallory {number}", PLACES)
            await at.finish(floods + 1)
            assert "alice" in at.begun
            waiting = sum(not task.done() for task in at.tasks)
            assert waiting <= PLACES

    story(scenario)


def test_one_client_alone_gets_half_of_the_places() -> None:
    async def scenario() -> None:
        async with office() as at:
            await at.ask("school", PLACES // 2)
            assert at.refused == []
            await at.ask("school")
            (refused,) = at.refused
            assert isinstance(refused, TooManyRequests)
            assert refused.rate_limit.name == "queue"
            assert refused.retry_after > 0

    story(scenario)


def test_an_account_has_a_share_too_from_however_many_clients() -> None:
    async def scenario() -> None:
        async with office() as at:
            for number in range(PLACES):
                await at.ask(f"client {number}", account="alice")
            assert len(at.refused) == PLACES // 2
            await at.ask("client 1", account="bob")
            assert len(at.refused) == PLACES // 2

    story(scenario)


@pytest.mark.parametrize("floods", [1, 2, 3, KEPT // 2 - 2])
@pytest.mark.parametrize("is_known", [False, True])
def test_floods_of_one_account_leave_its_owner_a_place_and_a_turn(
    floods: int, *, is_known: bool
) -> None:
    async def scenario() -> None:
        async with office() as at:
            for number in range(floods):
                await at.ask(f"mallory {number}", PLACES, account="alice", is_known=is_known)
            await at.ask("new address of alice", account="alice", is_known=is_known)
            assert not at.tasks[-1].done()
            for number in range(floods):
                await at.ask(f"mallory {number}", PLACES, account="alice", is_known=is_known)
            waiting = sum(not task.done() for task in at.tasks)
            assert waiting <= PLACES // 2 + (KEPT // 2 if is_known else 0)
            await at.finish(2 * floods + 2)
            assert "new address of alice" in at.begun

    story(scenario)


def test_whom_the_account_knows_finds_a_place_when_all_others_are_taken() -> None:
    async def scenario() -> None:
        async with office() as at:
            for number in range(2 * PLACES):
                await at.ask(f"mallory {number}")
            assert {type(error) for error in at.refused} == {Unavailable}
            before = len(at.refused)
            await at.ask("alice", is_known=True)
            assert len(at.refused) == before
            await at.finish(2)
            assert "alice" in at.begun[:3]

    story(scenario)


def test_strangers_are_served_while_those_who_are_known_ask_without_pause() -> None:
    async def scenario() -> None:
        async with office() as at:
            await at.ask("known", KEPT // 2, is_known=True)
            await at.ask("stranger", 2)
            await at.finish(4)
            assert at.begun == ["known", "stranger", "known", "stranger", "known"]

    story(scenario)


def test_whoever_hangs_up_or_is_cancelled_makes_room_and_is_not_waited_for() -> None:
    async def scenario() -> None:
        async with office() as at:
            await at.ask("alice")
            await at.ask("mallory", PLACES // 2)
            waiting = at.tasks[2:]
            assert all(not task.done() for task in waiting)
            for task in waiting[::2]:
                at.queue.leave(task)
            for task in waiting[1::2]:
                task.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert all(task.done() for task in waiting)
            before = len(at.refused)
            await at.ask("bob", 5)
            assert len(at.refused) == before
            await at.finish(3)
            assert at.begun == ["alice", "mallory", "bob", "bob"]

    story(scenario)


def test_a_turn_that_has_begun_goes_on_when_its_client_hangs_up() -> None:
    async def scenario() -> None:
        async with office() as at:
            await at.ask("alice")
            at.queue.leave(at.tasks[0])
            await at.ask("bob")
            assert at.begun == ["alice"]
            await at.finish(1)
            assert at.begun == ["alice", "bob"]
            assert at.refused == []

    story(scenario)


def test_after_any_history_all_places_and_workers_are_free_again() -> None:
    async def scenario() -> None:
        chance = Random(7)  # noqa: S311  # for no secret
        async with office(workers=2) as at:
            for _ in range(400):
                client = f"client {chance.randrange(6)}"
                await at.ask(client, chance.randrange(4), is_known=chance.random() < 0.3)
                for task in chance.sample(at.tasks, min(len(at.tasks), 2)):
                    if chance.random() < 0.5:
                        task.cancel()
                    else:
                        at.queue.leave(task)
                await at.finish(chance.randrange(3))
            await at.close()
            after = Office(at.queue)
            await after.ask("alice", PLACES // 2)
            await after.ask("bob", PLACES // 2)
            assert after.refused == []
            assert Counter(after.begun) == {"alice": 2}
            await after.close()

    story(scenario)


def test_an_error_in_a_turn_ends_it() -> None:
    async def scenario() -> None:
        queue = FairQueue(1, places=4, places_for_known=4)
        for _ in range(10):
            with suppress(ValueError):
                async with asyncio.timeout(LONG_ENOUGH), queue.turn("a", "b", is_known=False):
                    raise ValueError

    story(scenario)
