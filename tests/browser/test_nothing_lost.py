"""The script loses no input when something fails: the server, the session, or the page."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Dialog, Page, expect

from tests.support.browser_fixtures import Account
from tests.support.stories import (
    add,
    add_several,
    box,
    edit,
    enter,
    field_of_new_task,
    flash_message,
    hold_the_first,
    link,
    open_completed,
    path_of,
    rows,
    title_field,
    titles,
    unsaved,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

BAD = "rgb(168, 32, 26)"  # --bad of the light theme
AWAY = "Cannot connect to the server. Nothing is lost. Try again in a moment."


def cut(page: Page, address: str = "**/tasks**") -> None:
    """Block the requests of the page."""
    page.route(address, lambda route: route.abort())


def spoil_csrf_tokens(page: Page) -> None:
    """Make the page older than its session."""
    page.locator("[name=csrf_token]").evaluate_all(
        "nodes => nodes.forEach(node => { node.value = 'x' })"
    )


def test_without_the_server_a_box_goes_back_and_the_reason_is_said(tasks: Page) -> None:
    add(tasks, "Buy milk")
    cut(tasks)
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_have_text(AWAY)
    expect(box(tasks, "Buy milk")).not_to_be_checked()
    tasks.get_by_role("button", name="Dismiss").click()
    expect(flash_message(tasks)).to_be_empty()
    tasks.unroute("**/tasks**")
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(box(tasks, "Buy milk")).to_be_checked()


def test_without_the_server_what_was_typed_stays(tasks: Page) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("Buy bread")
    cut(tasks)
    title_field(tasks).press("Enter")
    expect(flash_message(tasks)).to_have_text(AWAY)
    expect(title_field(tasks)).to_have_value("Buy bread")
    field_of_new_task(tasks).fill("Another")
    field_of_new_task(tasks).press("Enter")
    expect(unsaved(tasks)).to_contain_text("Another")
    expect(unsaved(tasks).get_by_role("alert")).to_have_text(AWAY)
    tasks.unroute("**/tasks**")
    tasks.get_by_role("button", name="Try again").click()
    expect(unsaved(tasks)).to_have_count(0)
    expect(titles(tasks).first).to_have_text("Another")


@pytest.mark.parametrize("body", ["", "<h1>Bad gateway</h1>"])
def test_a_response_that_is_no_page_of_ours_is_an_outage(tasks: Page, body: str) -> None:
    add(tasks, "Buy milk")
    tasks.route("**/tasks**", lambda route: route.fulfill(status=502, body=body))
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_have_text(AWAY)
    expect(box(tasks, "Buy milk")).not_to_be_checked()
    field_of_new_task(tasks).fill("Another")
    field_of_new_task(tasks).press("Enter")
    expect(unsaved(tasks)).to_contain_text("Another")
    expect(unsaved(tasks)).to_contain_text(AWAY)
    with tasks.expect_event("requestfinished"):
        link(tasks, "Edit: Buy milk").click()
    expect(flash_message(tasks)).to_have_text(AWAY)
    tasks.unroute("**/tasks**")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("Buy bread")
    tasks.route("**/tasks**", lambda route: route.fulfill(status=504, body=body))
    title_field(tasks).press("Enter")
    expect(flash_message(tasks)).to_have_text(AWAY)
    tasks.unroute("**/tasks**")
    title_field(tasks).press("Enter")
    tasks.get_by_role("button", name="Try again").click()
    expect(titles(tasks)).to_have_text(["Another", "Buy bread"])
    expect(unsaved(tasks)).to_have_count(0)


def test_without_the_server_more_is_not_loaded_and_the_link_stays(tasks: Page) -> None:
    add_several(tasks, *(f"Task {number}" for number in range(60)))
    expect(titles(tasks)).to_have_count(50)
    cut(tasks)
    link(tasks, "Load more").click()
    expect(flash_message(tasks)).to_have_text(AWAY)
    with tasks.expect_event("requestfailed"):
        link(tasks, "Edit: Task 33").click()
    expect(flash_message(tasks)).to_have_text(AWAY)
    tasks.unroute("**/tasks**")
    link(tasks, "Load more").click()
    expect(titles(tasks)).to_have_count(60)


def test_what_was_refused_is_in_the_field_again_unless_something_else_is_typed(tasks: Page) -> None:
    long = "x" * 300
    first = hold_the_first(tasks, "**/tasks")
    field_of_new_task(tasks).fill(long)
    field_of_new_task(tasks).press("Enter")
    expect(field_of_new_task(tasks)).to_have_value("")
    field_of_new_task(tasks).press_sequentially("Second")
    first().continue_()
    expect(unsaved(tasks)).to_contain_text("Must be at most 255 characters (currently 300)")
    expect(field_of_new_task(tasks)).to_have_value("Second")
    field_of_new_task(tasks).fill("")
    tasks.get_by_role("button", name="Try again").click()
    expect(field_of_new_task(tasks)).to_have_value(long)
    expect(unsaved(tasks)).to_have_count(0)
    line = tasks.locator("#add .line")
    expect(line).to_have_css("border-bottom-color", BAD)
    tasks.reload()
    expect(field_of_new_task(tasks)).to_have_value(long)


@pytest.mark.parametrize("typed", ["", "Next"])
def test_what_is_refused_ends_the_notice_of_what_was_done_before(tasks: Page, typed: str) -> None:
    first = hold_the_first(tasks, "**/tasks")
    for title in ("Buy milk", "x" * 300):
        field_of_new_task(tasks).fill(title)
        field_of_new_task(tasks).press("Enter")
    field_of_new_task(tasks).fill(typed)
    first().continue_()
    error = tasks.locator("main .error:not(:empty)")
    expect(error).to_have_text("Must be at most 255 characters (currently 300)")
    expect(flash_message(tasks)).to_be_empty()


def test_a_notice_ends_with_the_next_tick(tasks: Page) -> None:
    add_several(tasks, "Buy milk", "Water the plants")
    open_completed(tasks)
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    first = hold_the_first(tasks, "**/status")
    box(tasks, "Water the plants").focus()
    tasks.keyboard.press("x")
    expect(flash_message(tasks)).to_be_empty()
    tasks.keyboard.press("z")  # which would undo the change before
    first().continue_()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(box(tasks, "Buy milk")).to_be_checked()
    tasks.get_by_role("button", name="Undo").click()
    expect(box(tasks, "Water the plants")).not_to_be_checked()
    expect(flash_message(tasks)).to_contain_text("Task reopened.")


def test_a_page_with_an_old_csrf_token_renews_it_and_sends_once_more(tasks: Page) -> None:
    add(tasks, "Buy milk")
    spoil_csrf_tokens(tasks)
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(box(tasks, "Buy milk")).to_be_checked()
    spoil_csrf_tokens(tasks)
    field_of_new_task(tasks).fill("Typed with care")
    field_of_new_task(tasks).press("Enter")
    expect(titles(tasks)).to_have_text(["Typed with care", "Buy milk"])
    expect(unsaved(tasks)).to_have_count(0)


def test_a_text_that_is_too_long_for_the_server_is_in_its_field_again(tasks: Page) -> None:
    tasks.get_by_text("Add description").click()
    tasks.get_by_label("Description").fill("word " * 60_000)
    field_of_new_task(tasks).fill("The whole book")
    field_of_new_task(tasks).press("Enter")
    expect(flash_message(tasks)).to_have_text("Request too large")
    expect(field_of_new_task(tasks)).to_have_value("The whole book")
    tasks.get_by_label("Description").fill("Chapter one")
    field_of_new_task(tasks).press("Enter")
    expect(rows(tasks)).to_contain_text("Chapter one")


def test_a_session_that_ended_leads_to_the_login_page(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    add(tasks, "Buy milk")
    context.clear_cookies(name=re.compile("-session$"))
    box(tasks, "Buy milk").click()
    expect(tasks.get_by_role("heading", name="Log in")).to_be_visible()
    assert path_of(tasks).startswith("/login")
    enter(tasks, account)
    expect(box(tasks, "Buy milk")).not_to_be_checked()


def test_a_session_that_was_ended_elsewhere_is_told_on_the_login_page(
    tasks: Page, context: BrowserContext, browser: Browser
) -> None:
    add(tasks, "Buy milk")
    elsewhere = browser.new_context(storage_state=context.storage_state())
    other = elsewhere.new_page()
    other.goto(tasks.url)
    other.get_by_role("button", name="Log out").click()
    expect(other.get_by_role("heading", name="Log in")).to_be_visible()
    elsewhere.close()
    box(tasks, "Buy milk").click()
    expect(tasks.get_by_role("heading", name="Log in")).to_be_visible()
    expect(tasks.get_by_role("status")).to_have_text("Your session has ended. Log in to continue.")


def test_a_draft_survives_a_reload_until_it_is_sent(tasks: Page) -> None:
    tasks.get_by_text("Add description").click()
    tasks.get_by_label("Description").fill("Oat")
    field_of_new_task(tasks).fill("Buy milk")
    tasks.reload()
    expect(field_of_new_task(tasks)).to_have_value("Buy milk")
    expect(tasks.get_by_label("Description")).to_have_value("Oat")
    tasks.get_by_role("button", name="Add", exact=True).click()
    expect(rows(tasks)).to_contain_text("Oat")
    tasks.reload()
    expect(rows(tasks)).to_have_count(1)
    expect(field_of_new_task(tasks)).to_have_value("")


def test_a_draft_of_an_older_version_is_not_put_over_a_newer(
    tasks: Page, context: BrowserContext
) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("Old draft")
    other = context.new_page()
    other.goto("/tasks")
    edit(other, "Buy milk")
    title_field(other).fill("By the other")
    title_field(other).press("Enter")
    expect(flash_message(other)).to_contain_text("Task saved.")
    tasks.goto("/tasks")
    edit(tasks, "By the other")
    expect(title_field(tasks)).to_have_value("By the other")


def test_a_draft_of_one_task_is_kept_while_another_is_edited(tasks: Page) -> None:
    add_several(tasks, "One", "Two")
    edit(tasks, "One")
    title_field(tasks).fill("Half a sent")
    edit(tasks, "Two")
    tasks.keyboard.press("Escape")
    edit(tasks, "One")
    expect(title_field(tasks)).to_have_value("Half a sent")


def test_nothing_that_was_typed_stays_behind_after_the_logout(tasks: Page) -> None:
    field_of_new_task(tasks).fill("A secret")
    tasks.get_by_role("button", name="Log out").click()
    expect(flash_message(tasks)).to_have_text("You have been logged out.")
    assert tasks.evaluate("Object.keys(sessionStorage)") == []


@pytest.mark.parametrize("typed", ["", "Unsaved"])
def test_whoever_leaves_with_unsaved_text_is_asked(tasks: Page, typed: str) -> None:
    asked: list[str] = []

    def response(dialog: Dialog) -> None:
        asked.append(dialog.type)
        dialog.accept()

    tasks.on("dialog", response)
    field_of_new_task(tasks).press_sequentially(typed)
    link(tasks, "Pending").click()  # the draft is saved, so no confirmation is needed
    tasks.wait_for_url("**/tasks?status=pending")
    assert asked == []
    expect(field_of_new_task(tasks)).to_have_value(typed)
    field_of_new_task(tasks).press("End")  # browsers ask only after user input
    with tasks.expect_event("close"):
        tasks.close(run_before_unload=True)
    assert asked == (["beforeunload"] if typed else [])


def test_whoever_has_looked_at_the_help_is_asked_as_before(tasks: Page) -> None:
    field_of_new_task(tasks).press_sequentially("Unsaved")
    tasks.get_by_role("button", name="Keyboard shortcuts").click()
    tasks.get_by_role("button", name="Close").click()
    assert tasks.evaluate("Object.keys(sessionStorage).length") == 1
    with tasks.expect_event("dialog") as asked:
        tasks.close(run_before_unload=True)
    asked.value.accept()
    assert asked.value.type == "beforeunload"


def test_nothing_that_was_typed_stays_behind_after_the_account(
    tasks: Page, account: Account
) -> None:
    field_of_new_task(tasks).fill("Typed for long")
    assert tasks.evaluate("Object.keys(sessionStorage).length") == 1
    tasks.on("dialog", lambda dialog: dialog.accept())
    tasks.goto("/account/delete")
    tasks.get_by_label("Password", exact=True).fill(account.password)
    tasks.get_by_role("button", name="Delete my account").click()
    expect(flash_message(tasks)).to_contain_text("Your account and all its data have been deleted")
    assert tasks.evaluate("Object.keys(sessionStorage)") == []
