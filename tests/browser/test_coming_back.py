"""The place is kept, the list is fresh, and nobody sees what another person typed."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser_fixtures import Account, new_account
from tests.support.server_process import wait_until
from tests.support.stories import (
    add,
    add_several,
    box,
    edit,
    enter,
    expect_counts,
    field_of_new_task,
    flash_message,
    have,
    link,
    log_in,
    register,
    rows,
    title_field,
    titles,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts


@pytest.fixture
def many(page: Page, context: BrowserContext, account: Account) -> Page:
    """Return a list of 120 tasks, of which 100 are shown."""
    have(context, account, *(f"Task {number}" for number in range(1, 121)))
    log_in(page, account)
    link(page, "Load more").click()
    expect(titles(page)).to_have_count(100)
    return page


def be_away(page: Page, hours: int) -> None:
    """Hide the page, let time pass, and show it again."""
    show = """hidden => {
        Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
        document.dispatchEvent(new Event("visibilitychange", { bubbles: true }));
    }"""
    page.evaluate(show, True)
    page.clock.fast_forward(1000 * 60 * 60 * hours)
    page.evaluate(show, False)


# The place


def keep_it(page: Page) -> None:
    link(page, "Delete: Task 81").click()
    link(page, "Cancel").click()


def go_back(page: Page) -> None:
    link(page, "Delete: Task 81").click()
    link(page, "Cancel").wait_for()
    page.go_back()


def change_the_theme(page: Page) -> None:
    box(page, "Task 81").focus()
    page.get_by_role("button", name="Dark").evaluate("button => button.click()")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def reload(page: Page) -> None:
    page.reload()


def tick(page: Page) -> None:
    box(page, "Task 81").click()
    expect(flash_message(page)).to_contain_text("Task completed.")


WAYS: list[Callable[[Page], None]] = [keep_it, go_back, change_the_theme, reload, tick]


@pytest.mark.parametrize("way", WAYS)
def test_the_place_is_kept(many: Page, way: Callable[[Page], None]) -> None:
    box(many, "Task 81").scroll_into_view_if_needed()
    box(many, "Task 81").focus()
    before = many.evaluate("scrollY")
    assert before > 1000
    way(many)
    wait_until(lambda: many.evaluate("scrollY") == pytest.approx(before, abs=3))
    # What is ticked leaves after a moment.
    expect(titles(many)).to_have_count(99 if way is tick else 100)
    expect(box(many, "Task 82")).to_be_in_viewport()
    assert many.evaluate("scrollY") == pytest.approx(before, abs=3)


def test_whoever_deletes_is_at_the_neighbor(many: Page) -> None:
    link(many, "Delete: Task 81").click()
    many.get_by_role("button", name="Delete").click()
    expect(flash_message(many)).to_contain_text("Task deleted.")
    expect(box(many, "Task 82")).to_be_focused()
    expect(box(many, "Task 82")).to_be_in_viewport()
    expect(box(many, "Task 81")).to_have_count(0)
    expect(box(many, "Task 1")).to_have_count(1)


def test_a_reload_begins_where_the_page_was_without_more_rows(many: Page) -> None:
    many.goto("/tasks?status=pending")
    box(many, "Task 40").scroll_into_view_if_needed()
    before = many.evaluate("scrollY")
    assert before > 300
    many.reload()
    wait_until(lambda: many.evaluate("scrollY") == pytest.approx(before, abs=3))


# Fresh when one comes back


def test_after_a_while_away_the_list_is_renewed_and_what_is_edited_stays(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    tasks.clock.install()
    add_several(tasks, "One", "Two", "Three")
    edit(tasks, "Two")
    title_field(tasks).fill("Half a sent")
    other = context.new_page()
    other.goto("/tasks")
    box(other, "One").click()
    expect(flash_message(other)).to_contain_text("Task completed.")
    have(context, account, "From the telephone")
    link(other, "Delete: Three").click()
    other.get_by_role("button", name="Delete").click()
    expect(flash_message(other)).to_contain_text("Task deleted.")
    be_away(tasks, hours=3)
    expect(titles(tasks).first).to_have_text("From the telephone")
    expect(box(tasks, "One")).to_be_checked()
    expect(box(tasks, "Three")).to_have_count(0)
    expect(title_field(tasks)).to_have_value("Half a sent")
    expect(title_field(tasks)).to_be_focused()
    expect_counts(tasks, 3, 2, 1)


@pytest.mark.parametrize("hours", [0, 5, -5])
def test_times_age_by_the_clock_of_the_server(tasks: Page, hours: int) -> None:
    tasks.clock.install(time=datetime.now(UTC) + timedelta(hours=hours))
    tasks.reload()
    add(tasks, "Buy milk")
    tasks.clock.fast_forward(1000 * 60 * 60 * 3)
    expect(rows(tasks).locator("time")).to_have_text("3 hours ago")


def test_a_tick_of_a_task_that_is_gone_removes_its_row_and_says_so(
    tasks: Page, context: BrowserContext
) -> None:
    add_several(tasks, "One", "Two")
    other = context.new_page()
    other.goto("/tasks")
    link(other, "Delete: One").click()
    other.get_by_role("button", name="Delete").click()
    expect(flash_message(other)).to_contain_text("Task deleted.")
    box(tasks, "One").click()
    expect(flash_message(tasks)).to_have_text("Task not found")
    expect(titles(tasks)).to_have_text(["Two"])


def test_a_page_that_the_browser_kept_is_loaded_again(tasks: Page) -> None:
    add(tasks, "A secret")
    tasks.context.clear_cookies()
    with tasks.expect_navigation():
        tasks.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(tasks.get_by_role("heading", name="Log in")).to_be_visible()
    expect(tasks.get_by_text("A secret")).to_have_count(0)


# Of another person


def test_what_one_typed_is_not_shown_to_the_next_in_the_same_tab(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    bob = new_account("bob")
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("A secret: call the lawyer")
    field_of_new_task(tasks).fill("A secret: call the doctor")
    tasks.on("dialog", lambda dialog: dialog.accept())
    context.clear_cookies()
    register(tasks, bob)
    log_in(tasks, bob)
    expect(field_of_new_task(tasks)).to_have_value("")
    assert "secret" not in tasks.evaluate("JSON.stringify({ ...sessionStorage })")
    context.clear_cookies()
    log_in(tasks, account)
    expect(field_of_new_task(tasks)).to_have_value("")


def test_a_session_that_ended_keeps_the_draft_of_the_same_account(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    field_of_new_task(tasks).fill("Typed for long")
    tasks.on("dialog", lambda dialog: dialog.accept())
    context.clear_cookies()
    tasks.goto("/tasks")
    enter(tasks, account)
    expect(field_of_new_task(tasks)).to_have_value("Typed for long")


def test_a_logout_is_told_to_other_tabs(tasks: Page, context: BrowserContext) -> None:
    other = context.new_page()
    other.goto("/tasks")
    field_of_new_task(other).fill("A secret")
    tasks.get_by_role("button", name="Log out").click()
    expect(flash_message(tasks)).to_contain_text("You have been logged out.")
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    assert other.evaluate("Object.keys(sessionStorage)") == []


def test_a_page_of_an_account_takes_no_list_of_another(
    tasks: Page, context: BrowserContext, browser: Browser
) -> None:
    add(tasks, "Buy milk")
    other = context.new_page()
    bob = new_account("bob")
    other.goto("/tasks")
    context.clear_cookies()
    register(other, bob)
    log_in(other, bob)
    add(other, "Of Bob")
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_have_text("This page is out of date. Reload it")
    expect(box(tasks, "Buy milk")).not_to_be_checked()
    expect(box(tasks, "Of Bob")).to_have_count(0)
    link(tasks, "Reload it").click()
    expect(titles(tasks)).to_have_text(["Of Bob"])
