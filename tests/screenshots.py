"""Take pictures of every page: `python -m tests.screenshots`.

They go to screenshots/, one for each page, width and color scheme. The pages hold what is hard
to draw: long words, right-to-left text, emoji, errors, and nothing at all.
"""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page

from tests.browser_fixtures import (
    CHECKOUT,
    Account,
    new_account,
    running_browser,
    running_server,
)

FOLDER = CHECKOUT / "screenshots"
WIDTHS = (360, 768, 1280)
SCHEMES = ("light", "dark")
TASKS = [
    ("Book the dentist", ""),
    ("Call the landlord about the heating", "Ask for Tuesday or Wednesday.\nNumber on the fridge."),
    ("לקנות חלב 🥛 ולחם", "מהמכולת בפינה"),
    ("Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 2, ""),
    ("Read the tax letter", "https://example.com/" + "a-very-long-address/" * 12),
    ("Minutes of the meeting", "\n".join(f"{number}. A point of order" for number in range(1, 30))),
    ("Buy milk", "Oat, two of them"),
    ("Water the plants", ""),
]


def take_all() -> None:
    """Take all pictures anew."""
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    data_dir = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # short, for a socket
    try:
        with running_server(data_dir / "data") as address, running_browser() as browser:
            story = _Story(browser, address)
            story.tell()
        with (
            running_server(data_dir / "data", TASKAPP_REGISTRATION="closed") as address,
            running_browser() as browser,
        ):
            _Story(browser, address).tell_closed()
    finally:
        shutil.rmtree(data_dir)


class _Story:
    """One visit of every page, by Alice."""

    def __init__(self, browser: Browser, address: str) -> None:
        self.browser = browser
        self.address = address
        self.account = new_account("alice.with.a.rather.long.name")

    @contextmanager
    def visitor(self) -> Iterator[Page]:
        context = self.browser.new_context(base_url=self.address)
        try:
            yield context.new_page()
        finally:
            context.close()

    def tell(self) -> None:
        with self.visitor() as page:
            self.strangers_pages(page)
            self.empty_pages(page)
            self.fill(page)
            self.task_pages(page)
            self.kept_text(page.context, page)

    def tell_closed(self) -> None:
        with self.visitor() as page:
            page.goto("/register")
            take(page, "registration-closed")

    def strangers_pages(self, page: Page) -> None:
        for name in ("login", "register"):
            page.goto(f"/{name}")
            take(page, name)
        submit(page, "Make my account", email="not an address", password="12345678")
        take(page, "register-refused")
        submit(page, "Make my account", email=self.account.email, password=self.account.password)
        take(page, "login-notice")
        submit(page, "Log in", email=self.account.email, password="something else")
        take(page, "login-refused")
        page.goto("/nowhere")
        take(page, "not-found-stranger")
        page.goto("/api/docs")
        take(page, "api-docs")

    def empty_pages(self, page: Page) -> None:
        log_in(page, self.account)
        take(page, "tasks-empty")
        page.goto("/tasks?status=completed")
        take(page, "tasks-none-completed")

    def fill(self, page: Page) -> None:
        for title, description in TASKS:
            page.get_by_text("Add a description").click()
            submit(page, "Add", title=title, description=description)
        for title in ("Water the plants", "Minutes of the meeting"):
            page.get_by_role("checkbox", name=title).click()
        take(page, "tasks")

    def task_pages(self, page: Page) -> None:
        page.get_by_text("Add a description").click()
        submit(page, "Add", title="x" * 300, description="Kept")
        take(page, "tasks-refused")
        page.goto("/tasks?status=completed")
        take(page, "tasks-completed")
        page.get_by_role("link", name="Edit Minutes").click()
        take(page, "edit")
        submit(page, "Save", title="")
        take(page, "edit-refused")
        page.goto("/tasks")
        page.get_by_role("link", name="Delete Buy milk").click()
        take(page, "delete")
        page.goto("/nowhere")
        take(page, "not-found")

    def kept_text(self, context: BrowserContext, page: Page) -> None:
        page.goto("/tasks")
        page.get_by_role("link", name="Edit Buy milk").click()
        other = context.new_page()
        other.goto(page.url)
        submit(other, "Save", title="Buy oat milk")
        submit(page, "Save", title="Buy soy milk")
        take(page, "conflict")
        other.goto("/tasks")
        take(other, "focus", lambda: other.keyboard.press("Tab"))
        other.goto("/tasks")
        context.clear_cookies(name="taskapp-xsrf")
        submit(other, "Add", title="Typed for a long time")
        take(other, "form-not-trusted")
        other.goto("/tasks")
        context.clear_cookies(name="taskapp-session")
        submit(other, "Add", title="Typed for a long time")
        take(other, "session-ended")
        submit(other, "Log in", email=self.account.email, password=self.account.password)
        take(other, "typed-text-back")


def take(page: Page, name: str, before: Callable[[], None] = lambda: None) -> None:
    """Take the picture of a page at each width and in each color scheme."""
    before()
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 740})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            page.screenshot(path=FOLDER / f"{name}-{width}-{scheme}.png", full_page=True)


def submit(page: Page, button: str, **fields: str) -> None:
    """Fill the form's fields in and send it."""
    for name, text in fields.items():
        page.locator(f"main [name={name}]").fill(text)
    page.get_by_role("button", name=button, exact=True).click()


def log_in(page: Page, account: Account) -> None:
    """Log in by the form."""
    page.goto("/login")
    submit(page, "Log in", email=account.email, password=account.password)


if __name__ == "__main__":
    take_all()
