"""What one account may have is bounded, however many requests come at once."""

import asyncio
import secrets
from contextlib import closing
from typing import Any

import psycopg2
import pytest

from handlers.web.application import Application
from taskapp.auth.signing import SessionToken
from taskapp.config.settings import Settings
from taskapp.db.database import Transaction
from taskapp.queries.personal_tokens import insert_token
from taskapp.queries.sessions import MAX_SESSIONS, insert_session
from taskapp.services import Services
from tests.support.api_tools import assert_problem, with_settings
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, PASSWORD, PageClient, titles
from tests.support.server_process import LONG_ENOUGH

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test


@pytest.fixture
def session(alice: ApiClient, services: Services) -> SessionToken:
    """Return a session of Alice."""
    text = alice.headers["Authorization"].removeprefix("Bearer ")
    found = services.signer.read_bearer_token(text)
    assert found
    return found


async def test_many_requests_at_once_make_no_token_too_many_and_none_of_the_same_name(
    session: SessionToken, services: Services, settings: Settings
) -> None:
    async def create(number: int) -> str | None:
        _, secret_hash = services.signer.new_personal_token(session.user_id)
        return await services.database.transaction(
            "sessions.create_token",
            lambda transaction: insert_token(
                transaction,
                session,
                secret_hash,
                name=f"Name {number % 20}",
                lifetime=None,
                is_read_only=False,
                max_tokens=15,
            ),
        )

    created = await asyncio.gather(*(create(number) for number in range(100)))
    stored = execute(settings.database_url, "SELECT id::text FROM sessions WHERE name IS NOT NULL")
    assert len(stored) == 15
    assert {id_ for (id_,) in stored} == {id_ for id_ in created if id_}


def add_sessions(settings: Settings, user_id: str, number: int) -> None:
    """Insert sessions that began an hour, two hours and so on ago."""
    execute(
        settings.database_url,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at, created_at)"
        " SELECT gen_random_uuid(), %s, sha256(convert_to(n::text, 'UTF8')), 'infinity',"
        " now() - make_interval(hours => n) FROM generate_series(1, %s) n",
        *(user_id, number),
    )


async def test_a_login_beyond_the_limit_ends_the_oldest_session_and_no_token(
    alice: ApiClient, mine: PageClient, settings: Settings
) -> None:
    """Alice has two sessions and a token; versions before had no limit."""
    script = await mine.make_token()
    add_sessions(settings, alice.user_id, MAX_SESSIONS - 2)
    oldest = "SELECT round(extract(epoch FROM now() - min(created_at)) / 3600), count(*)"
    of_sessions = f"{oldest} FROM sessions WHERE name IS NULL"
    assert execute(settings.database_url, of_sessions) == [(MAX_SESSIONS - 2, MAX_SESSIONS)]
    await alice.log_in(ALICE, PASSWORD)
    assert execute(settings.database_url, of_sessions) == [(MAX_SESSIONS - 3, MAX_SESSIONS)]
    for client in (alice, script):
        assert (await client.get("/api/tasks")).status == 200

    execute(settings.database_url, "DELETE FROM sessions WHERE created_at < now() - interval '1 h'")
    add_sessions(settings, alice.user_id, 1_500)
    for _ in range(2):
        await alice.log_in(ALICE, PASSWORD)
    [(_, number)] = execute(settings.database_url, of_sessions)
    assert number == MAX_SESSIONS
    for client in (alice, script):
        assert (await client.get("/api/tasks")).status == 200


async def test_logins_at_once_do_not_pass_the_limit_of_sessions(
    alice: ApiClient, services: Services, settings: Settings
) -> None:
    add_sessions(settings, alice.user_id, MAX_SESSIONS - 5)
    [(password_hash,)] = execute(settings.database_url, "SELECT password_hash FROM users")

    async def begin(transaction: Transaction) -> str | None:
        return await insert_session(
            transaction,
            alice.user_id,
            secrets.token_bytes(32),
            password_hash=password_hash,
            idle=3600,
            address="192.0.2.1",
            user_agent="",
        )

    begun = await asyncio.gather(
        *(services.database.transaction("sessions.begin", begin) for _ in range(20))
    )
    stored = execute(settings.database_url, "SELECT id::text FROM sessions")
    assert len(stored) == MAX_SESSIONS
    assert set(begun) <= {session_id for (session_id,) in stored}


# Tasks


def assert_counted(settings: Settings) -> None:
    """Assert that each user has the right number of tasks and characters."""
    counted = "SELECT email, task_count, task_characters FROM users ORDER BY email"
    found = execute(settings.database_url, counted)
    stored = execute(
        settings.database_url,
        "SELECT email, count(tasks.id), coalesce(sum(char_length(title || description)), 0)"
        " FROM users LEFT JOIN tasks ON user_id = users.id GROUP BY email ORDER BY email",
    )
    assert found == stored


@with_settings(MAX_TASKS="3")
async def test_an_account_has_no_more_tasks_than_it_may_have_and_says_so(
    mine: PageClient, alice: ApiClient, bob: ApiClient
) -> None:
    key = {"Idempotency-Key": "made-before"}
    made = await alice.post("/api/tasks", {"title": "One"}, headers=key)
    await alice.add_task("Two")
    await mine.open("/tasks")
    page = await mine.send("Add tasks", titles="Three\nFour")
    assert page.status == 403
    assert "An account can have at most 3 tasks. Delete some first." in page.text
    assert "Three" in page.form("Send again").fields["titles"]
    assert await titles(alice) == ["Two", "One"]
    await mine.open("/tasks")
    page = await mine.submit("Add tasks", titles="Three")
    assert page.titles == ["Three", "Two", "One"]

    problem = assert_problem(await alice.post("/api/tasks", {"title": "Four"}), 403)
    assert problem["title"] == "Your account is full"
    assert problem["detail"] == "An account can have at most 3 tasks. Delete some first."
    await mine.open("/tasks")
    page = await mine.send("Add", title="Four")
    assert (page.status, page.form("Send again").fields["title"]) == (403, "Four")
    again = await alice.post("/api/tasks", {"title": "One"}, headers=key)
    assert (again.status, again.json) == (201, made.json)
    assert (await alice.put(f"/api/tasks/{made.json['id']}", {"title": "1"})).status == 200
    await bob.add_task("Of another account")
    await alice.delete(f"/api/tasks/{made.json['id']}")
    await alice.add_task("Four")


@with_settings(MAX_CHARACTERS="20")
async def test_the_texts_of_an_account_have_no_more_characters_than_they_may_have(
    mine: PageClient, alice: ApiClient, settings: Settings
) -> None:
    """Characters, not bytes: an accented letter is one."""
    task = await alice.add_task("\u00e9" * 10, description="x" * 5)
    path = f"/api/tasks/{task['id']}"
    for body in ({"title": "x" * 6}, {"title": "x", "description": "x" * 5}):
        problem = assert_problem(await alice.post("/api/tasks", body), 403)
        assert "at most 20 characters in all" in problem["detail"]
    for body in ({"title": "x" * 16}, {"description": "x" * 11}):
        assert_problem(await alice.put(path, body), 403)
    old = {"If-Match": '"2026-02-02T10:00:00Z"'}
    assert_problem(await alice.put(path, {"title": "x" * 16}, headers=old), 412)
    assert (await alice.put(path, {"title": "x" * 12, "description": "x" * 8})).status == 200
    assert (await alice.put(path, {"status": "completed"})).status == 200
    assert (await alice.put(path, {"title": "y" * 11, "description": "x" * 9})).status == 200
    assert (await alice.put(path, {"description": ""})).status == 200
    await alice.add_task("x" * 9)
    await mine.open("/tasks")
    assert (await mine.send("Add", title="x")).status == 403
    assert_counted(settings)


@with_settings(MAX_TASKS="5", MAX_CHARACTERS="60")
async def test_requests_at_once_pass_no_limit_of_tasks_or_characters(
    mine: PageClient, alice: ApiClient, settings: Settings
) -> None:
    session_of_form = mine.csrf_field
    task = await alice.add_task("x" * 10)
    path = f"/api/tasks/{task['id']}"
    several = session_of_form | {"titles": "One\nTwo"}
    responses: list[Any] = await asyncio.gather(
        *(alice.post("/api/tasks", {"title": "y" * 10}) for _ in range(10)),
        *(alice.put(path, {"title": "x" * length}) for length in (20, 10, 30, 15, 40)),
        *(mine.fetch("POST", "/tasks/several", several) for _ in range(5)),
    )
    assert {response.status for response in responses} <= {200, 201, 303, 403}
    [(number, characters)] = execute(
        settings.database_url, "SELECT task_count, task_characters FROM users"
    )
    assert number <= 5
    assert characters <= 60
    assert_counted(settings)


async def test_the_counts_of_an_account_are_right_whatever_happens_at_once(
    mine: PageClient, alice: ApiClient, bob: ApiClient, settings: Settings
) -> None:
    """Nothing of it waits for each other in a circle, which would be a 503."""
    mine_too = mine.csrf_field
    made = [await alice.add_task(f"Task {number}") for number in range(10)]
    await bob.add_task("Of Bob")
    changes = []
    for number, task in enumerate(made):
        path = f"/api/tasks/{task['id']}"
        changes += [
            alice.put(path, {"title": "x" * (number + 1), "description": "x" * number}),
            alice.put(path, {"status": "completed"}),
            alice.delete(path) if number % 2 else alice.put(path, {"title": "shorter"}),
            alice.post(
                "/api/tasks", {"title": "New"}, headers={"Idempotency-Key": f"{number % 3}"}
            ),
            alice.post("/api/tasks", {"title": "Another", "description": "x" * number}),
        ]
    until = {"until": "2999-01-01T00:00:00Z"}
    pages = [
        mine.fetch("POST", "/tasks/several", mine_too | {"titles": "One\nTwo"}),
        mine.fetch("POST", "/tasks/completed/delete", mine_too | until),
    ]
    responses: list[Any] = await asyncio.gather(*changes, *pages)
    assert {response.status for response in responses} <= {200, 201, 303, 404, 412}
    assert_counted(settings)


async def test_tasks_that_something_else_writes_are_counted_too(
    alice: ApiClient, bob: ApiClient, settings: Settings
) -> None:
    """A version before this one, several rows at once, or an operator in psql."""
    await alice.add_task("Of Alice", description="x" * 20)
    for change in (
        (
            "INSERT INTO tasks (id, user_id, title) SELECT gen_random_uuid(), id, email || n"
            " FROM users, generate_series(1, 3) n"
        ),
        "UPDATE tasks SET title = title || ' and more'",
        "UPDATE tasks SET description = title, title = 'short' WHERE title LIKE 'alice%'",
        (
            "UPDATE tasks SET title = 'moved', user_id ="
            " (SELECT id FROM users WHERE email LIKE 'bob%') WHERE title LIKE 'Of Alice%'"
        ),
        "DELETE FROM tasks WHERE title = 'short'",
    ):
        assert execute(settings.database_url, f"{change} RETURNING 1")
        assert_counted(settings)
    await bob.add_task("Of Bob")
    assert_counted(settings)


async def test_a_change_that_counts_nothing_neither_waits_for_another_nor_writes_the_account(
    app: Application, alice: ApiClient, settings: Settings
) -> None:
    task = await alice.add_task("Buy milk")
    path = f"/api/tasks/{task['id']}"
    assert await app.drain(LONG_ENOUGH)  # the first use of the day is written to the account
    row = "SELECT ctid FROM users"
    before = execute(settings.database_url, row)
    with (
        closing(psycopg2.connect(settings.database_url)) as connection,
        connection.cursor() as cursor,
    ):
        cursor.execute("SELECT FROM users FOR NO KEY UPDATE")  # as a change of a text holds it
        for status in ("completed", "pending"):
            assert (await alice.put(path, {"status": status})).status == 200
    assert (await alice.put(path, {"title": "Buy wine"})).status == 200
    assert execute(settings.database_url, row) == before
    assert_counted(settings)
