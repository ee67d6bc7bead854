"""Personal tokens at the API: what they may do, how long they last, which limit they use."""

from datetime import timedelta
from typing import Any

import pytest

from handlers.web.application import Application
from taskapp.auth.signing import SessionToken
from taskapp.config.settings import Settings
from taskapp.operations.session_activity import SessionActivity
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, assert_problem, statement_counts, with_settings
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, PageClient, cookie_name
from tests.support.server_process import LONG_ENOUGH

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
KEY = {"Idempotency-Key": "made-before"}


@pytest.fixture
def reader(mine: PageClient, api: ApiClient, io_loop: Any) -> ApiClient:
    """Return a client with a read-only token of Alice."""
    token = {"name": "Reader", "read_only": "yes", "expires": "never"}
    client: ApiClient = io_loop.run_sync(lambda: mine.make_token(**token))
    return client


@pytest.fixture
def writer(mine: PageClient, api: ApiClient, io_loop: Any) -> ApiClient:
    """Return a client with a token of Alice that may use the whole API."""
    client: ApiClient = io_loop.run_sync(lambda: mine.make_token(name="Writer"))
    return client


async def test_a_token_does_all_that_the_token_of_a_login_does(
    writer: ApiClient, alice: ApiClient
) -> None:
    task = await writer.add_task("By a script")
    path = f"/api/tasks/{task['id']}"
    assert (await alice.get(path)).json == task
    assert (await writer.put(path, {"status": "completed"})).json["status"] == "completed"
    assert [each["id"] for each in (await writer.get("/api/tasks")).json["tasks"]] == [task["id"]]
    assert (await writer.delete(path)).status == 200


async def test_a_token_that_only_reads_reads_everything(
    reader: ApiClient, task: dict[str, str]
) -> None:
    assert (await reader.get("/api/tasks")).json["tasks"] == [task]
    assert (await reader.get(f"/api/tasks/{task['id']}")).json == task
    assert_problem(await reader.get(f"/api/tasks/{NO_TASK}"), 404)


async def test_a_token_that_only_reads_changes_nothing_and_is_told_why(
    reader: ApiClient, alice: ApiClient, bob: ApiClient, settings: Settings
) -> None:
    made = await alice.post("/api/tasks", {"title": "Made"}, headers=KEY)
    theirs = await bob.add_task()
    before = execute(settings.database_url, "SELECT * FROM tasks ORDER BY id")
    for method, path, headers in [
        ("POST", "/api/tasks", {}),
        ("POST", "/api/tasks", KEY),
        *(
            (method, f"/api/tasks/{task}", headers)
            for method in ("PUT", "PATCH", "DELETE")
            for task in (made.json["id"], theirs["id"], NO_TASK)
            for headers in ({}, {"If-Match": '"2026-02-02T10:00:00Z"'})
        ),
    ]:
        problem = assert_problem(
            await reader.send(method, path, {"title": "Changed"}, headers=headers), 403
        )
        assert problem["title"] == "Read-only token"
        assert "This token is read-only" in problem["detail"]
    assert execute(settings.database_url, "SELECT * FROM tasks ORDER BY id") == before
    invalid = await reader.post("/api/tasks", {"title": ""})
    assert invalid.status == 400


async def test_a_request_with_a_token_is_one_statement_as_with_a_login(
    writer: ApiClient, reader: ApiClient, alice: ApiClient, services: Services, app: Application
) -> None:
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    for client in (alice, writer, reader):
        for method, where, body in [
            ("GET", "/api/tasks", None),
            ("GET", path, None),
            *([("POST", "/api/tasks", {"title": "x"})] if client is not reader else []),
            *([("PUT", path, {"title": "x"})] if client is not reader else []),
        ]:
            assert await app.drain(LONG_ENOUGH)
            before = statement_counts(services.metrics)
            assert (await client.send(method, where, body)).status in {200, 201}
            assert await app.drain(LONG_ENOUGH)
            after = statement_counts(services.metrics)
            run = {name for name in after if after[name] != before.get(name, 0)}
            assert len(run - {"sessions.touch"}) == 1


@pytest.mark.parametrize(
    ("expires", "lasts"), [("30", 30), ("90", 90), ("365", 365), ("never", None)]
)
async def test_a_token_ends_at_its_expiry_however_seldom_it_is_used(
    mine: PageClient,
    api: ApiClient,
    app: Application,
    settings: Settings,
    expires: str,
    lasts: int | None,
) -> None:
    client = await mine.make_token(expires=expires)
    of_token = "FROM sessions WHERE name IS NOT NULL"
    [(left,)] = execute(
        settings.database_url, f"SELECT nullif(expires_at, 'infinity') - created_at {of_token}"
    )
    assert left == (None if lasts is None else timedelta(days=lasts))
    for column in ("created_at", "last_used_at", "expires_at"):
        execute(
            settings.database_url,
            f"UPDATE sessions SET {column} = {column} - interval '29 days 23 hours'",  # noqa: S608  # our names
        )
    app.session_activity = SessionActivity(app.services)  # a minute later
    [(end,)] = execute(settings.database_url, f"SELECT expires_at::text {of_token}")
    assert (await client.get("/api/tasks")).status == 200
    assert await app.drain(LONG_ENOUGH)
    [(used, end_after)] = execute(
        settings.database_url,
        f"SELECT last_used_at > now() - interval '1 minute', expires_at::text {of_token}",
    )
    assert (used, end_after) == (True, end)
    execute(settings.database_url, "UPDATE sessions SET expires_at = expires_at - interval '1 day'")
    assert (await client.get("/api/tasks")).status == (401 if lasts == 30 else 200)


@with_settings(API_LIMIT="5/15minute")
async def test_the_requests_of_a_token_count_against_its_users_limit(
    mine: PageClient, api: ApiClient, alice: ApiClient
) -> None:
    clients = [await mine.make_token(name=name) for name in ("One", "Two")]
    for client in (*clients, alice, *clients):
        assert (await client.get("/api/tasks")).status == 200
    for client in (*clients, alice):
        assert_problem(await client.get("/api/tasks"), 429)


async def test_a_token_is_no_cookie_and_opens_no_page(
    mine: PageClient, writer: ApiClient, visitor: PageClient
) -> None:
    text = writer.headers["Authorization"].removeprefix("Bearer ")
    for value in (text, text.removeprefix("taskapp_")):
        mine.cookies[cookie_name("session")] = value
        assert (await mine.open("/account")).address == "/login?next=/account"
    response = await writer.get("/account")
    assert response.headers["Location"] == "/login?next=/account"


async def test_a_script_can_revoke_its_own_token_by_logging_out(
    reader: ApiClient, writer: ApiClient, alice: ApiClient
) -> None:
    for client in (reader, writer):
        assert (await client.post("/api/auth/logout")).status == 200
        assert_problem(await client.get("/api/tasks"), 401)
    assert (await alice.get("/api/tasks")).status == 200


async def test_the_database_holds_only_the_hash_of_a_token(
    writer: ApiClient, services: Services, settings: Settings
) -> None:
    text = writer.headers["Authorization"].removeprefix("Bearer ")
    session = services.signer.read_bearer_token(text)
    assert isinstance(session, SessionToken)
    [(stored, row)] = execute(
        settings.database_url,
        "SELECT secret_hash, sessions::text FROM sessions WHERE name = 'Writer'",
    )
    assert bytes(stored) == session.secret_hash
    assert text[8:28] not in row


async def test_a_token_of_a_deleted_user_is_over(writer: ApiClient, settings: Settings) -> None:
    execute(settings.database_url, "DELETE FROM users WHERE email = %s", ALICE)
    assert_problem(await writer.get("/api/tasks"), 401)
