"""The main stories in Firefox and WebKit, by what a person does and sees.

Whatever depends on the browser is here: events, focus, forms, history, styles. Chromium has the
stories in full (test_stories.py and others).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support.browser_fixtures import (
    TIMEOUT,
    Account,
    new_account,
    running_firefox,
    running_server,
)
from tests.support.windows import PlaywrightWindow, Window, running_display, running_webkit

NEW_TITLE = "#new-title"
ROWS = "document.querySelectorAll('.task').length"
TITLE_OF_FIRST = "document.querySelector('.task .title').textContent"
FOCUSED = "document.activeElement"
WindowOpener = Callable[[], AbstractContextManager[Window]]


@pytest.fixture(scope="module")
def address(database_url: str, short_folder: Path) -> Iterator[str]:
    with running_server(short_folder / "other", TASKAPP_DATABASE_URL=database_url) as url:
        yield url


@contextmanager
def firefox_window(firefox: Browser, address: str) -> Iterator[Window]:
    context = firefox.new_context(base_url=address)
    context.set_default_timeout(TIMEOUT)
    page = context.new_page()
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    yield PlaywrightWindow(page)
    context.close()
    assert failures == []


@pytest.fixture(scope="module", params=["Firefox", "WebKit"])
def open_window(request: pytest.FixtureRequest, address: str) -> Iterator[WindowOpener]:
    """Yield a function that opens a window with a new profile."""
    with ExitStack() as ends:
        if request.param == "Firefox":
            firefox = ends.enter_context(running_firefox())
            yield lambda: firefox_window(firefox, address)
        else:
            display = ends.enter_context(running_display())
            yield lambda: running_webkit(display, address)


@pytest.fixture
def window(open_window: WindowOpener) -> Iterator[Window]:
    """Yield a window of a stranger."""
    with open_window() as opened:
        yield opened


def sign_up(window: Window) -> Account:
    """Register and log in by the forms, as a new user."""
    account = new_account("alice")
    window.open("/register")
    send_credentials(window, account)
    window.wait_for("location.pathname === '/login'")
    send_credentials(window, account)
    window.wait_for("location.pathname === '/tasks'")
    return account


def send_credentials(window: Window, account: Account) -> None:
    window.fill("[name=email]", account.email)
    window.fill("[name=password]", account.password)
    window.click("main form button:not([type=button])")


def add(window: Window, *titles: str) -> None:
    """Type titles into the list, each with Enter."""
    for number, title in enumerate(titles, start=1):
        window.fill(NEW_TITLE, title)
        window.press("Enter")
        window.wait_for(f"{ROWS} === {number}")


def test_an_account_is_made_and_logged_in(window: Window) -> None:
    account = sign_up(window)
    assert account.email in window.evaluate("document.body.textContent")


def test_tasks_are_added_ticked_and_filtered(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    assert window.evaluate(TITLE_OF_FIRST) == "Water the plants"
    window.click(".task .check")
    window.wait_for("document.querySelector('.check[aria-checked=true]')")
    window.click(".filter a:last-child")
    window.wait_for(f"location.search === '?status=completed' && {ROWS} === 1")
    window.click(".task .check")
    window.wait_for("document.querySelector('.filter a:last-child .count').textContent === '0'")


def test_a_task_is_edited_in_the_list(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    window.click(".task .links a")
    window.wait_for("document.activeElement.name === 'title'")
    window.fill(".editor [name=title]", "Water the plants twice")
    window.press("Enter")
    window.wait_for(f"{TITLE_OF_FIRST} === 'Water the plants twice'")


def test_a_task_is_deleted_after_a_question(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    window.click(".task .links a:last-child")
    window.click("button.danger")
    window.wait_for(f"{ROWS} === 1 && {TITLE_OF_FIRST} === 'Buy milk'")
