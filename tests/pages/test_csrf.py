"""Every form and every unsafe request of a page needs a valid CSRF token (ADR 0016)."""

from collections.abc import Callable
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from handlers.web.application import Application
from taskapp.core.errors import FormNotTrusted
from taskapp.operations.accounts import log_out
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import (
    ALICE,
    BOB,
    FROM_ELSEWHERE,
    PASSWORD,
    PageClient,
    cookie_name,
    titles,
)
from tests.support.page_reader import Page
from tests.support.page_story import walk

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test

UNSAFE = [
    (path.replace(":id", NO_TASK), method)
    for path, handler in ROUTES
    if issubclass(handler, PageHandler)
    for method in handler.allowed_methods()
    if method not in {"GET", "HEAD", "OPTIONS"}
]
# Typed into every form, and shown again when the form is rejected.
TYPED = {"title": "Typed", "titles": "Typed", "email": "typed@example.com", "status": "completed"}


async def csrf_token_of(visitor: PageClient, address: str = "/tasks") -> str:
    return (await visitor.open(address)).forms[0].fields["csrf_token"]


async def every_form(visitor: PageClient) -> list[tuple[Page, str, dict[str, str]]]:
    """Return each page of a user who is logged in with each button of its forms and its fields."""
    pages = [*await walk(visitor, "/tasks"), await visitor.open("/nowhere")]
    return [
        (page, button.action, form.fields | button.fields | typed_into(form.fields))
        for page in pages
        for form in page.forms
        for button in form.buttons
    ]


def typed_into(fields: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in TYPED.items() if name in fields}


async def assert_all_refused(
    visitor: PageClient,
    alice: ApiClient,
    change: Callable[[dict[str, str]], dict[str, str]],
    *,
    is_own: bool = True,
) -> None:
    """Send every form with changed fields, and check that each is rejected without an effect.

    What was typed is shown again, if the form is not of another user.
    """
    before = (await alice.get("/api/tasks")).json
    forms = await every_form(visitor)
    cookies = dict(visitor.cookies)
    assert len({urlsplit(action).path for _, action, _ in forms}) >= 8
    for _, action, fields in forms:
        response = await visitor.fetch("POST", action, change(fields))
        assert response.status == 403, action
        assert FormNotTrusted.detail in response.text
        for name in {"title", "titles"} & set(fields) if is_own else ():
            assert response.form("Send again").fields[name] == "Typed"
        assert is_own or not response.has_form("Send again")
        assert visitor.cookies == cookies
    assert (await alice.get("/api/tasks")).json == before
    assert (await visitor.open("/tasks")).status == 200


@pytest.fixture
def tasks(alice: ApiClient, task: dict[str, str], io_loop: Any) -> None:
    """Add a completed task of Alice beside the pending one."""
    io_loop.run_sync(lambda: alice.add_task("Done", status="completed"))


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_accepted_without_its_csrf_token(
    mine: PageClient, alice: ApiClient
) -> None:
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": ""})
    await assert_all_refused(
        mine, alice, lambda fields: {name: fields[name] for name in fields if name != "csrf_token"}
    )


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_accepted_with_the_csrf_token_of_another_user(
    mine: PageClient, bobs: PageClient, alice: ApiClient
) -> None:
    token = await csrf_token_of(bobs)
    await assert_all_refused(
        mine, alice, lambda fields: fields | {"csrf_token": token}, is_own=False
    )
    # Bob may even plant his cookie in her browser, as another port of the host can over http.
    mine.cookies[cookie_name("csrf")] = bobs.cookies[cookie_name("csrf")]
    await assert_all_refused(
        mine, alice, lambda fields: fields | {"csrf_token": token}, is_own=False
    )


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_accepted_with_a_csrf_token_from_before_the_login(
    visitor: PageClient, alice: ApiClient
) -> None:
    token = await csrf_token_of(visitor, "/login")
    await visitor.log_in(ALICE)
    await assert_all_refused(visitor, alice, lambda fields: fields | {"csrf_token": token})


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_accepted_with_a_csrf_token_of_an_earlier_session(
    mine: PageClient, alice: ApiClient
) -> None:
    token = await csrf_token_of(mine)
    await mine.submit("Log out")
    await mine.log_in(ALICE)
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": token})


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_accepted_with_an_altered_csrf_token(
    mine: PageClient, alice: ApiClient
) -> None:
    token = await csrf_token_of(mine)
    nonce, _, signature = token.partition(".")
    for forged in [
        nonce,
        f"{nonce}.",
        f".{signature}",
        f"{nonce}x.{signature}",
        "é.\0",
        "x" * 9000,
    ]:
        response = await mine.fetch("POST", "/tasks", {"title": "x", "csrf_token": forged})
        assert response.status == 403
    for index in range(0, len(token), 7):
        flipped = token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]
        response = await mine.fetch("POST", "/tasks", {"title": "x", "csrf_token": flipped})
        assert response.status == 403
    twice = [("title", "x"), ("csrf_token", token), ("csrf_token", token)]
    assert (await mine.fetch("POST", "/tasks", twice)).status == 403
    assert (await mine.fetch("POST", f"/tasks?csrf_token={token}", {"title": "x"})).status == 403
    assert await titles(alice) == ["Done", "Buy milk"]


@pytest.mark.usefixtures("tasks")
async def test_no_form_of_another_site_is_accepted_even_with_its_csrf_token(
    mine: PageClient, alice: ApiClient
) -> None:
    forms = await every_form(mine)
    before = (await alice.get("/api/tasks")).json
    for (_, action, fields), headers in product(forms, FROM_ELSEWHERE):
        mine.headers = headers
        assert (await mine.fetch("POST", action, fields)).status == 403, action
    assert (await alice.get("/api/tasks")).json == before


@pytest.mark.usefixtures("tasks")
async def test_a_rejected_form_can_be_sent_again(mine: PageClient, alice: ApiClient) -> None:
    for label, field in [("Add", "title"), ("Add tasks", "titles")]:
        await mine.open("/tasks")
        assert (
            await mine.send(label, **{field: f"By {label}", "csrf_token": "stale"})
        ).status == 403
        await mine.submit("Send again")
    assert (await titles(alice))[:2] == ["By Add tasks", "By Add"]


def body_of(page: Page) -> dict[str, str]:
    (body,) = page.tags("body")
    return body


async def test_every_page_of_a_user_names_the_account_and_no_other_page_does(
    mine: PageClient, bobs: PageClient
) -> None:
    pages = [page for page in await walk(mine, "/tasks") if page.tags("body")]
    marks = {body_of(page)["data-account"] for page in pages}
    assert len(marks) == 1
    assert body_of(await bobs.open("/tasks"))["data-account"] not in marks
    await mine.submit("Log out")
    for address in ("/login", "/register", "/status", "/nowhere"):
        assert "data-account" not in body_of(await mine.open(address))
    await mine.log_in(ALICE)
    assert {body_of(await mine.open("/account"))["data-account"]} == marks


@pytest.mark.usefixtures("tasks")
async def test_a_rejected_form_of_a_live_session_brings_the_token_that_it_can_be_sent_with(
    mine: PageClient, alice: ApiClient
) -> None:
    account = body_of(await mine.open("/tasks"))["data-account"]
    forms = await every_form(mine)
    await mine.submit("Log out")
    await mine.log_in(ALICE)
    for _, action, fields in forms:
        body = body_of(await mine.fetch("POST", action, fields))
        assert body["data-account"] == account
        renewed = {"csrf_token": body["data-csrf-token"]}
    before = await titles(alice)
    await mine.fetch("POST", "/tasks", {"title": "Typed before", **renewed})
    assert await titles(alice) == ["Typed before", *before]


async def test_a_rejected_form_brings_no_token_to_others(
    mine: PageClient, visitor: PageClient, alice: ApiClient
) -> None:
    fields = (await mine.open("/tasks")).form("Add").fields | {"title": "Typed"}
    stale = fields | {"csrf_token": "stale"}
    for headers in FROM_ELSEWHERE:
        mine.headers = headers
        assert "data-csrf-token" not in body_of(await mine.fetch("POST", "/tasks", fields))
    mine.headers = {}
    await alice.post("/api/auth/logout")
    mine.cookies = {name: value for name, value in mine.cookies.items() if "session" not in name}
    for address in ("/tasks", "/theme", "/login"):
        assert "data-csrf-token" not in body_of(await mine.fetch("POST", address, stale))


async def test_a_rejected_form_of_an_ended_session_leads_to_the_login(
    mine: PageClient, services: Services
) -> None:
    form = await mine.open("/tasks")
    (cookie,) = (value for name, value in mine.cookies.items() if "session" in name)
    session = services.signer.read_session_cookie(cookie)
    assert session
    await log_out(services, session)
    mine.page = form
    page = await mine.send("Add", title="Typed", csrf_token="stale")
    assert page.status == 401
    assert page.has_form("Log in")
    assert "data-account" not in body_of(page)


async def test_every_unsafe_route_needs_a_csrf_token(mine: PageClient, alice: ApiClient) -> None:
    token = await csrf_token_of(mine)
    for (path, method), headers in product(UNSAFE, [{}, *FROM_ELSEWHERE]):
        mine.headers = headers
        sent = {"csrf_token": token} if headers else {}
        response = await mine.fetch(method, path, sent | TYPED)
        assert response.status == 403, path
        assert FormNotTrusted.detail in response.text
    mine.headers = {}
    assert (await mine.open("/tasks")).has_form("Log out")


async def test_another_site_cannot_log_a_browser_in_as_its_own_user(
    visitor: PageClient, other: PageClient, alice: ApiClient, bob: ApiClient
) -> None:
    token = await csrf_token_of(other, "/login")
    await visitor.open("/login")
    page = await visitor.send("Log in", email=BOB, password=PASSWORD, csrf_token=token)
    assert page.status == 403
    assert cookie_name("session") not in visitor.cookies


PROXY = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}


@with_settings(
    PUBLIC_URL="https://example.com", BASE_PATH="/my/tasks", TRUSTED_PROXIES="127.0.0.1,::1"
)
@pytest.mark.parametrize("host", [None, "example.com"])
async def test_behind_a_proxy_below_a_path_forms_of_this_site_are_accepted_and_no_others(
    visitor: PageClient, alice_below: ApiClient, host: str | None
) -> None:
    visitor.headers = PROXY | ({"Host": host} if host else {})
    own = {"Origin": "https://example.com"}
    await visitor.open("/my/tasks/login")
    visitor.headers |= own | {"Sec-Fetch-Site": "same-origin"}
    page = await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    assert page.address == "/my/tasks/tasks"
    visitor.headers = PROXY | ({"Host": host} if host else {}) | own
    assert (await visitor.send("Add", title="Mine")).status == 303
    for origin in [
        "http://example.com",
        "https://example.com.evil.example",
        "https://evil.example",
        "https://example.com:8443",
        "http://[",
        "example.com",
        "null",
        "",
    ]:
        visitor.page = page
        visitor.headers["Origin"] = origin
        assert (await visitor.send("Add", title="Theirs")).status == 403, origin
    assert await titles(alice_below) == ["Mine"]


@pytest.fixture
def alice_below(http_client: Any, base_url: str, app: Application, io_loop: Any) -> ApiClient:
    """Return the API client of Alice on a site below a base path."""
    client = ApiClient(http_client, base_url + app.services.settings.base_path)
    signed_up: ApiClient = io_loop.run_sync(lambda: client.sign_up(ALICE, PASSWORD))
    return signed_up
