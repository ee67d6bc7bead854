"""Error pages: what went wrong, the id of the request, and a way back."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from taskapp.core.errors import (
    FormNotTrusted,
    MethodNotAllowed,
    NotFound,
    TaskappError,
    TaskNotFound,
)
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, FROM_ELSEWHERE, PageClient, cookie_name, titles
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
SEND_AGAIN = "Try again. If that does not help, allow cookies for this site"


@contextmanager
def no_column_of_titles(url: str) -> Iterator[None]:
    """Make the server raise an unexpected error."""
    execute(url, "ALTER TABLE tasks RENAME title TO gone")
    try:
        yield
    finally:
        execute(url, "ALTER TABLE tasks RENAME gone TO title")


async def leads_back(
    visitor: PageClient, page: Page, status: int, words: str, start_of_strangers: str = "/login"
) -> None:
    """Check what every error page has, and go back to the start."""
    assert page.status == status
    assert page.headers["Content-Type"] == "text/html; charset=UTF-8"
    assert page.headers["Cache-Control"] == "no-store"
    assert words in page.text
    number = page.headers["X-Request-ID"]
    assert f"Request ID: {number}" in page.text
    assert page.has_form("Log out") == (cookie_name("session") in visitor.cookies)
    start = await visitor.open(page.link("Back to home"))
    is_logged_in = cookie_name("session") in visitor.cookies
    assert (start.status, start.address) == (200, "/tasks" if is_logged_in else start_of_strangers)


@pytest.mark.parametrize(
    ("method", "address", "fields", "status", "words"),
    [
        (
            "GET",
            "/tasks?status=nonsense",
            None,
            400,
            "pending, completed",
        ),
        ("GET", "/tasks?after=forged", None, 400, "Invalid cursor"),
        ("POST", "/logout", {"csrf_token": "forged"}, 403, FormNotTrusted.detail),
        ("POST", "/theme", {}, 403, FormNotTrusted.detail),
        ("GET", "/nowhere", None, 404, NotFound.detail),
        ("POST", "/nowhere", {}, 404, NotFound.detail),
        ("GET", "/tasks//", None, 404, NotFound.detail),
        ("GET", "/static/nothing.css", None, 404, NotFound.detail),
        ("GET", "/tasks/1/edit", None, 404, TaskNotFound.detail),
        ("GET", "/logout", None, 405, MethodNotAllowed.detail),
        ("PUT", "/tasks", {}, 405, MethodNotAllowed.detail),
        ("POST", "/login", {"email": "x" * 300_000}, 413, "your text may still be there"),
    ],
)
async def test_an_error_is_a_page_with_a_number_and_a_way_back(
    mine: PageClient,
    method: str,
    address: str,
    fields: dict[str, str] | None,
    status: int,
    words: str,
) -> None:
    if address.startswith("/static/"):  # which reads no session
        del mine.cookies[cookie_name("session")]
    page = await mine.fetch(method, address, fields)
    await leads_back(mine, page, status, words)


async def test_a_stranger_finds_a_way_back_too(visitor: PageClient) -> None:
    for method, address, fields, status in [
        ("GET", "/nowhere", None, 404),
        ("GET", "/theme", None, 405),
        ("POST", "/theme", {}, 403),
        ("POST", "/register", {"email": "x" * 300_000}, 413),
    ]:
        page = await visitor.fetch(method, address, fields)
        await leads_back(visitor, page, status, "", "/register")  # there is no account


async def test_a_task_of_another_user_is_an_error_with_a_way_back(
    mine: PageClient, bob: ApiClient
) -> None:
    task = await bob.add_task("Bob's secret")
    page = await mine.open(f"/tasks/{task['id']}/edit")
    assert "secret" not in page.text
    await leads_back(mine, page, 403, "This task belongs to another user.")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_a_method_that_is_not_allowed_is_refused_with_those_that_are(
    mine: PageClient, method: str
) -> None:
    page = await mine.fetch(method, "/tasks", b"")
    assert (page.status, page.headers["Allow"]) == (405, "GET, HEAD, OPTIONS, POST")


# Temporary errors


async def test_without_a_database_a_page_says_when_to_try_again(
    mine: PageClient, services: Services, task: dict[str, str]
) -> None:
    form = await mine.open(f"/tasks/{task['id']}/edit")
    for method, address in [
        ("GET", "/tasks"),
        ("GET", f"/tasks/{task['id']}/edit"),
        ("GET", "/tasks/completed/delete"),
        ("POST", f"/tasks/{task['id']}/delete"),
    ]:
        await services.database.close()
        page = await mine.fetch(method, address, mine.csrf_field if method == "POST" else None)
        await services.database.open(services.settings.database_url)
        assert int(page.headers["Retry-After"]) == 2
        await leads_back(mine, page, 503, "Try again in 2 seconds.")
    mine.page = form
    assert (await mine.send("Save", title="Buy bread")).status == 303


async def test_an_unexpected_error_says_nothing_of_its_cause_and_keeps_what_was_typed(
    mine: PageClient, alice: ApiClient, empty_database: str
) -> None:
    form = await mine.open("/tasks")
    with no_column_of_titles(empty_database):
        pages = [await mine.open("/tasks")]
        mine.page = form
        pages.append(await mine.send("Add", title="Typed"))
        mine.page = form
        pages.append(await mine.send("Add tasks", titles="By\nmany"))
    for page in pages:
        for told in ("gone", "relation", "psycopg", "Traceback", ".py"):
            assert told not in page.html
        await leads_back(mine, page, 500, TaskappError.detail)
    for page in pages[1:]:
        mine.page = page
        assert (await mine.send("Send again")).status == 303
    assert await titles(alice) == ["By", "many", "Typed"]


# Forms without a valid CSRF token


@pytest.mark.parametrize(
    ("setting_changes", "address"),
    [
        ({}, ""),
        ({"TASKAPP_PUBLIC_URL": "http://tasks.example.com"}, ""),
        ({"TASKAPP_PUBLIC_URL": "https://tasks.example.com"}, "https://tasks.example.com"),
    ],
)
@pytest.mark.parametrize("path", ["/login", "/register", "/theme"])
async def test_a_browser_without_cookies_is_told_to_allow_them_where_they_are_sent(
    visitor: PageClient, path: str, address: str
) -> None:
    page = await visitor.fetch("POST", path, {"csrf_token": "lost", "email": ALICE})
    assert page.status == 403
    assert SEND_AGAIN in page.text
    help_text = f"Make sure you are using {address}: the cookies only work at that address."
    assert (help_text in page.text) == bool(address)
    assert ("Make sure you are using" in page.text) == bool(address)


@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
async def test_a_form_from_another_site_reveals_nothing_of_its_task(
    mine: PageClient, alice: ApiClient, headers: dict[str, str]
) -> None:
    task = await alice.add_task("Alice's secret")
    mine.headers = headers
    for name in ("edit", "status", "delete"):
        page = await mine.fetch("POST", f"/tasks/{task['id']}/{name}", mine.csrf_field)
        assert page.status == 403
        assert "secret" not in page.html
        assert ALICE not in page.html
