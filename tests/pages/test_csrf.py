"""Every form and every unsafe request of a page has to prove where it comes from (ADR 0016)."""

from collections.abc import Callable
from itertools import product
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from handlers.web.application import Application
from taskapp.core.errors import FormNotTrusted
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, FROM_ELSEWHERE, PASSWORD, PageClient, titles
from tests.support.page_reader import Page
from tests.support.page_story import walk

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test(timeout=60)

UNSAFE = [
    (path.replace(":id", NO_TASK), method)
    for path, handler in ROUTES
    if issubclass(handler, PageHandler)
    for method in handler.allowed_methods()
    if method not in {"GET", "HEAD", "OPTIONS"}
]
# What is typed into every form, to be found again when the form is refused.
TYPED = {"title": "Typed", "titles": "Typed", "email": "typed@example.com", "status": "completed"}


@pytest.fixture
def other(http_client: Any, base_url: str, app: Application) -> PageClient:
    """Another browser."""
    return PageClient(http_client, base_url)


@pytest.fixture
def bobs(other: PageClient, bob: ApiClient, io_loop: Any) -> PageClient:
    """The browser of Bob, who is logged in."""
    io_loop.run_sync(lambda: other.log_in(BOB))
    return other


async def proof_of(visitor: PageClient, address: str = "/tasks") -> str:
    return (await visitor.open(address)).forms[0].fields["csrf_token"]


async def every_form(visitor: PageClient) -> list[tuple[Page, str, dict[str, str]]]:
    """Give every button of every form that somebody who is logged in sees, with its fields."""
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
    visitor: PageClient, alice: ApiClient, change: Callable[[dict[str, str]], dict[str, str]]
) -> None:
    """Send every form, changed so, and check that each is refused and nothing has happened."""
    before = (await alice.get("/api/tasks")).json
    forms = await every_form(visitor)
    cookies = dict(visitor.cookies)
    assert len({urlsplit(action).path for _, action, _ in forms}) >= 8
    for _, action, fields in forms:
        response = await visitor.fetch("POST", action, change(fields))
        assert response.status == 403, action
        assert FormNotTrusted.detail in response.text
        for name in {"title", "titles"} & set(fields):
            assert response.form("Send it again").fields[name] == "Typed"
        assert visitor.cookies == cookies
    assert (await alice.get("/api/tasks")).json == before
    assert (await visitor.open("/tasks")).status == 200


@pytest.fixture
def tasks(alice: ApiClient, task: dict[str, str], io_loop: Any) -> None:
    """Let Alice have a pending and a completed task."""
    io_loop.run_sync(lambda: alice.add_task("Done", status="completed"))


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_taken_without_its_proof(mine: PageClient, alice: ApiClient) -> None:
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": ""})
    await assert_all_refused(
        mine, alice, lambda fields: {name: fields[name] for name in fields if name != "csrf_token"}
    )


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_taken_with_the_proof_of_another_user(
    mine: PageClient, bobs: PageClient, alice: ApiClient
) -> None:
    proof = await proof_of(bobs)
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": proof})
    # Not even if the other one could plant his cookie too, as a neighbouring port can over http.
    mine.cookies["taskapp-csrf"] = bobs.cookies["taskapp-csrf"]
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": proof})


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_taken_with_a_proof_from_before_the_login(
    visitor: PageClient, alice: ApiClient
) -> None:
    proof = await proof_of(visitor, "/login")
    await visitor.log_in(ALICE)
    await assert_all_refused(visitor, alice, lambda fields: fields | {"csrf_token": proof})


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_taken_with_a_proof_of_a_session_before(
    mine: PageClient, alice: ApiClient
) -> None:
    proof = await proof_of(mine)
    await mine.submit("Log out")
    await mine.log_in(ALICE)
    await assert_all_refused(mine, alice, lambda fields: fields | {"csrf_token": proof})


@pytest.mark.usefixtures("tasks")
async def test_no_form_is_taken_with_a_proof_that_was_altered(
    mine: PageClient, alice: ApiClient
) -> None:
    proof = await proof_of(mine)
    nonce, _, signature = proof.partition(".")
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
    for place in range(0, len(proof), 7):
        flipped = proof[:place] + ("A" if proof[place] != "A" else "B") + proof[place + 1 :]
        response = await mine.fetch("POST", "/tasks", {"title": "x", "csrf_token": flipped})
        assert response.status == 403
    twice = [("title", "x"), ("csrf_token", proof), ("csrf_token", proof)]
    assert (await mine.fetch("POST", "/tasks", twice)).status == 403
    assert (await mine.fetch("POST", f"/tasks?csrf_token={proof}", {"title": "x"})).status == 403
    assert await titles(alice) == ["Done", "Buy milk"]


@pytest.mark.usefixtures("tasks")
async def test_no_form_of_another_site_is_taken_even_with_its_proof(
    mine: PageClient, alice: ApiClient
) -> None:
    forms = await every_form(mine)
    before = (await alice.get("/api/tasks")).json
    for (_, action, fields), headers in product(forms, FROM_ELSEWHERE):
        mine.headers = headers
        assert (await mine.fetch("POST", action, fields)).status == 403, action
    assert (await alice.get("/api/tasks")).json == before


@pytest.mark.usefixtures("tasks")
async def test_a_form_that_was_refused_can_be_sent_again(
    mine: PageClient, alice: ApiClient
) -> None:
    for label, field in [("Add", "title"), ("Add them all", "titles")]:
        await mine.open("/tasks")
        assert (
            await mine.send(label, **{field: f"By {label}", "csrf_token": "stale"})
        ).status == 403
        await mine.submit("Send it again")
    assert (await titles(alice))[:2] == ["By Add them all", "By Add"]


async def test_every_unsafe_route_asks_for_a_proof(mine: PageClient, alice: ApiClient) -> None:
    proof = await proof_of(mine)
    for (path, method), headers in product(UNSAFE, [{}, *FROM_ELSEWHERE]):
        mine.headers = headers
        sent = {"csrf_token": proof} if headers else {}
        response = await mine.fetch(method, path, sent | TYPED)
        assert response.status == 403, path
        assert FormNotTrusted.detail in response.text
    mine.headers = {}
    assert (await mine.open("/tasks")).has_form("Log out")


async def test_a_browser_without_a_session_is_not_logged_in_as_somebody_else(
    visitor: PageClient, other: PageClient, alice: ApiClient, bob: ApiClient
) -> None:
    proof = await proof_of(other, "/login")
    await visitor.open("/login")
    page = await visitor.send("Log in", email=BOB, password=PASSWORD, csrf_token=proof)
    assert page.status == 403
    assert "taskapp-session" not in visitor.cookies


PROXY = {"X-Forwarded-For": "192.0.2.1", "X-Forwarded-Proto": "https"}


@with_settings(
    PUBLIC_URL="https://example.com", BASE_PATH="/my/tasks", TRUSTED_PROXIES="127.0.0.1,::1"
)
@pytest.mark.parametrize("host", [None, "example.com"])
async def test_behind_a_proxy_below_a_path_forms_of_this_site_are_taken_and_no_others(
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
    """The client of Alice, of a site below a path."""
    client = ApiClient(http_client, base_url + app.services.settings.base_path)
    signed_up: ApiClient = io_loop.run_sync(lambda: client.sign_up(ALICE, PASSWORD))
    return signed_up
