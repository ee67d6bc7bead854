"""Accounts, sessions and limits of the API (docs/design/api.md)."""

import asyncio
import os
import re
import unicodedata
from collections import Counter
from datetime import UTC, datetime, timedelta
from statistics import median
from time import monotonic, perf_counter, process_time
from typing import Any
from uuid import UUID

import pytest

from handlers.web.application import Application
from taskapp.config.settings import Settings
from taskapp.core.errors import Unavailable
from taskapp.operations.accounts import list_accounts, purge_sessions, remove_user, set_password
from taskapp.services import Services
from tests.conftest import PASSWORD
from tests.support.api_tools import (
    assert_problem,
    at_once,
    running,
    statement_counts,
    with_settings,
    wrong_fields,
)
from tests.support.clients import ApiClient, Response
from tests.support.database_fixtures import execute
from tests.support.server_process import LONG_ENOUGH, processor_seconds, processor_share

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

CAROL = {"email": "carol@example.com", "password": PASSWORD}
WRONG = {"email": "carol@example.com", "password": "not " + PASSWORD}
UNKNOWN = {"email": "nobody@example.com", "password": PASSWORD}
REGISTER = "/api/auth/register"
LOGIN = "/api/auth/login"
LOGOUT = "/api/auth/logout"
OLD_KEY = "the-old-key-0123456789-abcdefghijklmnop"
NEW_KEY = "the-new-key-0123456789-abcdefghijklmnop"
RATE_LIMIT = re.compile(r'"([a-z]+)";r=([0-9]+);t=([0-9]+)')


def count_users(settings: Settings) -> int:
    return int(execute(settings.database_url, "SELECT count(*) FROM users")[0][0])


# Registering


async def test_a_new_account_is_answered_with_201_and_its_id(api: ApiClient) -> None:
    response = await api.post(REGISTER, CAROL)
    assert response.status == 201
    assert set(response.json) == {"message", "userId"}
    assert response.json["message"] == "User registered successfully"
    assert UUID(response.json["userId"]).version == 7


@pytest.mark.parametrize("email", ["carol@example.com", "CAROL@example.com", " Carol@EXAMPLE.com "])
async def test_an_address_has_one_account_whatever_its_case(
    api: ApiClient, settings: Settings, email: str
) -> None:
    await api.post(REGISTER, CAROL)
    response = await api.post(REGISTER, {"email": email, "password": PASSWORD})
    problem = assert_problem(response, 409)
    assert [error["field"] for error in problem["errors"]] == ["email"]
    assert count_users(settings) == 1


# Addresses that case-folding or a compatibility form makes the same, or that look the same.
ALIKE = [
    ("anna@stra\u00dfe.example", "anna@strasse.example"),
    ("stra\u00dfe@example.com", "strasse@example.com", "stra\u017fse@example.com"),
    ("I\u0131@example.com", "ii\u0307@example.com", "ii@example.com"),
    ("odo\u03c3@example.com", "odo\u03c2@example.com"),
    ("\ufb01n@example.com", "fin@example.com"),
    ("\u0430nna@example.com", "anna@example.com"),  # a Cyrillic letter
]


@pytest.mark.parametrize("addresses", ALIKE)
async def test_addresses_that_differ_have_accounts_of_their_own(
    api: ApiClient, settings: Settings, addresses: tuple[str, ...]
) -> None:
    for number, email in enumerate(addresses):
        sent = {"email": email, "password": f"{PASSWORD}{number}"}
        registered = await api.post(REGISTER, sent)
        assert registered.status == 201
        for typed in (email, unicodedata.normalize("NFD", email)):
            assert_problem(await api.post(REGISTER, {**sent, "email": typed}), 409)
            login = await api.post(LOGIN, {**sent, "email": typed})
            assert login.json["user"] == {"id": registered.json["userId"], "email": email}
    assert count_users(settings) == len(addresses)


@pytest.mark.parametrize("typed", ["Carol@Example.COM", "\u00c9MILE@Stra\u00dfe.example"])
async def test_an_address_is_shown_as_it_was_typed_at_the_registration(
    api: ApiClient, services: Services, typed: str
) -> None:
    await api.post(REGISTER, {"email": typed, "password": PASSWORD})
    for other in (typed, typed.lower(), f"  {typed} "):
        login = await api.post(LOGIN, {"email": other, "password": PASSWORD})
        assert login.json["user"]["email"] == typed
    assert [user.email for user in await list_accounts(services)] == [typed]


async def test_an_account_of_an_earlier_version_keeps_all_addresses_that_were_the_same(
    api: ApiClient, settings: Settings, services: Services
) -> None:
    """Anna registered as anna@stra\u00dfe.example, and was stored as anna@strasse.example."""
    typed, stored = "anna@stra\u00dfe.example", "anna@strasse.example"
    await api.post(REGISTER, {"email": stored, "password": PASSWORD})
    execute(settings.database_url, "UPDATE users SET email_as_typed = NULL")
    for email in (typed, stored, typed.upper(), "Anna@STRA\u1e9eE.example"):
        login = await api.post(LOGIN, {"email": email, "password": PASSWORD})
        assert login.json["user"]["email"] == stored
        assert_problem(await api.post(REGISTER, {"email": email, "password": PASSWORD}), 409)
    await set_password(services, typed, "Another pass 456")
    login = await api.post(LOGIN, {"email": typed, "password": "Another pass 456"})
    assert login.status == 200
    await remove_user(services, typed)
    for email in (typed, stored):
        assert (await api.post(REGISTER, {"email": email, "password": PASSWORD})).status == 201


async def test_of_twenty_who_register_one_address_at_once_exactly_one_succeeds(
    settings: Settings,
) -> None:
    cases = [
        "".join(
            letter.upper() if number >> place & 1 else letter
            for place, letter in enumerate("carol@example.com")
        )
        for number in range(20)
    ]
    async with running(settings) as one, running(settings) as other:
        responses = await at_once(
            server.client.post(REGISTER, {"email": email, "password": PASSWORD})
            for email, server in zip(cases, [one, other] * 10, strict=True)
        )
    assert sorted(response.status for response in responses) == [201] + [409] * 19
    assert execute(settings.database_url, "SELECT email FROM users") == [("carol@example.com",)]


@pytest.mark.parametrize(
    "email",
    [
        "",
        " ",
        "carol",
        "@example.com",
        "carol@",
        "carol@example",
        "a b@example.com",
        "carol@exam ple.com",
        "carol@example.com, bob@example.com",
        "Carol <carol@example.com>",
        "carol@example..com",
        "carol@-example.com",
        "carol@example.com\0",
        "carol\ud800@example.com",
        "carol@" + "x" * 250 + ".com",
        "xn--@xn--.com",
        7,
        None,
        ["carol@example.com"],
    ],
)
async def test_what_is_no_email_address_is_refused(
    api: ApiClient, settings: Settings, email: object
) -> None:
    response = await api.post(REGISTER, {"email": email, "password": PASSWORD})
    assert wrong_fields(response) == {"email"}
    assert count_users(settings) == 0


@pytest.mark.parametrize(
    "password",
    [
        "",
        "Sh0rt!x",
        "aaaaaaaaaaaa",
        "password",
        "password123",
        "12345678",
        "carol@example.com",
        "CAROL@EXAMPLE.COM",
        "x7#Kq" * 52,  # 260 characters
        "SecurePass\x00123!",
        "SecurePass123!\udfff",
        12345678,
        None,
        True,
    ],
)
async def test_a_password_that_is_weak_or_impossible_is_refused(
    api: ApiClient, settings: Settings, password: object
) -> None:
    response = await api.post(REGISTER, {"email": "carol@example.com", "password": password})
    assert wrong_fields(response) == {"password"}
    assert count_users(settings) == 0


@pytest.mark.parametrize(
    "password",
    [
        PASSWORD,
        "  correct horse\tbattery ",
        "пароль-длинный-и-свой",
        "😀🐝🌲🚲🧊🪁🎻🍉",
        ("b4#xK9!q" * 32)[:256],
        "e\u0301" * 4 + "zqvw",
    ],
)
async def test_a_password_is_taken_exactly_as_typed(api: ApiClient, password: str) -> None:
    user = await api.sign_up("carol@example.com", password)
    assert (await user.get("/api/tasks")).status == 200
    for other in [password[:-1], password + " ", password.swapcase() + ".", password.strip() + "?"]:
        response = await api.post(LOGIN, {"email": "carol@example.com", "password": other})
        assert_problem(response, 401)


async def test_long_passwords_that_differ_at_the_end_only_are_different(api: ApiClient) -> None:
    password = "correct horse battery staple " * 8
    await api.sign_up("carol@example.com", password + "a")
    response = await api.post(LOGIN, {"email": "carol@example.com", "password": password + "b"})
    assert_problem(response, 401)


@pytest.mark.parametrize("path", [REGISTER, LOGIN])
async def test_missing_and_unknown_fields_are_named(api: ApiClient, path: str) -> None:
    assert wrong_fields(await api.post(path, {})) == {"email", "password"}
    assert wrong_fields(await api.post(path, {"email": "carol@example.com"})) == {"password"}
    assert wrong_fields(await api.post(path, {"password": PASSWORD})) == {"email"}
    assert wrong_fields(await api.post(path, {**CAROL, "name": "Carol"})) == {"name"}


@with_settings(REGISTRATION="closed")
async def test_closed_registration_is_forbidden(api: ApiClient, settings: Settings) -> None:
    problem = assert_problem(await api.post(REGISTER, CAROL), 403)
    assert "closed" in problem["title"]
    assert count_users(settings) == 0


# Logging in


async def test_a_login_gives_a_token_and_the_user(api: ApiClient) -> None:
    user_id = (await api.post(REGISTER, CAROL)).json["userId"]
    response = await api.post(LOGIN, CAROL)
    assert response.status == 200
    assert set(response.json) == {"token", "user"}
    assert response.json["user"] == {"id": user_id, "email": "carol@example.com"}
    assert "Set-Cookie" not in response.headers
    headers = {"Authorization": f"Bearer {response.json['token']}"}
    assert (await api.get("/api/tasks", headers=headers)).status == 200


@pytest.mark.parametrize("email", ["CAROL@example.com", " carol@Example.COM\n"])
async def test_a_login_takes_the_address_in_any_case(api: ApiClient, email: str) -> None:
    await api.post(REGISTER, CAROL)
    user = await api.log_in(email, PASSWORD)
    assert user.user_id


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer "])
async def test_the_scheme_of_a_token_has_no_case(alice: ApiClient, scheme: str) -> None:
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    response = await alice.get("/api/tasks", headers={"Authorization": f"{scheme} {token}"})
    assert response.status == 200


async def test_every_login_is_a_session_of_its_own(api: ApiClient, alice: ApiClient) -> None:
    second = await api.log_in(alice.email, PASSWORD)
    assert second.headers != alice.headers
    await alice.post(LOGOUT)
    assert (await second.get("/api/tasks")).status == 200


def shown(response: Response) -> tuple[Any, Any]:
    """Return a response without what differs from request to request."""
    headers = {
        name: value
        for name, value in response.headers.get_all()
        if name not in {"Date", "X-Request-Id", "X-Consumer"}
    }
    return {**response.json, "requestId": ""}, headers


async def test_an_unknown_address_and_a_wrong_password_look_the_same(api: ApiClient) -> None:
    await api.post(REGISTER, CAROL)
    wrong = await api.post(LOGIN, WRONG)
    unknown = await api.post(LOGIN, UNKNOWN)
    assert_problem(wrong, 401)
    assert shown(wrong) == shown(unknown)


@with_settings(BCRYPT_ROUNDS="8")
async def test_an_unknown_address_and_a_wrong_password_take_the_same_time(
    api: ApiClient, services: Services
) -> None:
    await api.post(REGISTER, CAROL)

    async def time(sent: dict[str, str]) -> tuple[float, Counter[str]]:
        before = Counter(statement_counts(services.metrics))
        started = process_time()  # of this process alone, whatever else the machine has to do
        assert (await api.post(LOGIN, sent)).status == 401
        took = process_time() - started
        return took, Counter(statement_counts(services.metrics)) - before

    pairs = [(await time(WRONG), await time(UNKNOWN)) for _ in range(15)]
    for (_, wrong_statements), (_, unknown_statements) in pairs:
        assert wrong_statements == unknown_statements
    wrong, unknown = (median(took for took, _ in column) for column in zip(*pairs, strict=True))
    assert 0.6 < wrong / unknown < 1.6


@with_settings(BCRYPT_ROUNDS="12")
async def test_other_requests_do_not_wait_while_passwords_are_hashed(api: ApiClient) -> None:
    await api.post(REGISTER, CAROL)
    logins = asyncio.gather(*(api.post(LOGIN, CAROL) for _ in range(4)))
    times = []
    before = processor_seconds(os.getpid())
    while not logins.done():
        started = perf_counter()
        assert (await api.get("/api/health")).status == 200
        times.append(perf_counter() - started)
    assert [response.status for response in await logins] == [200] * 4
    assert len(times) > 10
    assert median(times) * processor_share(os.getpid(), before) < 0.1


@pytest.mark.usefixtures("alice")
async def test_a_password_does_not_expire(api: ApiClient, settings: Settings) -> None:
    made = "UPDATE users SET created_at = now() - interval '10 years', updated_at = created_at"
    execute(settings.database_url, made)
    user = await api.log_in("alice@example.com", PASSWORD)
    assert (await user.get("/api/tasks")).status == 200


async def test_a_hash_of_another_cost_is_made_anew_at_the_next_login(
    settings: Settings, api: ApiClient
) -> None:
    await api.post(REGISTER, CAROL)
    async with running(settings, TASKAPP_BCRYPT_ROUNDS="5") as dearer:
        user = await dearer.client.log_in("carol@example.com", PASSWORD)
        assert (await user.get("/api/tasks")).status == 200
    ((stored,),) = execute(settings.database_url, "SELECT password_hash FROM users")
    assert stored.startswith("$2b$05$")
    assert await api.log_in("carol@example.com", PASSWORD)


async def test_too_many_logins_at_once_are_asked_to_come_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.auth.passwords.PLACES", 8)
    changes = {"TASKAPP_BCRYPT_ROUNDS": "8", "TASKAPP_TRUSTED_PROXIES": "127.0.0.1"}
    async with running(settings, **changes) as server:
        one = await at_once(server.client.post(LOGIN, UNKNOWN) for _ in range(50))
        accounts = [{**UNKNOWN, "email": f"user{number}@example.com"} for number in range(50)]
        each = await at_once(
            server.client.post(LOGIN, sent, headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number, sent in enumerate(accounts)
        )
        shared = await at_once(
            server.client.post(LOGIN, UNKNOWN, headers={"X-Forwarded-For": f"192.0.2.{number}"})
            for number in range(50)
        )
    assert {response.status for response in one} == {401, 429}  # the share of an address
    assert {response.status for response in shared} == {401, 429}  # the share of an account
    assert {response.status for response in each} == {401, 503}
    for response in one + shared + each:
        if response.status in {429, 503}:
            assert_problem(response, response.status)
            assert int(response.headers["Retry-After"]) >= 1


# Limits


@with_settings(LOGIN_LIMIT="5/15minute")
async def test_after_five_failures_an_address_is_refused_with_the_right_password_too(
    api: ApiClient,
) -> None:
    await api.post(REGISTER, CAROL)
    for sent in [WRONG, UNKNOWN, WRONG, UNKNOWN, WRONG]:
        assert_problem(await api.post(LOGIN, sent), 401)
    for sent in [WRONG, UNKNOWN, CAROL]:
        response = await api.post(LOGIN, sent)
        assert_problem(response, 429)
        assert 0 < int(response.headers["Retry-After"]) <= 900
        match = RATE_LIMIT.fullmatch(response.headers["RateLimit"])
        assert match
        assert match.groups()[:2] == ("login", "0")
        assert response.headers["RateLimit-Policy"] == '"login";q=5;w=900'


@with_settings(LOGIN_LIMIT="5/15minute")
async def test_logins_that_succeed_are_not_counted_as_failures(api: ApiClient) -> None:
    await api.post(REGISTER, CAROL)
    for _ in range(7):
        assert (await api.post(LOGIN, CAROL)).status == 200
    for _ in range(4):
        await api.post(LOGIN, WRONG)
    assert (await api.post(LOGIN, CAROL)).status == 200


@with_settings(SUCCESSFUL_LOGIN_LIMIT="3/hour")
async def test_an_account_has_so_many_logins_that_succeed(api: ApiClient, bob: ApiClient) -> None:
    await api.post(REGISTER, CAROL)
    responses = await at_once(api.post(LOGIN, CAROL) for _ in range(6))
    assert sorted(response.status for response in responses) == [200] * 3 + [429] * 3
    assert {
        response.headers["RateLimit-Policy"] for response in responses if response.status == 429
    } == {'"session";q=3;w=3600'}
    assert (await api.post(LOGIN, UNKNOWN)).status == 401
    assert await api.log_in(bob.email, PASSWORD)


async def test_twenty_tries_at_once_are_five_failures(settings: Settings) -> None:
    async with running(settings, TASKAPP_LOGIN_LIMIT="5/15minute") as server:
        await server.client.post(REGISTER, CAROL)
        responses = await at_once(server.client.post(LOGIN, WRONG) for _ in range(20))
    assert sorted(response.status for response in responses) == [401] * 5 + [429] * 15


@with_settings(LOGIN_LIMIT="5/15minute", TRUSTED_PROXIES="127.0.0.1,::1")
async def test_one_address_does_not_use_up_the_tries_of_another(api: ApiClient) -> None:
    await api.post(REGISTER, CAROL)

    async def log_in(address: str, sent: dict[str, str]) -> int:
        headers = {"X-Forwarded-For": address}
        return (await api.post(LOGIN, sent, headers=headers)).status

    assert [await log_in("192.0.2.1", WRONG) for _ in range(6)] == [401] * 5 + [429]
    assert await log_in("192.0.2.2", CAROL) == 200
    # One subscriber has a whole /64, and one site a whole /48.
    assert [await log_in(f"2001:db8::{number}", WRONG) for number in range(6)] == [401] * 5 + [429]
    assert await log_in("2001:db8:0:1::1", CAROL) == 200
    site = [await log_in(f"2001:db8:1:{number:x}::1", WRONG) for number in range(21)]
    assert site == [401] * 20 + [429]
    assert await log_in("2001:db8:2::1", CAROL) == 200


@with_settings(LOGIN_LIMIT="5/15minute")
async def test_an_address_cannot_name_itself_another(api: ApiClient) -> None:
    responses = [
        await api.post(
            LOGIN,
            UNKNOWN,
            headers={"X-Forwarded-For": f"192.0.2.{number}", "X-Real-Ip": f"192.0.2.{number}"},
        )
        for number in range(6)
    ]
    assert [response.status for response in responses] == [401] * 5 + [429]


@with_settings(REGISTER_LIMIT="3/hour")
async def test_an_address_may_register_so_many_accounts_in_an_hour(
    api: ApiClient, settings: Settings
) -> None:
    responses = [
        await api.post(REGISTER, {"email": f"user{number}@example.com", "password": PASSWORD})
        for number in range(4)
    ]
    assert [response.status for response in responses] == [201, 201, 201, 429]
    assert_problem(responses[-1], 429)
    assert 0 < int(responses[-1].headers["Retry-After"]) <= 3600
    assert count_users(settings) == 3


@with_settings(API_LIMIT="100/15minute")
async def test_a_user_may_send_100_requests_in_15_minutes(
    alice: ApiClient, bob: ApiClient, app: Application
) -> None:
    for number in range(100):
        response = await alice.get("/api/tasks" if number % 2 else "/api/tasks/1")
        assert response.status in {200, 404}
        assert response.headers["RateLimit-Policy"] == '"api";q=100;w=900'
        match = RATE_LIMIT.fullmatch(response.headers["RateLimit"])
        assert match
        assert match.groups()[:2] == ("api", str(99 - number))
        assert 0 < int(match[3]) <= 900
    second = await ApiClient(alice.http_client, alice.base_url).log_in(alice.email, PASSWORD)
    for client in [alice, second]:
        response = await client.get("/api/tasks")
        assert_problem(response, 429)
        assert 0 < int(response.headers["Retry-After"]) <= 900
        match = RATE_LIMIT.fullmatch(response.headers["RateLimit"])
        assert match
        assert match.groups()[:2] == ("api", "0")
    assert_problem(await alice.post("/api/tasks", {"title": "x"}), 429)
    assert (await bob.get("/api/tasks")).json["tasks"] == []
    assert await app.drain(LONG_ENOUGH)


async def test_answers_without_a_user_have_no_rate_limit(api: ApiClient) -> None:
    assert "RateLimit" not in (await api.get("/api/health/live")).headers


# Sessions


async def test_logging_out_ends_the_session_at_once_on_every_process(
    settings: Settings, api: ApiClient, alice: ApiClient
) -> None:
    second = await api.log_in(alice.email, PASSWORD)
    async with running(settings) as other:
        there = other.as_user(alice)
        assert (await there.get("/api/tasks")).status == 200
        response = await alice.post(LOGOUT)
        assert (response.status, response.json) == (200, {"message": "Logged out successfully"})
        for client in [alice, there]:
            assert_problem(await client.get("/api/tasks"), 401)
            assert_problem(await client.post("/api/tasks", {"title": "x"}), 401)
            assert_problem(await client.post(LOGOUT), 401)
    assert (await second.get("/api/tasks")).json["tasks"] == []


async def test_a_session_works_on_every_process(settings: Settings, alice: ApiClient) -> None:
    task = await alice.add_task()
    async with running(settings) as other:
        assert (await other.as_user(alice).get(f"/api/tasks/{task['id']}")).json == task


async def test_an_ended_session_changes_nothing(settings: Settings, alice: ApiClient) -> None:
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    execute(settings.database_url, "UPDATE sessions SET expires_at = now()")
    for method, where in [
        ("GET", "/api/tasks"),
        ("GET", path),
        ("POST", "/api/tasks"),
        ("PUT", path),
        ("PATCH", path),
        ("DELETE", path),
        ("POST", LOGOUT),
    ]:
        assert_problem(await alice.send(method, where, {"title": "Changed"}), 401)
    headers = {"Idempotency-Key": "abc"}
    assert_problem(await alice.post("/api/tasks", {"title": "x"}, headers=headers), 401)
    rows = execute(settings.database_url, "SELECT title FROM tasks")
    assert rows == [("Buy milk",)]


def move_session(settings: Settings, **ago: timedelta) -> None:
    """Set timestamps of the only session to so long before now."""
    now = datetime.now(UTC)
    for column, time in ago.items():
        execute(settings.database_url, f"UPDATE sessions SET {column} = %s", now - time)  # noqa: S608  # our names


def session_end(settings: Settings) -> datetime:
    ((end,),) = execute(settings.database_url, "SELECT expires_at FROM sessions")
    assert isinstance(end, datetime)
    return end


def assert_ends_in(settings: Settings, expected: timedelta) -> None:
    left = session_end(settings) - datetime.now(UTC)
    assert abs(left - expected) < timedelta(seconds=30)


async def test_a_session_ends_24_hours_after_its_last_use(
    settings: Settings, alice: ApiClient
) -> None:
    assert_ends_in(settings, timedelta(hours=24))
    move_session(settings, expires_at=timedelta(minutes=-1))
    assert (await alice.get("/api/tasks")).status == 200
    move_session(settings, expires_at=timedelta(seconds=1))
    assert_problem(await alice.get("/api/tasks"), 401)


@with_settings(SESSION_IDLE="45m")
async def test_how_long_a_session_may_idle_is_a_setting(
    settings: Settings, alice: ApiClient
) -> None:
    assert alice.user_id
    assert_ends_in(settings, timedelta(minutes=45))


async def test_using_a_session_moves_its_end(
    settings: Settings, alice: ApiClient, app: Application
) -> None:
    move_session(settings, last_used_at=timedelta(minutes=2), expires_at=-timedelta(hours=1))
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    assert_ends_in(settings, timedelta(hours=24))


async def test_the_end_of_a_session_is_moved_once_a_minute_at_most(
    settings: Settings, alice: ApiClient, app: Application
) -> None:
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    move_session(settings, last_used_at=timedelta(seconds=50), expires_at=-timedelta(hours=1))
    end = session_end(settings)
    async with running(settings) as other:  # which does not know that we noted the use just now
        for client in [alice, other.as_user(alice)]:
            await client.get("/api/tasks")
        assert await other.application.drain(LONG_ENOUGH)
    assert await app.drain(LONG_ENOUGH)
    assert session_end(settings) == end


async def test_after_a_minute_the_end_of_a_session_is_moved_again(
    settings: Settings, alice: ApiClient, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    move_session(settings, last_used_at=timedelta(seconds=61), expires_at=-timedelta(hours=1))
    minute_later = monotonic() + 61
    monkeypatch.setattr("taskapp.operations.session_activity.monotonic", lambda: minute_later)
    await alice.get("/api/tasks")
    monkeypatch.undo()
    assert await app.drain(LONG_ENOUGH)
    assert_ends_in(settings, timedelta(hours=24))


async def test_a_use_that_could_not_be_noted_is_noted_with_the_next(
    settings: Settings, alice: ApiClient, app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise Unavailable

    move_session(settings, last_used_at=timedelta(minutes=2), expires_at=-timedelta(hours=1))
    monkeypatch.setattr("taskapp.operations.session_activity.touch_session", fail)
    assert (await alice.get("/api/tasks")).status == 200
    assert await app.drain(LONG_ENOUGH)
    monkeypatch.undo()
    assert_ends_in(settings, timedelta(hours=1))
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    assert_ends_in(settings, timedelta(hours=24))


async def test_a_request_that_is_refused_does_not_move_the_end_of_a_session(
    settings: Settings, alice: ApiClient, app: Application
) -> None:
    move_session(settings, last_used_at=timedelta(minutes=2), expires_at=-timedelta(hours=1))
    end = session_end(settings)
    assert (await alice.get("/api/tasks?limit=0")).status == 400
    assert await app.drain(LONG_ENOUGH)
    assert session_end(settings) == end


async def test_a_session_ends_30_days_after_its_login_whatever_happens(
    settings: Settings, alice: ApiClient, app: Application
) -> None:
    move_session(
        settings,
        created_at=timedelta(days=30) - timedelta(hours=2),
        last_used_at=timedelta(minutes=2),
        expires_at=-timedelta(hours=1),
    )
    assert (await alice.get("/api/tasks")).status == 200
    assert await app.drain(LONG_ENOUGH)
    assert_ends_in(settings, timedelta(hours=2))
    move_session(
        settings,
        created_at=timedelta(days=31),
        last_used_at=timedelta(minutes=2),
        expires_at=-timedelta(hours=1),
    )
    async with running(settings) as other:
        assert (await other.as_user(alice).get("/api/tasks")).status == 200
        assert await other.application.drain(LONG_ENOUGH)
        assert_problem(await other.as_user(alice).get("/api/tasks"), 401)


async def test_ended_sessions_are_purged_and_live_ones_stay(
    settings: Settings, services: Services, api: ApiClient, alice: ApiClient
) -> None:
    execute(settings.database_url, "UPDATE sessions SET expires_at = now()")
    second = await api.log_in(alice.email, PASSWORD)
    assert await purge_sessions(services) == 1
    assert (await second.get("/api/tasks")).status == 200


async def test_keys_are_rotated_without_logging_anybody_out(
    settings: Settings, api: ApiClient
) -> None:
    await api.post(REGISTER, CAROL)
    async with running(settings, TASKAPP_SECRET_KEY=OLD_KEY) as before:
        old = await before.client.log_in("carol@example.com", PASSWORD)
        for number in range(2):
            await old.add_task(f"Task {number}")
        cursor = (await old.get("/api/tasks?limit=1")).json["nextCursor"]
    async with running(settings, TASKAPP_SECRET_KEY=f"{NEW_KEY},{OLD_KEY}") as between:
        client = between.as_user(old)
        assert (await client.get(f"/api/tasks?after={cursor}")).status == 200
        new = await between.client.log_in("carol@example.com", PASSWORD)
    async with running(settings, TASKAPP_SECRET_KEY=NEW_KEY) as after:
        assert_problem(await after.as_user(old).get("/api/tasks"), 401)
        client = after.as_user(new)
        assert (await client.get("/api/tasks")).status == 200
        assert_problem(await client.get(f"/api/tasks?after={cursor}"), 400)


async def test_a_token_of_another_installation_is_refused(
    settings: Settings, alice: ApiClient
) -> None:
    async with running(settings, TASKAPP_SECRET_KEY=NEW_KEY) as other:
        assert_problem(await other.as_user(alice).get("/api/tasks"), 401)


async def test_a_new_password_ends_the_sessions_of_its_user_only(
    services: Services, api: ApiClient, alice: ApiClient, bob: ApiClient
) -> None:
    new_password = "another horse, another battery"
    assert await set_password(services, "ALICE@example.com", new_password) == (1, 0)
    assert_problem(await alice.get("/api/tasks"), 401)
    assert (await bob.get("/api/tasks")).status == 200
    old = {"email": alice.email, "password": PASSWORD}
    assert_problem(await api.post(LOGIN, old), 401)
    assert (await (await api.log_in(alice.email, new_password)).get("/api/tasks")).status == 200


async def test_a_login_that_overtakes_a_change_of_the_password_opens_nothing(
    settings: Settings, services: Services, monkeypatch: pytest.MonkeyPatch, api: ApiClient
) -> None:
    await api.post(REGISTER, CAROL)
    matches = services.passwords.matches

    async def change_meanwhile(password: str, password_hash: str | None) -> bool:
        result = await matches(password, password_hash)
        await set_password(services, "carol@example.com", "another horse, another battery")
        return result

    monkeypatch.setattr(services.passwords, "matches", change_meanwhile)
    assert_problem(await api.post(LOGIN, CAROL), 401)
    assert execute(settings.database_url, "SELECT count(*) FROM sessions") == [(0,)]


async def test_a_deleted_user_is_logged_out_and_leaves_nothing(
    settings: Settings, services: Services, alice: ApiClient, bob: ApiClient
) -> None:
    await alice.add_task()
    bobs = await bob.add_task()
    await remove_user(services, alice.email)
    assert_problem(await alice.get("/api/tasks"), 401)
    assert_problem(await alice.post("/api/tasks", {"title": "x"}), 401)
    rows = execute(settings.database_url, "SELECT id::text FROM tasks")
    assert rows == [(bobs["id"],)]


async def test_the_database_holds_no_password_and_no_token(
    settings: Settings, alice: ApiClient
) -> None:
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    rows = execute(settings.database_url, "SELECT users::text, sessions::text FROM users, sessions")
    assert len(rows) == 1
    text = str(rows)
    assert "$2b$04$" in text
    assert PASSWORD not in text
    assert token[:20] not in text
