"""Fixtures of the stories: a server, browsers with and without scripts, Alice's list.

A test module uses them by naming this one in `pytest_plugins`.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, Request

from tests.support.browser_fixtures import (
    BROWSERS,
    TIMEOUT,
    Account,
    new_account,
    running_server,
)
from tests.support.page_console import PageConsole
from tests.support.stories import Watch, log_in


# Not of session scope: Playwright's loop would run in the thread of other tests' loops.
@pytest.fixture(scope="module")
def browser(request: pytest.FixtureRequest) -> Iterator[Browser]:
    """Yield Chromium, or the browser that a test names (`in_each_browser`)."""
    with BROWSERS[getattr(request, "param", "Chromium")]() as running:
        yield running


@pytest.fixture(scope="module")
def address(database_url: str, short_folder: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    folder = short_folder / request.module.__name__.rpartition(".")[2]
    with running_server(folder, TASKAPP_DATABASE_URL=database_url) as url:
        yield url


@pytest.fixture
def entrance(address: str) -> str:
    """Return the URL that browsers open; a module may put a proxy in between."""
    return address


@pytest.fixture(params=["scripts on", "scripts off"])
def context(
    request: pytest.FixtureRequest, browser: Browser, entrance: str
) -> Iterator[BrowserContext]:
    made = browser.new_context(
        base_url=entrance,
        locale="en-GB",
        java_script_enabled=request.param == "scripts on",
        reduced_motion="reduce",  # without waiting for transitions
    )
    made.set_default_timeout(TIMEOUT)
    yield made
    made.close()


@pytest.fixture
def has_scripts(context: BrowserContext, request: pytest.FixtureRequest) -> bool:
    """Return whether this browser runs scripts."""
    return "scripts on" in request.node.name


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """Yield a page; an error of a script fails the test."""
    made = context.new_page()
    failures: list[str] = []
    made.on("pageerror", lambda error: failures.append(str(error)))
    yield made
    assert failures == []


@pytest.fixture
def account(context: BrowserContext) -> Account:
    made = new_account("alice")
    sent = {"email": made.email, "password": made.password}
    assert context.request.post("/api/auth/register", data=sent).status == 201
    return made


@pytest.fixture
def tasks(page: Page, account: Account) -> Page:
    """Return the list of a user who has just logged in."""
    log_in(page, account)
    return page


@pytest.fixture
def watch(page: Page) -> Watch:
    """Return the requests of the page from now on."""
    seen = Watch()

    def note(request: Request) -> None:
        kind = seen.loads if request.is_navigation_request() else seen.fetches
        kind.append(f"{request.method} {request.url}")

    page.on("request", note)
    return seen


@pytest.fixture
def said(page: Page, entrance: str) -> Iterator[list[str]]:
    """Yield dialogs, complaints and foreign requests of the page; none may be there at the end."""
    console = PageConsole(page)
    heard = console.complaints

    def hear(dialog: Dialog) -> None:
        heard.append(dialog.message)
        dialog.dismiss()

    def note(sent: Request) -> None:
        if not sent.url.startswith(f"{entrance}/"):
            heard.append(sent.url)

    page.on("dialog", hear)
    page.on("request", note)
    yield heard
    assert heard == []
