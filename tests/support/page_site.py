"""A site for Chromium: its servers, its accounts with their tasks, and visits."""

import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import APIRequestContext, Browser, BrowserContext, Page, Response

from taskapp.maintenance_mode import enable
from tests.support.browser_fixtures import (
    TIMEOUT,
    Account,
    new_account,
    running_browser,
    running_server,
)
from tests.support.database_fixtures import execute, new_database
from tests.support.page_console import PageConsole
from tests.support.sample_tasks import COMPLETED, HARD_TO_DRAW, ordinary_tasks

OPEN, STRICT, FAILING, CLOSED = "open", "strict", "failing", "closed"  # the servers
_SETTINGS: Mapping[str, dict[str, str]] = {
    OPEN: {},
    STRICT: {"TASKAPP_REGISTRATION": "closed", "TASKAPP_LOGIN_LIMIT": "1/15minute"},
    FAILING: {},
    CLOSED: {},  # for maintenance
}

# Whose visit it is. A state that changes something needs an account of its own: NEW.
NOBODY, EMPTY, FILLED, MANY, NEW = "nobody", "empty", "filled", "many", "new"
TWO_PAGES = "two pages"  # the second has one task
_TASKS: Mapping[str, list[tuple[str, str]]] = {
    EMPTY: [],
    FILLED: HARD_TO_DRAW,
    MANY: ordinary_tasks(60),
    TWO_PAGES: ordinary_tasks(51),
    NEW: [("Buy milk", "Oat, two of them")],
}


@dataclass
class Owner:
    """An account, the ids of its tasks by title, and the cookies of its browser."""

    account: Account
    tasks: dict[str, str] = field(default_factory=dict)
    cookies: list[Any] = field(default_factory=list)


class Visit:
    """An open page, and actions on it that work in any language."""

    def __init__(self, site: "Site", page: Page, owner: Owner) -> None:
        self.site = site
        self.page = page
        self.owner = owner
        self.console = PageConsole(page)
        self.document: Response | None = None
        page.on("response", self._keep_document)

    def end(self) -> None:
        """Stop listening to the page."""
        self.console.end()
        self.page.remove_listener("response", self._keep_document)

    def open(self, path: str) -> None:
        """Open a path of the site."""
        self.page.goto(path)

    def task(self, title: str, action: str = "edit") -> str:
        """Return the path of an action on a task."""
        return f"/tasks/{self.owner.tasks[title]}/{action}"

    def send(self, **fields: str) -> None:
        """Fill in fields, and send the form of the first one."""
        for name, text in fields.items():
            closed = f"main details:not([open]):has([name={name}]) > summary"
            if self.page.locator(closed).count():
                self.press(closed)
            self.page.locator(f"main [name={name}]").fill(text)
        form = f"main form:has([name={next(iter(fields))}])"
        self.press(f"{form} button:not([type=button])")

    def log_in(self) -> None:
        """Send the login form or the registration form that is open."""
        self.send(email=self.owner.account.email, password=self.owner.account.password)

    def press(self, selector: str) -> None:
        """Click the first element that a CSS selector finds."""
        self.page.locator(selector).first.click()
        self.page.wait_for_load_state()

    def forget(self, purpose: str) -> None:
        """Remove a cookie from the browser."""
        self.page.context.clear_cookies(name=re.compile(f"-{purpose}$"))

    def _keep_document(self, response: Response) -> None:
        request = response.request
        if request.is_navigation_request() and request.frame == self.page.main_frame:
            self.document = response


class Site:
    """The servers, each started when it is first needed, and the accounts on their database."""

    def __init__(self, browser: Browser, folder: Path, database_url: str, ends: ExitStack) -> None:
        self.browser = browser
        self._folder = folder
        self._database_url = database_url
        self._ends = ends
        self._addresses: dict[str, str] = {}
        self._owners: dict[str, Owner] = {}
        self._pages: dict[tuple[str, str, bool], Page] = {}

    def address(self, server: str = OPEN) -> str:
        """Return the address of a server."""
        if server not in self._addresses:
            url = self._failing_database if server == FAILING else self._database_url
            flag = self._folder / f"maintenance-{server}"
            if server == CLOSED:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                enable(flag, "New disks, until eight.")
            running = running_server(
                self._folder,
                TASKAPP_DATABASE_URL=url,
                TASKAPP_MAINTENANCE_FLAG=str(flag),
                **_SETTINGS[server],
            )
            self._addresses[server] = self._ends.enter_context(running)
        return self._addresses[server]

    @contextmanager
    def visit(
        self,
        whose: str = NOBODY,
        *,
        server: str = OPEN,
        locale: str = "en-GB",
        has_scripts: bool = True,
    ) -> Iterator[Visit]:
        """Yield a visit that shares nothing with other visits but the browser's HTTP cache."""
        owner = self.owner(whose)
        kind = (server, locale, has_scripts)
        page = self._pages.pop(kind, None)  # creating one takes longer than opening a page
        page = self._forget(page, has_scripts=has_scripts) if page else self.new_page(*kind)
        page.context.add_cookies(owner.cookies)
        visit = Visit(self, page, owner)
        try:
            yield visit
        finally:
            visit.end()
        self._pages[kind] = page

    def new_page(self, server: str = OPEN, locale: str = "en-GB", has_scripts: bool = True) -> Page:
        """Return a page in a new browser context."""
        return self._new_context(server, locale, has_scripts).new_page()

    def _new_context(
        self, server: str = OPEN, locale: str = "en-GB", has_scripts: bool = True
    ) -> BrowserContext:
        context = self.browser.new_context(
            base_url=self.address(server),
            locale=locale,
            java_script_enabled=has_scripts,
            reduced_motion="reduce",
        )
        context.set_default_timeout(TIMEOUT)
        return context

    def _forget(self, page: Page, *, has_scripts: bool) -> Page:
        page.context.clear_cookies()
        if has_scripts:
            page.goto("/robots.txt")  # only a page of the site can clear its storage
            page.evaluate("localStorage.clear(); sessionStorage.clear()")
        page.emulate_media(color_scheme="light", forced_colors="none")
        page.set_viewport_size({"width": 1280, "height": 720})
        return page

    def owner(self, whose: str) -> Owner:
        """Return an account; NEW and TWO_PAGES are another one each time."""
        if whose == NOBODY:
            return Owner(new_account("stranger"))
        if whose in {NEW, TWO_PAGES} or whose not in self._owners:
            self._owners[whose] = self._make_owner(_TASKS[whose])
        return self._owners[whose]

    def _make_owner(self, tasks: list[tuple[str, str]]) -> Owner:
        owner = Owner(new_account("alice.with.a.rather.long.name"))
        browser = self._browser_of_owners
        browser.clear_cookies()
        _add_tasks(browser.request, owner, tasks)
        _log_in(browser.request, owner.account)
        owner.cookies = list(browser.cookies())
        return owner

    @cached_property
    def _browser_of_owners(self) -> BrowserContext:
        return self._new_context()

    @cached_property
    def _failing_database(self) -> str:
        return self._ends.enter_context(new_database(self._database_url))

    @contextmanager
    def no_database(self) -> Iterator[None]:
        """Disconnect the failing server from its database."""
        name = self._failing_database.rpartition("?")[0].rpartition("/")[2]
        end = "SELECT pg_terminate_backend(pid, %s) FROM pg_stat_activity WHERE datname = %s"
        execute(self._database_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        execute(self._database_url, end, int(TIMEOUT), name)
        try:
            yield
        finally:
            execute(self._database_url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    @contextmanager
    def no_column_of_titles(self) -> Iterator[None]:
        """Make the failing server raise an unexpected error."""
        execute(self._failing_database, "ALTER TABLE tasks RENAME title TO gone")
        try:
            yield
        finally:
            execute(self._failing_database, "ALTER TABLE tasks RENAME gone TO title")


def _add_tasks(request: APIRequestContext, owner: Owner, tasks: list[tuple[str, str]]) -> None:
    """Create the account and its tasks through the API."""
    sent = {"email": owner.account.email, "password": owner.account.password}
    assert request.post("/api/auth/register", data=sent).ok
    token = request.post("/api/auth/login", data=sent).json()["token"]
    headers = {"Authorization": f"Bearer {token}"}
    for title, description in tasks:
        task = {"title": title, "description": description}
        made = request.post("/api/tasks", data=task, headers=headers)
        assert made.ok, made.text()
        owner.tasks[title] = made.json()["id"]
    for title in COMPLETED:
        if title in owner.tasks:
            path = f"/api/tasks/{owner.tasks[title]}"
            assert request.put(path, data={"status": "completed"}, headers=headers).ok


def _log_in(request: APIRequestContext, account: Account) -> None:
    """Send the login form without a page, which costs less than opening one."""
    token = re.search(r'name="csrf_token" value="([^"]+)"', request.get("/login").text())
    assert token
    form = {"csrf_token": token[1], "email": account.email, "password": account.password}
    listed = request.post("/login", form=form)
    assert (listed.status, urlsplit(listed.url).path) == (200, "/tasks")


@contextmanager
def running_site(folder: Path, database_url: str) -> Iterator[Site]:
    """Run a browser, and the servers it visits when they are needed."""
    with running_browser() as browser, ExitStack() as ends:
        yield Site(browser, folder, database_url, ends)
