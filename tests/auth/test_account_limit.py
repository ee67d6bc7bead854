"""Guessing an account's password from many addresses is limited; its user is not."""

from typing import Any

import pytest

from taskapp.config.settings import Settings
from taskapp.operations.accounts import forget_addresses
from taskapp.services import Services
from tests.support.api_tools import assert_problem, at_once, running, with_settings
from tests.support.clients import ApiClient, Response
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, PASSWORD, PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

HOME, AWAY = "192.0.2.1", "198.51.100.1"
RIGHT = {"email": ALICE, "password": PASSWORD}
WRONG = {"email": ALICE, "password": "not " + PASSWORD}
UNKNOWN = {"email": "nobody@example.com", "password": "not " + PASSWORD}
limited = with_settings(ACCOUNT_LOGIN_LIMIT="6/hour", TRUSTED_PROXIES="127.0.0.1,::1")


async def log_in(api: ApiClient, address: str, sent: dict[str, str]) -> Response:
    """Try to log in from an IP address."""
    return await api.post("/api/auth/login", sent, headers={"X-Forwarded-For": address})


async def register(api: ApiClient) -> None:
    """Create Alice's account; she has not logged in yet."""
    assert (await api.post("/api/auth/register", RIGHT)).status == 201


async def guess(api: ApiClient, sent: dict[str, str], tries: int = 7) -> list[Response]:
    """Try this often, each time from another address."""
    return [await log_in(api, f"203.0.113.{number}", sent) for number in range(tries)]


def statuses(responses: list[Response]) -> list[int]:
    return [response.status for response in responses]


@with_settings(ACCOUNT_LOGIN_LIMIT="20/hour", TRUSTED_PROXIES="127.0.0.1,::1")
@pytest.mark.parametrize("guessing", ["203.0.113.1", "2001:db8:1:{:x}::1"])
async def test_one_address_or_site_cannot_lock_an_account_however_often_it_tries(
    api: ApiClient, guessing: str
) -> None:
    await register(api)
    for number in range(60):
        assert (await log_in(api, guessing.format(number), WRONG)).status == 401
        assert (await log_in(api, guessing.format(number), UNKNOWN)).status == 401
    for number in range(5):
        assert (await log_in(api, f"198.51.100.{number}", RIGHT)).status == 200


@pytest.mark.parametrize("amount", [2, 3, 6, 7, 20, 100])
async def test_with_any_limit_six_addresses_cannot_lock_an_account_unless_they_use_it_up(
    settings: Settings, amount: int
) -> None:
    changes = {
        "TASKAPP_ACCOUNT_LOGIN_LIMIT": f"{amount}/hour",
        "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
    }
    async with running(settings, **changes) as server:
        await register(server.client)
        for address in range(min(6, amount - 1)):
            for _ in range(20):
                assert (await log_in(server.client, f"203.0.113.{address}", WRONG)).status == 401
        assert (await log_in(server.client, AWAY, RIGHT)).status == 200


@limited
async def test_an_account_that_was_attacked_before_it_existed_is_open_where_it_was_registered(
    api: ApiClient, visitor: PageClient
) -> None:
    await guess(api, WRONG)
    headers = {"X-Forwarded-For": HOME}
    assert (await api.post("/api/auth/register", RIGHT, headers=headers)).status == 201
    assert (await log_in(api, AWAY, RIGHT)).status == 429
    assert (await log_in(api, HOME, RIGHT)).status == 200


@limited
async def test_a_stranger_who_guesses_from_many_addresses_is_slowed(api: ApiClient) -> None:
    await register(api)
    responses = await guess(api, WRONG)
    assert statuses(responses) == [401] * 6 + [429]
    problem = assert_problem(responses[-1], 429)
    assert "Too many failed logins for this email address" in problem["detail"]
    assert 0 < int(responses[-1].headers["Retry-After"]) <= 3600
    assert responses[-1].headers["RateLimit-Policy"] == '"account";q=6;w=3600'
    # Not even the right password is accepted from an unknown address.
    assert (await log_in(api, AWAY, RIGHT)).status == 429


@limited
async def test_all_spellings_of_an_address_count_together(api: ApiClient) -> None:
    await register(api)
    for number, email in enumerate([ALICE, ALICE.upper(), ALICE.title()] * 2):
        assert (await log_in(api, f"203.0.113.{number}", WRONG | {"email": email})).status == 401
    assert (await log_in(api, AWAY, RIGHT)).status == 429


@limited
async def test_the_owner_gets_in_where_she_has_logged_in_before(api: ApiClient) -> None:
    await register(api)
    first = await log_in(api, HOME, RIGHT)
    headers = {"Authorization": f"Bearer {first.json['token']}"}
    await api.post("/api/auth/logout", headers=headers | {"X-Forwarded-For": HOME})
    assert statuses(await guess(api, WRONG))[-1] == 429
    assert (await log_in(api, HOME, RIGHT)).status == 200
    assert (await log_in(api, AWAY, RIGHT)).status == 429


@limited
async def test_the_owner_gets_in_where_she_is_logged_in_now(
    api: ApiClient, visitor: PageClient, settings: Settings
) -> None:
    """She logged in elsewhere, such as with a phone that has come home."""
    await register(api)
    await log_in(api, HOME, RIGHT)
    execute(settings.database_url, "UPDATE sessions SET address = %s", AWAY)
    await guess(api, WRONG)
    assert (await log_in(api, AWAY, RIGHT)).status == 200
    execute(settings.database_url, "DELETE FROM login_addresses WHERE address = %s", AWAY)
    execute(settings.database_url, "UPDATE sessions SET expires_at = now()")
    assert (await log_in(api, AWAY, RIGHT)).status == 429


@limited
async def test_a_script_makes_no_address_known(api: ApiClient, settings: Settings) -> None:
    await register(api)
    await log_in(api, HOME, RIGHT)
    execute(settings.database_url, "UPDATE sessions SET name = 'CI', address = %s", AWAY)
    await guess(api, WRONG)
    assert (await log_in(api, AWAY, RIGHT)).status == 429
    assert (await log_in(api, HOME, RIGHT)).status == 200


@limited
async def test_one_subscriber_of_ipv6_has_one_address(api: ApiClient) -> None:
    await register(api)
    await log_in(api, "2001:db8:0:1::1", RIGHT)
    await guess(api, WRONG)
    assert (await log_in(api, "2001:db8:0:1:ffff::2", RIGHT)).status == 200
    assert (await log_in(api, "2001:db8:0:2::1", RIGHT)).status == 429


def shown(response: Response) -> tuple[Any, Any]:
    """Return a response without what differs from request to request."""
    changing = {"Date", "X-Request-Id", "X-Consumer", "Retry-After", "RateLimit", "Ratelimit"}
    headers = {name: text for name, text in response.headers.get_all() if name not in changing}
    return {**response.json, "requestId": ""}, headers


@limited
async def test_an_address_without_an_account_is_slowed_likewise_and_looks_the_same(
    api: ApiClient,
) -> None:
    await register(api)
    await log_in(api, HOME, RIGHT)
    known, unknown = await guess(api, WRONG), await guess(api, UNKNOWN)
    assert statuses(known) == statuses(unknown) == [401] * 6 + [429]
    assert [shown(response) for response in known] == [shown(response) for response in unknown]
    for responses in (known, unknown):
        assert 3500 < int(responses[-1].headers["Retry-After"]) <= 3600


@limited
async def test_accounts_are_counted_apart_and_case_makes_no_other(api: ApiClient) -> None:
    await register(api)
    assert statuses(await guess(api, {**WRONG, "email": ALICE.upper()}))[-1] == 429
    assert (await log_in(api, AWAY, WRONG)).status == 429
    assert (await log_in(api, AWAY, UNKNOWN)).status == 401


async def test_twenty_wrong_tries_at_once_from_as_many_addresses_stop_at_the_limit(
    settings: Settings,
) -> None:
    changes = {"TASKAPP_ACCOUNT_LOGIN_LIMIT": "6/hour", "TASKAPP_TRUSTED_PROXIES": "127.0.0.1"}
    async with running(settings, **changes) as server:
        await register(server.client)
        responses = await at_once(
            log_in(server.client, f"203.0.113.{number}", WRONG) for number in range(20)
        )
    assert sorted(statuses(responses)) == [401] * 6 + [429] * 14


@limited
async def test_the_limit_of_an_address_holds_where_the_owner_is_known_too(
    settings: Settings,
) -> None:
    changes = {"TASKAPP_LOGIN_LIMIT": "2/hour"}
    async with running(settings, **changes) as server:
        await register(server.client)
        assert (await log_in(server.client, HOME, RIGHT)).status == 200
        responses = [await log_in(server.client, HOME, WRONG) for _ in range(3)]
    assert statuses(responses) == [401, 401, 429]


@limited
async def test_logins_that_succeed_and_failures_at_home_leave_the_account_open(
    api: ApiClient,
) -> None:
    await register(api)
    for number in range(8):
        assert (await log_in(api, f"192.0.2.{number}", RIGHT)).status == 200
        assert (await log_in(api, f"192.0.2.{number}", WRONG)).status == 401
    assert (await log_in(api, AWAY, RIGHT)).status == 200


@limited
async def test_an_address_is_forgotten_with_a_new_password_and_after_90_days(
    visitor: PageClient, api: ApiClient, services: Services, settings: Settings
) -> None:
    known = "SELECT address FROM login_addresses ORDER BY address"
    await register(api)
    for address in (HOME, AWAY):
        await log_in(api, address, RIGHT)
    visitor.headers = {"X-Forwarded-For": HOME}
    await visitor.log_in(ALICE)
    await visitor.open("/account")
    await visitor.submit(
        "Update password", current_password=PASSWORD, new_password="another horse, another battery"
    )
    assert execute(settings.database_url, known) == [(HOME,)]
    for days, left in ((89, [(HOME,)]), (2, [])):
        execute(
            settings.database_url,
            "UPDATE login_addresses SET last_login_at = last_login_at - make_interval(days => %s)",
            days,
        )
        await forget_addresses(services)
        assert execute(settings.database_url, known) == left
