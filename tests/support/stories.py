"""Steps of the stories in the browser, and locators of the parts of a page."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, Route, expect

from tests.faults.proxy import Proxy
from tests.support.browser_fixtures import BROWSERS, TIMEOUT, Account

with_scripts = pytest.mark.parametrize("context", ["scripts on"], indirect=True)
in_chromium = pytest.mark.parametrize("browser", ["Chromium"], indirect=True)
in_each_browser = pytest.mark.parametrize("browser", BROWSERS, indirect=True)
ROUND_TRIPS = [0, 300, 1000]  # milliseconds


@dataclass
class Watch:
    """The requests that loaded a page, and those of scripts."""

    loads: list[str] = field(default_factory=list)
    fetches: list[str] = field(default_factory=list)


def register(page: Page, account: Account) -> None:
    page.goto("/register")
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("button", name="Create account").click()


def log_in(page: Page, account: Account) -> None:
    page.goto("/login")
    enter(page, account)
    page.wait_for_url("**/tasks")


def enter(page: Page, account: Account) -> None:
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    page.get_by_role("button", name="Log in").click()


def field_of_new_task(page: Page) -> Locator:
    return page.get_by_label("New task")


def add(page: Page, title: str, description: str = "") -> None:
    """Add a task, and wait until the page confirms it."""
    field_of_new_task(page).fill(title)
    if description:
        page.get_by_text("Add description").click()
        page.get_by_label("Description").fill(description)
    page.get_by_role("button", name="Add", exact=True).click()
    expect(titles(page).first).to_have_text(title)
    expect(unsaved(page)).to_have_count(0)


def add_several(page: Page, *lines: str) -> None:
    page.get_by_text("Add multiple tasks").click()
    page.get_by_label("Tasks", exact=True).fill("\n".join(lines))
    page.get_by_role("button", name="Add tasks").click()
    expect(unsaved(page)).to_have_count(0)


def have(context: BrowserContext, account: Account, *lines: str, status: str = "pending") -> None:
    """Create tasks through the API, the first on top."""
    sent = {"email": account.email, "password": account.password}
    token = context.request.post("/api/auth/login", data=sent).json()["token"]
    for line in reversed(lines):
        made = context.request.post(
            "/api/tasks",
            data={"title": line, "status": status},
            headers={"Authorization": f"Bearer {token}"},
        )
        assert made.status == 201


def rows(page: Page) -> Locator:
    return page.get_by_role("main").get_by_role("listitem")


def titles(page: Page) -> Locator:
    return rows(page).locator(".title")


def unsaved(page: Page) -> Locator:
    """The rows of tasks that the script has not saved yet."""
    return page.locator(".tasks .unsaved")


def box(page: Page, title: str) -> Locator:
    """Return the checkbox of a task, which may be in the closed fold."""
    return page.get_by_role("checkbox", name=title, exact=True, include_hidden=True)


def link(page: Page, name: str) -> Locator:
    return page.get_by_role("link", name=name)


def open_completed(page: Page) -> None:
    """Open the fold of completed tasks, even before there are any."""
    page.locator("#completed").evaluate("fold => { fold.open = true }")


def flash_message(page: Page) -> Locator:
    return page.locator("#flash")


def expect_counts(page: Page, every: int, pending: int, completed: int) -> None:
    """Wait until the filter has this text."""
    shown = f"All {every} Pending {pending} Completed {completed}"
    expect(page.get_by_role("navigation", name="Filter")).to_have_text(shown)


def path_of(page: Page) -> str:
    """Return the browser's path and query, without the fragment."""
    parts = urlsplit(page.url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def slow_down(line: Proxy, round_trip: int) -> None:
    """Delay what passes through a line, for milliseconds of both ways together."""
    line.delay = round_trip / 2000  # seconds of each way


def hold_the_first(page: Page, address: str) -> Callable[[], Route]:
    """Hold the first request to a URL, and let others pass; return a function that waits for it.

    Call it after the request was triggered.
    """
    held: list[Route] = []

    def hold(route: Route) -> None:
        if held:
            route.continue_()
        else:
            held.append(route)

    def first() -> Route:
        for _ in range(int(TIMEOUT / 10)):
            if held:
                break
            page.wait_for_timeout(10)  # milliseconds
        return held[0]

    page.route(address, hold)
    return first


def title_field(page: Page) -> Locator:
    return page.get_by_role("textbox", name="Title", exact=True)


def edit(page: Page, title: str) -> None:
    page.get_by_role("link", name=f"Edit: {title}", exact=True).click()
    expect(title_field(page)).to_be_focused()
