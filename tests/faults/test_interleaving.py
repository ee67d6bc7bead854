"""Concurrent clients change one task, or register one email, on two processes."""

import asyncio
import random
import time
from typing import Any

import pytest

from taskapp.config.settings import Settings
from tests.conftest import PASSWORD
from tests.faults.history import STRANGER, Operation, State, is_explained
from tests.support.api_tools import at_once, running
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute

HISTORIES = 25
MOST_HISTORIES = 500  # in which each answer has come once, by chance
EVERY_ANSWER = {200, 401, 403, 404, 412}
STEPS = 4  # of each client
KINDS = {"read": 3, "write": 4, "delete": 0.3, "logout": 0.3}


class Actor:
    """A client that runs random operations on a task, and records the responses."""

    def __init__(self, session: str, client: ApiClient, chance: random.Random) -> None:
        self._session = session
        self._client = client
        self._chance = chance
        self._version = ""

    async def act(self, path: str, history: list[Operation]) -> None:
        for _ in range(STEPS):
            await asyncio.sleep(self._chance.choice([0, 0, 0.001, 0.003]))
            (kind,) = self._chance.choices([*KINDS], [*KINDS.values()])
            history.append(await self._do(kind, path))

    async def _do(self, kind: str, path: str) -> Operation:
        changes = kind in {"write", "delete"}
        condition = self._version if changes and self._chance.random() < 0.7 else ""
        title = f"{self._chance.getrandbits(64):x}"
        headers = {"If-Match": condition} if condition else {}
        began = time.perf_counter()
        if kind == "read":
            response = await self._client.get(path)
        elif kind == "write":
            response = await self._client.send("PUT", path, {"title": title}, headers=headers)
        elif kind == "delete":
            response = await self._client.send("DELETE", path, headers=headers)
        else:
            response = await self._client.post("/api/auth/logout")
        ended = time.perf_counter()
        shown: dict[str, Any] = {}
        if response.status == 200 and kind in {"read", "write"}:
            shown = response.json
            self._version = response.headers["ETag"]
        return Operation(
            self._session,
            kind,
            began,
            ended,
            response.status,
            title,
            condition,
            shown.get("title", ""),
            response.headers.get("ETag", ""),
        )


@pytest.mark.gen_test
async def test_whatever_clients_do_to_a_task_at_once_some_order_explains(
    settings: Settings, chance: random.Random
) -> None:
    seen: set[int] = set()
    async with running(settings) as one, running(settings) as other:
        alice = await one.client.sign_up("alice@example.com", PASSWORD)
        for number in range(MOST_HISTORIES):
            if number >= HISTORIES and seen >= EVERY_ANSWER:
                break
            history = await make_history(one.client, other.client, alice, chance)
            seen |= {operation.status for operation in history[1]}
            assert is_explained(*history), sorted(history[1], key=lambda each: each.began)
    assert seen == EVERY_ANSWER


async def make_history(
    one: ApiClient, other: ApiClient, alice: ApiClient, chance: random.Random
) -> tuple[State, list[Operation]]:
    """Run two clients of one session, one of another session and a stranger on a new task."""
    bob_email = f"{chance.getrandbits(64):x}@example.com"
    first = await one.log_in(alice.email, PASSWORD)
    second = await other.log_in(alice.email, PASSWORD)
    bob = await other.sign_up(bob_email, PASSWORD)
    made = await first.post("/api/tasks", {"title": "new"})
    path = f"/api/tasks/{made.json['id']}"
    on_other = ApiClient(other.http_client, other.base_url, first.headers)
    actors = [("first", first), ("first", on_other), ("second", second), (STRANGER, bob)]
    history: list[Operation] = []
    await asyncio.gather(
        *(
            Actor(session, client, random.Random(chance.random())).act(path, history)  # noqa: S311  # for no secret
            for session, client in actors
        )
    )
    sessions = frozenset({"first", "second", STRANGER})
    return State("new", made.headers["ETag"], sessions), history


@pytest.mark.gen_test
async def test_of_those_who_register_an_address_in_any_case_at_once_one_succeeds(
    settings: Settings, chance: random.Random
) -> None:
    names = [f"{chance.getrandbits(64):x}" for _ in range(5)]
    emails = [f"{name}@example.com" for name in names] * 6
    chance.shuffle(emails)

    def in_any_case(email: str) -> str:
        return "".join(chance.choice([letter, letter.upper()]) for letter in email)

    async with running(settings) as one, running(settings) as other:
        responses = await at_once(
            chance.choice([one, other]).client.post(
                "/api/auth/register", {"email": in_any_case(email), "password": PASSWORD}
            )
            for email in emails
        )
    for name in names:
        statuses = [
            response.status
            for email, response in zip(emails, responses, strict=True)
            if email.startswith(name)
        ]
        assert sorted(statuses) == [201] + [409] * 5
    assert execute(settings.database_url, "SELECT count(*) FROM users") == [(5,)]


def operation(kind: str, began: float, ended: float, status: int, **more: str) -> Operation:
    return Operation("first", kind, began, ended, status, **more)


WRITE = operation("write", 1, 2, 200, title="a", shown_title="a", shown_version="1")
LATER_READ = operation("read", 3, 4, 200, shown_title="new", shown_version="0")
SAME_TIME_READ = operation("read", 1, 4, 200, shown_title="new", shown_version="0")
START = State("new", "0", frozenset({"first", "second"}))


@pytest.mark.parametrize(
    "history",
    [
        [WRITE, SAME_TIME_READ],
        [WRITE, operation("read", 3, 4, 200, shown_title="a", shown_version="1")],
        [operation("delete", 1, 3, 200), operation("write", 2, 4, 404, title="b")],
        [operation("logout", 1, 3, 200), LATER_READ],
    ],
    ids=["read before written", "read after written", "deleted", "logged out while reading"],
)
def test_a_history_that_has_an_order_is_explained(history: list[Operation]) -> None:
    assert is_explained(START, history)


@pytest.mark.parametrize(
    "history",
    [
        [WRITE, LATER_READ],
        [
            operation("write", 1, 4, 200, title="a", condition="0", shown_title="a"),
            operation("write", 2, 3, 200, title="b", condition="0", shown_title="b"),
        ],
        [operation("delete", 1, 2, 200), operation("write", 3, 4, 200, shown_title="")],
        [operation("logout", 1, 2, 200), LATER_READ],
        [operation("write", 1, 2, 412, title="a", condition="0")],
        [operation("read", 1, 2, 200, shown_title="of somebody else", shown_version="9")],
        [Operation(STRANGER, "read", 1, 2, 200, shown_title="new", shown_version="0")],
    ],
    ids=[
        "an old value",
        "a lost update",
        "written when deleted",
        "read when logged out",
        "refused for nothing",
        "a value nobody wrote",
        "read by a stranger",
    ],
)
def test_a_history_that_has_none_is_not(history: list[Operation]) -> None:
    assert not is_explained(START, history)
