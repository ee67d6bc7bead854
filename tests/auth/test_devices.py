"""A browser in which somebody has logged in is known to the account, wherever it is."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapp.auth.signing import Signer
from taskapp.config.settings import Settings
from taskapp.operations.accounts import set_password
from taskapp.operations.password_verification import MAX_DEVICES
from taskapp.services import Services
from tests.support.api_tools import running, with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, PASSWORD, PageClient, cookie_name

pytest_plugins = ["tests.support.page_fixtures"]

WRONG = "not " + PASSWORD
NEW_PASSWORD = "another horse, another battery"
COOKIE = cookie_name("device")
KEY = "kMp4vX9qLz2Ws7Tn5Bf8Gh3Jd6Rc1Yae"
QUARTER = timedelta(days=90)
limited = with_settings(
    ACCOUNT_LOGIN_LIMIT="6/hour", LOGIN_LIMIT="5/15minute", TRUSTED_PROXIES="127.0.0.1,::1"
)
story = pytest.mark.gen_test
served = pytest.mark.usefixtures("app")


async def lock(api: ApiClient, email: str) -> None:
    """Use up the limit of an account from many addresses."""
    for number in range(7):
        headers = {"X-Forwarded-For": f"203.0.113.{number}"}
        sent = {"email": email, "password": WRONG}
        status = (await api.post("/api/auth/login", sent, headers=headers)).status
    assert status == 429


async def log_in(browser: PageClient, address: str, email: str, password: str = PASSWORD) -> int:
    """Log in by the form from an IP address, and return the status."""
    browser.headers = {"X-Forwarded-For": address}
    browser.cookies.pop(cookie_name("session"), None)
    await browser.open("/login")
    return (await browser.send("Log in", email=email, password=password)).status


@limited
@served
@story
async def test_the_owner_gets_in_from_anywhere_with_a_browser_that_she_has_used_before(
    api: ApiClient, alice: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    assert await log_in(visitor, "192.0.2.1", ALICE) == 303
    await lock(api, ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE) == 303
    assert await log_in(visitor, "198.51.100.2", ALICE) == 303
    assert await log_in(other, "198.51.100.1", ALICE) == 303  # she has just logged in from there
    assert await log_in(PageClient(api.http_client, api.base_url), "198.51.100.3", ALICE) == 429


@limited
@served
@story
async def test_logging_out_leaves_the_browser_known(
    api: ApiClient, alice: ApiClient, visitor: PageClient
) -> None:
    await log_in(visitor, "192.0.2.1", ALICE)
    await visitor.open("/tasks")
    await visitor.submit("Log out")
    await lock(api, ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE) == 303


@limited
@served
@story
async def test_a_registration_makes_its_browser_known(api: ApiClient, visitor: PageClient) -> None:
    await lock(api, ALICE)
    visitor.headers = {"X-Forwarded-For": "192.0.2.1"}
    await visitor.sign_up(ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE) == 303


@limited
@served
@story
async def test_a_neighbour_behind_the_same_address_keeps_nobody_out(
    api: ApiClient, alice: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    assert await log_in(visitor, "192.0.2.1", ALICE) == 303
    statuses = [await log_in(other, "192.0.2.1", BOB, WRONG) for _ in range(6)]
    assert statuses == [401] * 5 + [429]
    assert await log_in(visitor, "192.0.2.1", ALICE) == 303


@limited
@served
@story
async def test_a_browser_that_is_known_has_so_many_failures_and_counts_as_any_other_then(
    api: ApiClient, alice: ApiClient, visitor: PageClient
) -> None:
    await log_in(visitor, "192.0.2.1", ALICE)
    statuses = [await log_in(visitor, f"198.51.100.{number}", ALICE, WRONG) for number in range(12)]
    # Five for the browser, six for the account.
    assert statuses == [401] * 11 + [429]
    assert await log_in(visitor, "198.51.100.99", ALICE) == 429
    assert await log_in(visitor, "192.0.2.1", ALICE) == 303


@limited
@served
@story
async def test_a_browser_knows_several_people_and_each_for_their_own_account_only(
    api: ApiClient, alice: ApiClient, bob: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    await log_in(visitor, "192.0.2.1", ALICE)
    for _ in range(MAX_DEVICES + 1):
        await log_in(visitor, "192.0.2.1", BOB)
    await log_in(other, "192.0.2.2", BOB)
    assert visitor.cookies[COOKIE].count("~") == 1
    await lock(api, ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE) == 303
    assert await log_in(other, "198.51.100.2", ALICE) == 429


@limited
@served
@story
async def test_the_cookie_has_room_for_the_last_few_people(
    api: ApiClient, visitor: PageClient
) -> None:
    people = [f"user{number}@example.com" for number in range(MAX_DEVICES + 1)]
    for email in people:
        await api.post("/api/auth/register", {"email": email, "password": PASSWORD})
        await log_in(visitor, "192.0.2.1", email)
    assert visitor.cookies[COOKIE].count("~") == MAX_DEVICES - 1
    for email, status in ((people[0], 429), (people[1], 303)):
        await lock(api, email)
        assert await log_in(visitor, "198.51.100.1", email) == status


@limited
@served
@story
async def test_a_new_password_makes_other_browsers_unknown_and_not_this_one(
    api: ApiClient, alice: ApiClient, visitor: PageClient, other: PageClient
) -> None:
    await log_in(other, "192.0.2.2", ALICE)
    await log_in(visitor, "192.0.2.1", ALICE)
    await visitor.open("/account")
    page = await visitor.submit(
        "Update password", current_password=PASSWORD, new_password=NEW_PASSWORD
    )
    assert page.status == 200
    await lock(api, ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE, NEW_PASSWORD) == 303
    assert await log_in(other, "198.51.100.2", ALICE, NEW_PASSWORD) == 429


@limited
@served
@story
async def test_a_password_that_the_operator_sets_makes_all_browsers_unknown(
    api: ApiClient, alice: ApiClient, visitor: PageClient, services: Services
) -> None:
    await log_in(visitor, "192.0.2.1", ALICE)
    await set_password(services, ALICE, NEW_PASSWORD)
    await lock(api, ALICE)
    assert await log_in(visitor, "198.51.100.1", ALICE, NEW_PASSWORD) == 429


@limited
@served
@story
async def test_a_browser_stays_known_when_the_hash_is_made_anew(
    api: ApiClient, alice: ApiClient, visitor: PageClient, settings: Settings
) -> None:
    await log_in(visitor, "192.0.2.1", ALICE)
    async with running(settings, TASKAPP_BCRYPT_ROUNDS="5") as dearer:
        visitor.base_url = dearer.client.base_url
        assert await log_in(visitor, "192.0.2.1", ALICE) == 303
        await lock(dearer.client, ALICE)
        assert await log_in(visitor, "198.51.100.1", ALICE) == 303


@limited
@served
@story
@pytest.mark.parametrize(
    "cookie", ["", "~~~~~", "." * 4000, "é", "a.b", '"', "AAAA.", "~".join(["x" * 90] * 40)]
)
async def test_any_other_cookie_is_of_no_use_and_does_no_harm(
    alice: ApiClient, visitor: PageClient, cookie: str
) -> None:
    visitor.cookies[COOKIE] = cookie
    assert await log_in(visitor, "192.0.2.1", ALICE, WRONG) == 401
    assert await log_in(visitor, "192.0.2.1", ALICE) == 303
    assert len(visitor.cookies[COOKIE]) < 500


def make_device(alter: Callable[[str], str] = str, **changes: str) -> bool:
    """Return whether a device of Alice is known after it was altered or asked of others."""
    asked = {"user": "alice", "password_hash": "hash", "key": KEY} | changes
    device = alter(Signer([KEY]).new_device("alice", "hash"))
    return Signer([asked["key"]]).is_device(
        device, asked["user"], asked["password_hash"], max_age=QUARTER
    )


def test_a_device_is_of_one_user_one_password_and_one_key() -> None:
    assert make_device()
    assert not make_device(user="bob")
    assert not make_device(password_hash="other")
    assert not make_device(key=KEY[::-1])
    for place in range(66):
        assert not make_device(lambda text, at=place: text[:at] + "~" + text[at + 1 :])  # type: ignore[misc]
    assert not make_device(lambda text: text + "A")
    assert not make_device(lambda text: text[:-1])


@given(text=st.text())
def test_no_text_is_a_device_or_breaks_anything(text: str) -> None:
    assert not make_device(lambda _: text)


def test_a_device_is_known_for_90_days(monkeypatch: pytest.MonkeyPatch) -> None:
    signer = Signer([KEY])
    device = signer.new_device("alice", "hash")
    issued = time.time()
    for days, is_known in ((89, True), (91, False)):
        monkeypatch.setattr("taskapp.auth.signing.time", lambda at=issued + days * 86400: at)
        assert signer.is_device(device, "alice", "hash", max_age=QUARTER) is is_known
