"""The account page over real HTTP: sessions, the password, tokens, and deleting the account."""

import asyncio
import json
import shlex
from typing import Any

import pytest

from handlers.web.application import Application
from taskapp.config.settings import Settings
from taskapp.core.errors import TaskappError
from taskapp.operations.account_self_service import ChangedPassword, change_password
from taskapp.operations.personal_tokens import create_token
from taskapp.operations.session_activity import SessionActivity
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, assert_problem, running, with_settings
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, HOSTILE, PASSWORD, PageClient, cookie_name
from tests.support.server_process import LONG_ENOUGH

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
NEW_PASSWORD = "another horse, another battery"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


@pytest.fixture
def other(other: PageClient) -> PageClient:
    """Return another browser that calls itself Firefox."""
    other.headers = {"User-Agent": FIREFOX}
    return other


def rows(settings: Settings, columns: str = "*") -> list[tuple[Any, ...]]:
    query = f"SELECT {columns} FROM sessions JOIN users ON users.id = user_id ORDER BY sessions.id"  # noqa: S608  # our names
    return execute(settings.database_url, query)


async def is_logged_in(browser: PageClient) -> bool:
    return (await browser.open("/tasks")).address == "/tasks"


async def works(api: ApiClient) -> bool:
    return (await api.get("/api/tasks")).status == 200


# Sessions


async def test_every_page_of_a_user_who_is_logged_in_leads_to_the_account(
    mine: PageClient, task: dict[str, str]
) -> None:
    for address in ("/tasks", f"/tasks/{task['id']}/edit", "/account", "/nowhere"):
        assert (await mine.open(address)).link("Account") == "/account"
    await mine.submit("Log out")
    assert not mine.page.has_link("Account")


async def test_sessions_are_listed_with_device_place_and_last_use_and_this_one_is_marked(
    mine: PageClient, other: PageClient, settings: Settings
) -> None:
    """The token of a login at the API is a session as well: Alice's fixture has one."""
    await other.log_in(ALICE)
    execute(
        settings.database_url,
        "UPDATE sessions SET last_used_at = now() - interval '3 hours', address = '192.0.2.7'"
        " WHERE user_agent LIKE '%%Firefox%%'",
    )
    page = await mine.open("/account")
    assert f"Logged in as {ALICE}" in page.text
    begun = "192.0.2.7 · logged in just now · last used 3 hours ago Log out"
    assert f"Firefox on Linux {begun}" in page.text
    current = "127.0.0.1 · logged in just now · last used just now"
    assert f"Tornado (API client) current session {current}" in page.text
    assert page.text.count("current session") == 1
    assert page.has_link("Log out: Firefox on Linux, 192.0.2.7")
    times = [tag for tag in page.tags("time") if "title" in tag]
    assert len(times) == 6
    assert all(tag["datetime"].endswith("Z") and tag["title"].endswith("UTC") for tag in times)
    page = await other.open("/account")
    assert "Firefox on Linux current session" in page.text


@with_settings(TRUSTED_PROXIES="127.0.0.1,::1")
async def test_the_address_of_a_session_is_where_it_was_used_last(
    visitor: PageClient, app: Application, settings: Settings
) -> None:
    visitor.headers = {"X-Forwarded-For": "2001:db8:0:1::7"}
    await visitor.sign_up(ALICE)
    await visitor.log_in(ALICE)
    assert "2001:db8:0:1::/64" in (await visitor.open("/account")).text
    execute(
        settings.database_url, "UPDATE sessions SET last_used_at = now() - interval '2 minutes'"
    )
    app.session_activity = SessionActivity(app.services)  # a minute later
    visitor.headers = {"X-Forwarded-For": "198.51.100.7"}
    await visitor.open("/tasks")
    assert await app.drain(LONG_ENOUGH)
    assert "198.51.100.7" in (await visitor.open("/account")).text


@pytest.mark.parametrize("name", [*HOSTILE, "é" * 10, "x" * 5000])
async def test_a_hostile_user_agent_is_harmless(
    mine: PageClient, api: ApiClient, name: str
) -> None:
    headers = {"User-Agent": name}
    sent = {"email": ALICE, "password": PASSWORD}
    assert (await api.post("/api/auth/login", sent, headers=headers)).status == 200
    page = await mine.open("/account")
    assert (page.status, page.tags("svg"), len(page.tags("script"))) == (200, [], 1)
    assert page.text.count("last used") == 3


async def test_a_session_is_ended_at_once_and_only_that(
    mine: PageClient, other: PageClient, alice: ApiClient
) -> None:
    await other.log_in(ALICE)
    page = await mine.open("/account")
    page = await mine.open(page.link("Log out: Firefox on Linux, 127.0.0.1"))
    assert "Firefox on Linux · 127.0.0.1 · last used just now" in page.text
    page = await mine.submit("Log out session", password=PASSWORD)
    assert (page.address, page.flash_message) == ("/account", "Session logged out.")
    assert "Firefox on Linux 127.0.0.1" not in page.text
    assert not await is_logged_in(other)
    assert await works(alice)
    assert await is_logged_in(mine)


async def test_all_other_sessions_are_ended_at_once_and_tokens_stay(
    mine: PageClient, other: PageClient, alice: ApiClient, api: ApiClient
) -> None:
    await other.log_in(ALICE)
    script = await mine.make_token()
    page = await mine.open("/account")
    await mine.open(page.link("Log out everywhere else"))
    page = await mine.submit("Log out everywhere else", password=PASSWORD)
    assert page.flash_message == "2 sessions logged out."
    assert "Firefox on Linux 127.0.0.1" not in page.text
    assert [await is_logged_in(other), await works(alice)] == [False, False]
    assert [await is_logged_in(mine), await works(script)] == [True, True]


async def test_all_tokens_are_revoked_with_the_other_sessions_if_that_is_wanted(
    mine: PageClient, bobs: PageClient, alice: ApiClient, api: ApiClient
) -> None:
    script, of_bob = await mine.make_token(), await bobs.make_token()
    await mine.open("/account/sessions/others/end")
    page = await mine.send("Log out everywhere else", password="wrong", tokens="yes")
    assert page.status == 400
    assert await works(script)
    page = await mine.submit("Log out everywhere else", password=PASSWORD)  # the box stays ticked
    assert page.flash_message == "All other sessions logged out and all tokens revoked."
    assert [await works(alice), await works(script)] == [False, False]
    assert [await is_logged_in(mine), await works(of_bob)] == [True, True]
    assert not page.has_link("Log out everywhere else")
    script = await mine.make_token()  # without another session
    page = await mine.open("/account")
    await mine.open(page.link("Log out everywhere else"))
    page = await mine.send("Log out everywhere else", password=PASSWORD, tokens="all")
    assert "Must be one of: yes" in page.text
    await mine.submit("Log out everywhere else", password=PASSWORD, tokens="yes")
    assert not await works(script)


async def test_a_login_at_the_api_can_be_ended(mine: PageClient, alice: ApiClient) -> None:
    page = await mine.open("/account")
    await mine.open(page.link("Log out: Tornado (API client), 127.0.0.1"))
    await mine.submit("Log out session", password=PASSWORD)
    assert_problem(await alice.get("/api/tasks"), 401)


async def test_of_more_sessions_than_a_version_before_allowed_the_newest_are_listed(
    mine: PageClient, alice: ApiClient, settings: Settings
) -> None:
    execute(
        settings.database_url,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at, created_at)"
        " SELECT gen_random_uuid(), %s, sha256(convert_to(n::text, 'UTF8')),"
        " now() + interval '1 hour', now() - interval '1 hour' FROM generate_series(1, 1000) n",
        alice.user_id,
    )
    page = await mine.open("/account")
    assert "Only the newest 200 sessions are listed." in page.text
    assert page.text.count("last used") == 200
    assert "current session" in page.text
    await mine.open(page.link("Log out everywhere else"))
    page = await mine.submit("Log out everywhere else", password=PASSWORD)
    assert page.flash_message == "1,001 sessions logged out."


async def test_the_account_page_tells_the_login_before_this_one(
    visitor: PageClient, other: PageClient, settings: Settings
) -> None:
    await other.sign_up(ALICE)
    await other.log_in(ALICE)
    assert "Last login" not in (await other.open("/account")).text
    await other.submit("Log out")
    shifted = "UPDATE logins SET created_at = '2026-02-03T04:05:06Z'"
    execute(settings.database_url, f"{shifted}, address = '192.0.2.7'")
    await visitor.log_in(ALICE)
    page = await visitor.open("/account")
    assert "Last login: 3 February 2026, 04:05 UTC, Firefox on Linux, 192.0.2.7" in page.text
    await other.log_in(ALICE)
    page = await visitor.open("/account")
    assert "3 February" not in page.text
    assert "Firefox on Linux, 127.0.0.1" in page.text.partition("Sessions")[0]
    page = await other.open("/account")
    assert "Tornado (API client), 127.0.0.1" in page.text.partition("Sessions")[0]


@pytest.mark.parametrize(("password", "why"), [("wrong", "Incorrect password"), ("", "Required")])
async def test_no_session_and_no_token_is_ended_without_the_right_password(
    mine: PageClient, alice: ApiClient, password: str, why: str
) -> None:
    script = await mine.make_token()
    account = await mine.open("/account")
    for link, button in [
        ("Log out: Tornado (API client), 127.0.0.1", "Log out session"),
        ("Revoke: Backup script", "Revoke token"),
        ("Log out everywhere else", "Log out everywhere else"),
    ]:
        await mine.open(account.link(link))
        page = await mine.send(button, password=password)
        assert page.status == 400
        assert page.text.startswith("Error: ")
        assert why in page.error_beside(button, "password")
    assert [await works(alice), await works(script), await is_logged_in(mine)] == [True] * 3


# Sessions and tokens of other users


async def test_bob_ends_none_of_alices_sessions_and_tokens_and_learns_nothing(
    mine: PageClient, bobs: PageClient, api: ApiClient, settings: Settings
) -> None:
    await mine.make_token()
    of_alice = "sessions.id::text, secret_hash, name, email"
    before = [row for row in rows(settings, of_alice) if row[-1] == ALICE]
    assert len(before) == 3
    responses = set()
    for wanted in (*(row[0] for row in before), NO_TASK, "1", "%00", "x" * 3000):
        address = f"/account/sessions/{wanted}/end"
        for page in (
            await bobs.fetch("GET", address),
            await bobs.fetch("POST", address, bobs.csrf_field),
            await bobs.fetch("POST", address, bobs.csrf_field | {"password": PASSWORD}),
        ):
            assert page.status == 404
            assert "Session or token not found" in page.text
            responses.add(page.text.replace(page.headers["X-Request-ID"], ""))
    assert len(responses) == 1
    await bobs.open("/account/sessions/others/end")
    await bobs.submit("Log out everywhere else", password=PASSWORD)
    assert [row for row in rows(settings, of_alice) if row[-1] == ALICE] == before


@pytest.mark.parametrize(
    "path", ["sessions/{id}/end", "sessions/others/end", "tokens", "password", "delete"]
)
async def test_a_stranger_and_an_ended_session_change_nothing(
    mine: PageClient, settings: Settings, path: str
) -> None:
    session_id = rows(settings, "sessions.id::text")[0][0]
    address = f"/account/{path.replace('{id}', session_id)}"
    fields = mine.csrf_field | {
        "name": "Backup",
        "expires": "never",
        "password": PASSWORD,
        "current_password": PASSWORD,
        "new_password": NEW_PASSWORD,
    }
    cookie = mine.cookies.pop(cookie_name("session"))
    before = rows(settings)
    assert (await mine.fetch("POST", address, fields)).location == "/login"
    mine.cookies[cookie_name("session")] = cookie
    execute(settings.database_url, "UPDATE sessions SET expires_at = now() WHERE user_agent <> ''")
    ended = rows(settings)
    assert (await mine.fetch("POST", address, fields)).location == "/login"
    assert rows(settings) == ended
    assert len(ended) == len(before)


# The password


async def test_a_new_password_needs_the_old_one_and_keeps_this_session_with_a_new_secret(
    mine: PageClient, other: PageClient, alice: ApiClient, api: ApiClient
) -> None:
    await other.log_in(ALICE)
    script = await mine.make_token()
    old_cookie = mine.cookies[cookie_name("session")]
    page = await mine.open("/account")
    assert (
        "Changing your password logs you out everywhere else and revokes all API tokens."
        in page.text
    )
    page = await mine.submit(
        "Update password", current_password=PASSWORD, new_password=NEW_PASSWORD
    )
    assert (page.address, page.flash_message) == ("/account", "Password changed.")
    assert mine.cookies[cookie_name("session")] != old_cookie
    assert await is_logged_in(mine)
    assert [await works(alice), await works(script), await is_logged_in(other)] == [False] * 3
    other.cookies[cookie_name("session")] = old_cookie
    assert not await is_logged_in(other)
    assert (await other.log_in(ALICE)).status == 401
    assert (await other.log_in(ALICE, NEW_PASSWORD)).address == "/tasks"


@pytest.mark.parametrize(
    ("current", "new", "field", "message"),
    [
        ("not " + PASSWORD, NEW_PASSWORD, "current_password", "Incorrect password"),
        ("", NEW_PASSWORD, "current_password", "Required"),
        (PASSWORD, "short", "new_password", "Must be at least 8 characters"),
        (PASSWORD, "password1234", "new_password", "This password is too easy to guess."),
        (PASSWORD, ALICE, "new_password", "This password is too easy to guess."),
        (PASSWORD, PASSWORD, "new_password", "Must be different from your current password"),
    ],
)
async def test_a_refused_password_changes_nothing_and_says_why_beside_the_field(
    mine: PageClient, alice: ApiClient, current: str, new: str, field: str, message: str
) -> None:
    await mine.open("/account")
    page = await mine.send("Update password", current_password=current, new_password=new)
    assert page.status == 400
    assert page.text.startswith("Error: Account")
    assert message in page.error_beside("Update password", field)
    assert set(page.form("Update password").fields.values()) & {current, new} <= {""}
    assert await works(alice)
    assert await is_logged_in(mine)


@with_settings(LOGIN_LIMIT="5/15minute")
async def test_wrong_current_passwords_count_as_failed_logins(
    mine: PageClient, api: ApiClient
) -> None:
    await mine.open("/account")
    sent = {"current_password": "wrong", "new_password": NEW_PASSWORD}
    assert (await mine.send("Update password", **sent)).status == 400
    await mine.open("/account/delete")
    assert (await mine.send("Delete my account", password="wrong")).status == 400
    await mine.open("/account")
    assert (await mine.send("Create token", name="One", password="wrong")).status == 400
    others = "/account/sessions/others/end"
    await mine.open(others)
    assert (await mine.send("Log out everywhere else", password="wrong")).status == 400
    response = await api.post("/api/auth/login", {"email": ALICE, "password": "wrong"})
    assert response.status == 401
    for address, button, fields in [
        ("/account", "Update password", {**sent, "current_password": PASSWORD}),
        ("/account/delete", "Delete my account", {"password": PASSWORD}),
        (others, "Log out everywhere else", {"password": PASSWORD}),
        ("/account", "Create token", {"name": "One", "password": PASSWORD}),
    ]:
        await mine.open(address)
        page = await mine.send(button, **fields)
        assert page.status == 429
        assert 0 < int(page.headers["Retry-After"]) <= 900
        told = "Too many wrong passwords have been sent from your network. Try again in 15 minutes."
        assert told in page.text


async def test_whatever_is_opened_while_the_password_changes_is_over_with_it(
    services: Services, settings: Settings, mine: PageClient, api: ApiClient
) -> None:
    """Logins with the old password and tokens of other sessions race with the change of it."""
    owners = []
    for _ in range(4):
        browser = PageClient(mine.http_client, mine.base_url)
        await browser.log_in(ALICE)
        owner = services.signer.read_session_cookie(browser.cookies[cookie_name("session")])
        assert owner
        owners.append(owner)
    new_cookie = services.signer.new_session_cookie
    sent = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    login = {"email": ALICE, "password": PASSWORD}

    async def make_tokens(owner: Any, number: int) -> None:
        for place in range(10):
            token = {"name": f"{number} {place}", "expires": "never", "password": PASSWORD}
            await create_token(services, owner, token, "127.0.0.1")

    async def log_in_again() -> None:
        for _ in range(10):
            await api.post("/api/auth/login", login)

    outcomes = await asyncio.gather(
        change_password(services, owners[0], sent, "127.0.0.1", new_cookie),
        *(make_tokens(owner, number) for number, owner in enumerate(owners[1:])),
        log_in_again(),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], ChangedPassword), outcomes
    assert all(outcome is None or isinstance(outcome, TaskappError) for outcome in outcomes[1:])
    kept = services.signer.read_session_cookie(outcomes[0].token)
    assert kept
    [(secret_hash,)] = rows(settings, "secret_hash")
    assert bytes(secret_hash) == kept.secret_hash


# Deleting the account


async def test_deleting_the_account_says_what_is_lost_and_leaves_nothing_of_it(
    mine: PageClient, alice: ApiClient, bob: ApiClient, settings: Settings, api: ApiClient
) -> None:
    await alice.add_task()
    kept = await bob.add_task()
    script = await mine.make_token()
    await mine.open("/account")
    page = await mine.open(mine.page.link("Delete my account"))
    assert "1 task" in page.text
    page = await mine.submit("Delete my account", password=PASSWORD)
    assert page.address == "/login"
    assert page.flash_message == "Your account and all its data have been deleted."
    assert cookie_name("session") not in mine.cookies
    assert [await works(alice), await works(script), await works(bob)] == [False, False, True]
    assert (await mine.log_in(ALICE)).status == 401
    for table in ("tasks", "sessions", "login_addresses"):
        owners = execute(settings.database_url, f"SELECT DISTINCT user_id::text FROM {table}")  # noqa: S608  # our names
        assert owners == [(bob.user_id,)]
    assert (await bob.get(f"/api/tasks/{kept['id']}")).status == 200
    await mine.sign_up(ALICE)
    assert (await mine.log_in(ALICE)).titles == []


@pytest.mark.parametrize(("password", "why"), [("wrong", "Incorrect password"), ("", "Required")])
async def test_the_account_stays_without_the_right_password(
    mine: PageClient, alice: ApiClient, password: str, why: str
) -> None:
    await mine.open("/account/delete")
    page = await mine.send("Delete my account", password=password)
    assert page.status == 400
    assert why in page.error_beside("Delete my account", "password")
    assert await works(alice)


# Tokens


async def test_a_token_is_shown_once_and_nowhere_else(
    mine: PageClient, api: ApiClient, settings: Settings
) -> None:
    script = await mine.make_token()
    shown, text = mine.page, script.headers["Authorization"].removeprefix("Bearer ")
    assert shown.headers["Cache-Control"] == "no-store"
    assert text not in shown.address + str(mine.cookies) + str(shown.headers)
    assert shown.html.count(text) == 2  # alone, and in a command
    page = await mine.open(shown.link("Done"))
    assert "Backup script" in page.text
    assert text[:20] not in page.html
    assert text[8:28] not in str(rows(settings, "sessions::text, users::text"))


async def test_a_token_is_listed_with_what_it_may_until_when_and_its_last_use(
    mine: PageClient, api: ApiClient, app: Application, settings: Settings
) -> None:
    reader = await mine.make_token(name="Reader", read_only="yes", expires="never")
    await mine.make_token(name="Writer", expires="30")
    page = await mine.open("/account")
    assert "Reader Read-only · never expires · created just now · never used Revoke" in page.text
    assert "Writer Read and write · expires" in page.text
    execute(settings.database_url, "UPDATE sessions SET last_used_at = now() - interval '2 days'")
    assert (
        "Reader Read-only · never expires · created just now · last used 2 days ago"
        in (await mine.open("/account")).text
    )
    assert await works(reader)
    assert await app.drain(LONG_ENOUGH)
    used = "never expires · created just now · last used just now · 127.0.0.1 Revoke"
    assert used in (await mine.open("/account")).text


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"name": ""}, "name", "Name is required"),
        ({"name": "\u200b "}, "name", "Name is required"),
        ({"name": "x" * 101}, "name", "Must be at most 100 characters (currently 101)"),
        ({"name": "\0"}, "name", "unsupported characters"),
        ({"name": "Taken"}, "name", "You already have a token with this name"),
        ({"name": "Ta\u200bken\u3164"}, "name", "You already have a token with this name"),
        ({"name": "\u202e\u3164"}, "name", "Name is required"),
        ({"expires": "31"}, "expires", "Must be one of: 30, 90, 365, never"),
        ({"read_only": "no"}, "read_only", "Must be one of: yes"),
        ({"password": "wrong"}, "password", "Incorrect password"),
        ({"password": ""}, "password", "Required"),
    ],
)
async def test_a_refused_token_says_why_beside_the_field_and_keeps_what_was_typed(
    mine: PageClient,
    api: ApiClient,
    settings: Settings,
    fields: dict[str, str],
    field: str,
    message: str,
) -> None:
    await mine.make_token(name="Taken")
    await mine.open("/account")
    page = await mine.send("Create token", **{"name": "Kept", "password": PASSWORD, **fields})
    assert page.status == 400
    assert page.text.startswith("Error: Account")
    assert any(message in text for name, text in page.ids.items() if name.endswith("-error"))
    if field != "name":
        assert page.form("Create token").fields["name"] == "Kept"
    assert page.form("Create token").fields["password"] == ""
    names = execute(settings.database_url, "SELECT name FROM sessions WHERE name IS NOT NULL")
    assert names == [("Taken",)]


async def test_the_number_of_tokens_is_limited(
    mine: PageClient, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.operations.personal_tokens.MAX_TOKENS", 2)
    for name in ("One", "Two"):
        await mine.make_token(name=name)
    await mine.open("/account")
    page = await mine.send("Create token", name="Three", password=PASSWORD)
    assert (
        page.error_beside("Create token", "name")
        == "You can have at most 2 tokens. Revoke one first."
    )


async def test_the_name_of_an_expired_token_is_free_again(
    mine: PageClient, api: ApiClient, settings: Settings
) -> None:
    await mine.make_token()
    execute(settings.database_url, "UPDATE sessions SET expires_at = now() WHERE name IS NOT NULL")
    assert await works(await mine.make_token())


async def test_a_revoked_token_is_refused_at_once_on_every_process(
    mine: PageClient, api: ApiClient, settings: Settings
) -> None:
    script = await mine.make_token()
    async with running(settings) as elsewhere:
        there = elsewhere.as_user(script)
        assert [await works(script), await works(there)] == [True, True]
        page = await mine.open("/account")
        await mine.open(page.link("Revoke: Backup script"))
        page = await mine.submit("Revoke token", password=PASSWORD)
        assert page.flash_message == "Token revoked."
        for client in (script, there):
            assert_problem(await client.get("/api/tasks"), 401)
            assert_problem(await client.post("/api/tasks", {"title": "x"}), 401)
    assert "Backup script" not in (await mine.open("/account")).text


async def test_a_new_token_comes_with_a_command_that_works(
    mine: PageClient, alice: ApiClient, base_url: str
) -> None:
    task = await alice.add_task("Buy milk")
    script = await mine.make_token(name="curl", read_only="yes")
    token = script.headers["Authorization"].removeprefix("Bearer ")
    page = mine.page
    assert page.ids["token"] == token
    copied = [tag["data-copy"] for tag in page.tags("button") if "data-copy" in tag]
    assert [page.ids[each] for each in copied] == [token, page.ids["command"]]
    program, *arguments = shlex.split(page.ids["command"])
    assert (program, arguments[-1]) == ("curl", f"{base_url}/api/tasks")
    process = await asyncio.create_subprocess_exec(
        *(program, "--silent", *arguments), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert [each["id"] for each in json.loads(output)["tasks"]] == [task["id"]]


@with_settings(PUBLIC_URL="http://tasks.example:8080")
async def test_the_command_names_the_address_of_the_site(mine: PageClient) -> None:
    await mine.make_token()
    assert mine.page.ids["command"].endswith(" http://tasks.example:8080/api/tasks")
