"""A second click is the first one, whatever the line: each form of the site, in the browsers.

tests/pages/test_second_clicks.py counts what is stored afterwards.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Locator, Page, Request, expect

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from tests.faults.proxy import Proxy
from tests.support.browser_fixtures import TIMEOUT, Account, new_account
from tests.support.page_story import route_of
from tests.support.stories import (
    ROUND_TRIPS,
    field_of_new_task,
    have,
    in_each_browser,
    link,
    slow_down,
)

pytest_plugins = ["tests.support.story_fixtures"]

NEW_PASSWORD = "AnotherPass456!"
# Milliseconds before each click, also after the page has changed.
CLICKS = """button => {
    for (const pause of [0, 30, 250]) setTimeout(() => button.click(), pause);
}"""
BETWEEN_CLICKS = 100  # milliseconds


@dataclass
class Person:
    """Somebody with an account, a browser and a line of their own, and the forms they sent."""

    page: Page
    account: Account
    line: Proxy
    round_trip: int
    has_scripts: bool
    sent: list[str] = field(default_factory=list)

    def listen(self, request: Request) -> None:
        """Note the route of a form that is sent."""
        if request.method == "POST":
            self.sent.append(route_of(urlsplit(request.url).path))

    def click_twice(self, button: Locator) -> None:
        """Click a button, and again before the response can be there."""
        self.sent.clear()
        if self.has_scripts:
            button.evaluate(CLICKS)
            return
        button.scroll_into_view_if_needed()
        place = button.bounding_box()
        assert place
        for _ in range(2):
            self.page.mouse.click(place["x"] + 5, place["y"] + 5)
            self.page.wait_for_timeout(BETWEEN_CLICKS)


def button_of(page: Page, name: str) -> Locator:
    return page.get_by_role("main").get_by_role("button", name=name, exact=True)


def confirm(page: Page, path: str, button: str, password: str) -> Locator:
    """Fill in the password of a question about the account; return its button."""
    page.goto(path)
    page.get_by_label("Password", exact=True).fill(password)
    return button_of(page, button)


def register(page: Page, account: Account) -> Locator:
    page.goto("/register")
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    return button_of(page, "Create account")


def log_in(page: Page, account: Account) -> Locator:
    have(page.context, account, "Buy milk", "Water the plants")
    have(page.context, account, "Done", "Done too", status="completed")
    page.goto("/login")
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password", exact=True).fill(account.password)
    return button_of(page, "Log in")


def add(page: Page, account: Account) -> Locator:
    field_of_new_task(page).fill("Call Ada")
    return button_of(page, "Add")


def add_several(page: Page, account: Account) -> Locator:
    page.get_by_text("Add multiple tasks").click()
    page.get_by_label("Tasks", exact=True).fill("Call Bea\nCall Cem")
    return button_of(page, "Add tasks")


def edit(page: Page, account: Account) -> Locator:
    page.goto(link(page, "Edit: Buy milk").get_attribute("href") or "")
    page.get_by_label("Title").fill("Buy bread")
    return button_of(page, "Save")


def delete(page: Page, account: Account) -> Locator:
    link(page, "Delete: Buy bread").click()
    return button_of(page, "Delete")


def undo(page: Page, account: Account) -> Locator:
    return page.get_by_role("button", name="Undo")


def delete_completed(page: Page, account: Account) -> Locator:
    page.goto("/tasks/completed/delete")
    return button_of(page, "Delete")


def choose_a_theme(page: Page, account: Account) -> Locator:
    return page.get_by_role("button", name="Dark")


def make_a_token(page: Page, account: Account) -> Locator:
    page.goto("/account")
    page.get_by_text("New token").click()
    page.get_by_label("Name").fill("Backups")
    page.get_by_label("Your password").fill(account.password)
    return button_of(page, "Create token")


def revoke_it(page: Page, account: Account) -> Locator:
    page.goto("/account")
    path = link(page, "Revoke: Backups").get_attribute("href") or ""
    return confirm(page, path, "Revoke token", account.password)


def end_all_others(page: Page, account: Account) -> Locator:
    path = "/account/sessions/others/end"
    return confirm(page, path, "Log out everywhere else", account.password)


def change_the_password(page: Page, account: Account) -> Locator:
    page.goto("/account")
    page.get_by_text("Change password").click()
    page.get_by_label("Current password").fill(account.password)
    page.get_by_label("New password").fill(NEW_PASSWORD)
    return button_of(page, "Update password")


def log_out(page: Page, account: Account) -> Locator:
    return page.get_by_role("button", name="Log out", exact=True)


def log_in_again(page: Page, account: Account) -> Locator:
    page.get_by_label("Email").fill(account.email)
    page.get_by_label("Password", exact=True).fill(NEW_PASSWORD)
    return button_of(page, "Log in")


def delete_the_account(page: Page, account: Account) -> Locator:
    return confirm(page, "/account/delete", "Delete my account", NEW_PASSWORD)


# What is clicked twice, and what the page says at the end; each begins where the one before ended.
STORY: list[tuple[Callable[[Page, Account], Locator], str]] = [
    (register, "Account created."),
    (log_in, "All 4 Pending 2 Completed 2"),
    (add, "All 5 Pending 3 Completed 2"),
    (add_several, "All 7 Pending 5 Completed 2"),
    (edit, "Task saved."),
    (delete, "Task deleted."),
    (undo, "All 7 Pending 5 Completed 2"),
    (delete_completed, "2 completed tasks deleted."),
    (choose_a_theme, "All 5 Pending 5 Completed 0"),
    (make_a_token, "Your new token"),
    (revoke_it, "Token revoked."),
    (end_all_others, "2 sessions logged out."),  # `have` began both
    (change_the_password, "Password changed."),
    (log_out, "You have been logged out."),
    (log_in_again, "All 5 Pending 5 Completed 0"),
    (delete_the_account, "Your account and all its data have been deleted."),
]
IN_THE_ROW = {"/tasks/:id/status"}  # two clicks are two wishes (test_slow_lines.py)


@pytest.fixture
def people(browser: Browser, address: str) -> Iterator[list[Person]]:
    """Yield one person with scripts for each round trip, and one without."""
    kinds = [(round_trip, True) for round_trip in ROUND_TRIPS] + [(ROUND_TRIPS[-1], False)]
    with ExitStack() as ends:
        found = []
        for round_trip, has_scripts in kinds:
            line = ends.enter_context(Proxy(urlsplit(address).port or 0))
            context = browser.new_context(
                base_url=f"http://127.0.0.1:{line.port}",
                locale="en-GB",
                java_script_enabled=has_scripts,
                reduced_motion="reduce",
            )
            ends.callback(context.close)
            context.set_default_timeout(TIMEOUT)
            page = context.new_page()
            person = Person(page, new_account("alice"), line, round_trip, has_scripts)
            page.on("request", person.listen)
            found.append(person)
        yield found


@in_each_browser
def test_a_second_click_is_the_first_one(people: list[Person]) -> None:
    forms = set()
    for prepare, told in STORY:
        buttons = [prepare(person.page, person.account) for person in people]
        for person, button in zip(people, buttons, strict=True):
            slow_down(person.line, person.round_trip)
            person.click_twice(button)
        for person in people:
            expect(person.page.locator("body")).to_contain_text(told)
            expect(person.page.get_by_role("alert")).to_have_count(0)
            assert len(person.sent) == 1 or not person.has_scripts, person.sent
            person.line.heal()
            forms |= set(person.sent)
    pages = {
        path
        for path, handler in ROUTES
        if issubclass(handler, PageHandler) and "POST" in handler.allowed_methods()
    }
    assert forms == pages - IN_THE_ROW
