"""The acceptance criteria and other stories, each once with scripts and once without.

The same steps lead to the same result; only the reloads differ.
"""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser_fixtures import Account, new_account
from tests.support.stories import (
    add,
    add_several,
    box,
    enter,
    expect_counts,
    field_of_new_task,
    flash_message,
    have,
    link,
    log_in,
    open_completed,
    path_of,
    register,
    rows,
    titles,
)

pytest_plugins = ["tests.support.story_fixtures"]


def test_registering_makes_the_account_and_leads_to_the_login_page(page: Page) -> None:
    account = new_account("alice")
    register(page, account)
    expect(flash_message(page)).to_have_text("Account created. Log in to get started.")
    assert path_of(page) == "/login"
    expect(page.get_by_label("Password", exact=True)).to_have_accessible_description(
        "Account created. Log in to get started."
    )
    expect(flash_message(page).get_by_role("button")).to_have_count(0)
    enter(page, account)
    page.wait_for_url("**/tasks")


def test_logging_in_leads_to_the_tasks(tasks: Page, account: Account) -> None:
    expect(tasks.get_by_text(f"Logged in as {account.email}")).to_be_visible()


def test_a_new_task_is_visible_at_once(tasks: Page) -> None:
    add(tasks, "Buy milk", "Oat, two of them")
    expect(rows(tasks)).to_have_count(1)
    expect(rows(tasks)).to_contain_text("Oat, two of them")
    expect(flash_message(tasks)).to_have_text("Task added.")


# Where a character of the text is, from the left, in CSS pixels.
LEFT_OF = """(element, character) => {
  const text = document.createTreeWalker(element, NodeFilter.SHOW_TEXT).nextNode();
  const range = document.createRange();
  range.setStart(text, text.data.indexOf(character));
  range.setEnd(text, range.startOffset + 1);
  return range.getBoundingClientRect().left;
}"""


def test_each_line_of_mixed_text_has_its_own_direction(tasks: Page) -> None:
    lines = ["Ask Dana?", "\u05dc\u05e7\u05e0\u05d5\u05ea \u05d7\u05dc\u05d1!", "Thanks;"]
    add(tasks, "Short", "\n".join(lines))
    add(tasks, "Long", "\n".join([*lines, *["More"] * 9]))
    excerpt = tasks.locator(".tasks .short")
    short = tasks.locator(".tasks p.description")
    for text in (short, excerpt, tasks.locator(".tasks details p")):
        if not text.is_visible():
            excerpt.click()
        first, end = (text.evaluate(LEFT_OF, character) for character in ("\u05dc", "!"))
        assert end < first, "a sentence from right to left ends at its left"
        for begin, mark in (("A", "?"), ("T", ";")):
            assert text.evaluate(LEFT_OF, begin) < text.evaluate(LEFT_OF, mark)
        assert text.evaluate(LEFT_OF, "A") < end, "it stands at the right"


def test_enter_adds_and_the_field_is_ready_for_the_next(tasks: Page) -> None:
    for title in ("First", "Second", "Third"):
        expect(field_of_new_task(tasks)).to_be_focused()
        tasks.keyboard.type(title)
        tasks.keyboard.press("Enter")
        expect(titles(tasks).first).to_have_text(title)
        expect(field_of_new_task(tasks)).to_have_value("")
    expect(titles(tasks)).to_have_text(["Third", "Second", "First"])


def test_several_lines_become_several_tasks_in_their_order(tasks: Page) -> None:
    add(tasks, "Before")
    add_several(tasks, "One", "", "  Two ", "Three")
    expect(titles(tasks)).to_have_text(["One", "Two", "Three", "Before"])
    expect(flash_message(tasks)).to_have_text("3 tasks added.")


def test_a_wrong_line_is_named_and_all_lines_stay(tasks: Page) -> None:
    add_several(tasks, "One", "x" * 300)
    lines = tasks.get_by_label("Tasks", exact=True)
    expect(lines).to_have_accessible_description(
        "Each line becomes a task. Line 2 must be at most 255 characters (currently 300)"
    )
    expect(lines).to_be_focused()
    expect(lines).to_have_value("One\n" + "x" * 300)
    expect(rows(tasks)).to_have_count(0)


def test_an_edited_task_is_saved_and_in_the_list(tasks: Page) -> None:
    add(tasks, "Buy milk")
    link(tasks, "Edit: Buy milk").click()
    tasks.get_by_label("Title").fill("Buy bread")
    tasks.get_by_label("Description (optional)").fill("Rye")
    tasks.get_by_role("button", name="Save").click()
    expect(titles(tasks)).to_have_text(["Buy bread"])
    expect(rows(tasks)).to_contain_text("Rye")
    expect(flash_message(tasks)).to_have_text("Task saved.")
    assert path_of(tasks) == "/tasks"


def test_an_error_is_read_out_with_its_field_which_has_the_focus(tasks: Page) -> None:
    add(tasks, "Buy milk")
    link(tasks, "Edit: Buy milk").click()
    tasks.get_by_label("Title").fill("")
    tasks.get_by_label("Description (optional)").fill("Kept")
    tasks.get_by_role("button", name="Save").click()
    field = tasks.get_by_label("Title")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description("Title is required")
    expect(field).to_be_focused()
    expect(tasks.get_by_label("Description (optional)")).to_have_value("Kept")


def test_a_task_that_is_too_long_is_kept_in_its_field(tasks: Page) -> None:
    field_of_new_task(tasks).fill("x" * 300)
    field_of_new_task(tasks).press("Enter")
    field = field_of_new_task(tasks)
    expect(field).to_have_accessible_description("Must be at most 255 characters (currently 300)")
    expect(field).to_be_focused()
    expect(field).to_have_value("x" * 300)


def test_a_conflict_shows_both_texts_and_saving_works(tasks: Page, context: BrowserContext) -> None:
    add(tasks, "Buy milk")
    link(tasks, "Edit: Buy milk").click()
    tasks.get_by_label("Title").fill("By me")
    other = context.new_page()
    other.goto("/tasks")
    link(other, "Edit: Buy milk").click()
    other.get_by_label("Title").fill("By the other")
    other.get_by_role("button", name="Save").click()
    expect(flash_message(other)).to_contain_text("Task saved.")
    tasks.get_by_role("button", name="Save").click()
    expect(tasks.get_by_role("alert")).to_contain_text("By the other")
    expect(tasks.get_by_label("Title")).to_have_value("By me")
    tasks.get_by_role("button", name="Save mine").click()
    expect(titles(tasks)).to_have_text(["By me"])


def test_a_task_is_deleted_for_good_after_a_question(tasks: Page) -> None:
    add(tasks, "Buy milk")
    link(tasks, "Delete: Buy milk").click()
    expect(tasks.get_by_role("heading", name="Delete this task?")).to_be_visible()
    tasks.get_by_role("button", name="Delete").click()
    expect(tasks.get_by_text("No tasks yet.")).to_be_visible()
    expect(flash_message(tasks)).to_contain_text("Task deleted.")


@pytest.mark.parametrize("description", ["Oat", "".join(map(chr, range(0x20000, 0x20800)))])
def test_a_deletion_is_undone_until_the_next_page(tasks: Page, description: str) -> None:
    add(tasks, "Buy milk", description)
    link(tasks, "Delete: Buy milk").click()
    tasks.get_by_role("button", name="Delete").click()
    expect(titles(tasks)).to_have_count(0)
    flash_message(tasks).get_by_role("button", name="Undo").click()
    expect(flash_message(tasks)).to_contain_text("Task restored.")
    expect(titles(tasks)).to_have_text(["Buy milk"])
    expect(rows(tasks)).to_contain_text(description[:3])
    tasks.goto("/tasks")
    expect(tasks.get_by_role("button", name="Undo")).to_have_count(0)


def test_a_completed_task_differs_by_more_than_color(tasks: Page) -> None:
    add(tasks, "Done")
    add(tasks, "To do")
    box(tasks, "Done").click()
    open_completed(tasks)
    expect(box(tasks, "Done")).to_be_checked()
    expect(box(tasks, "To do")).not_to_be_checked()
    expect(tasks.get_by_text("Completed just now").filter(visible=True)).to_have_count(1)
    line = "node => getComputedStyle(node).textDecorationLine"
    assert titles(tasks).evaluate_all("nodes => nodes.map(" + line + ")") == [
        "none",
        "line-through",
    ]


def test_completing_is_undone_at_its_box_or_by_the_flash_message(tasks: Page) -> None:
    add(tasks, "Buy milk")
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect_counts(tasks, 1, 0, 1)
    open_completed(tasks)
    box(tasks, "Buy milk").press("Space")
    expect(flash_message(tasks)).to_contain_text("Task reopened.")
    tasks.get_by_role("button", name="Undo").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    open_completed(tasks)
    expect(box(tasks, "Buy milk")).to_be_checked()


def test_a_task_that_is_completed_among_the_pending_can_be_taken_back_there(
    tasks: Page, *, has_scripts: bool
) -> None:
    add(tasks, "Buy milk")
    link(tasks, "Pending").click()
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(rows(tasks)).to_have_count(1 if has_scripts else 0)
    tasks.get_by_role("button", name="Undo").click()
    expect(flash_message(tasks)).to_contain_text("Task reopened.")
    expect(box(tasks, "Buy milk")).not_to_be_checked()
    assert path_of(tasks) == "/tasks?status=pending"


def test_a_filter_is_an_address_with_its_count(tasks: Page) -> None:
    for title in ("One", "Two", "Three"):
        add(tasks, title)
    box(tasks, "Two").click()
    expect_counts(tasks, 3, 2, 1)
    for name, found, address in [
        ("Completed 1", ["Two"], "/tasks?status=completed"),
        ("Pending 2", ["Three", "One"], "/tasks?status=pending"),
        ("All 3", ["Three", "One"], "/tasks"),
    ]:
        link(tasks, name).click()
        expect(titles(tasks)).to_have_text(found)
        assert path_of(tasks) == address
        tasks.reload()
        expect(titles(tasks)).to_have_text(found)
        expect(link(tasks, name)).to_have_attribute("aria-current", "page")
    open_completed(tasks)
    expect(titles(tasks)).to_have_text(["Three", "One", "Two"])


def test_an_empty_list_says_kindly_why(tasks: Page) -> None:
    empty = tasks.locator(".empty")
    expect(empty).to_have_text("No tasks yet. Add your first task.")
    add(tasks, "Buy milk")
    tasks.goto("/tasks?status=completed")
    expect(empty).to_have_text("No completed tasks yet. Tasks you check off appear here.")
    tasks.goto("/tasks")
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    tasks.goto("/tasks?status=pending")
    expect(empty).to_have_text("All done. Nothing left to do.")


def test_the_completed_tasks_are_deleted_together_after_a_question(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    have(context, account, "Old", "Older", status="completed")
    have(context, account, "To do")
    tasks.reload()
    tasks.locator("#completed > summary").click()
    link(tasks, "Delete completed").click()
    expect(tasks.get_by_role("heading", name="Delete 2 completed tasks?")).to_be_visible()
    tasks.get_by_role("button", name="Delete").click()
    expect(flash_message(tasks)).to_contain_text("2 completed tasks deleted.")
    expect(titles(tasks)).to_have_text(["To do"])
    expect(tasks.locator("#completed")).to_be_hidden()


def test_more_tasks_are_loaded_and_the_place_is_kept(tasks: Page, *, has_scripts: bool) -> None:
    add_several(tasks, *(f"Task {number}" for number in range(60)))
    expect(titles(tasks)).to_have_count(50)
    link(tasks, "Load more").click()
    expect(titles(tasks)).to_have_count(60 if has_scripts else 10)
    box(tasks, "Task 57").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(box(tasks, "Task 58")).to_be_in_viewport()
    link(tasks, "Delete: Task 58").click()
    tasks.get_by_role("button", name="Delete").click()
    expect(flash_message(tasks)).to_contain_text("Task deleted.")
    expect(titles(tasks)).to_have_count(58 if has_scripts else 8)
    if not has_scripts:
        link(tasks, "Back to newest").click()
    expect(titles(tasks).first).to_have_text("Task 0")


def test_a_long_description_is_opened_in_place(tasks: Page) -> None:
    add(tasks, "Read", "word " * 60 + "end")
    end = rows(tasks).get_by_text("end")
    expect(end).to_be_hidden()
    rows(tasks).get_by_text("More").click()
    expect(end).to_be_visible()
    rows(tasks).get_by_text("Less").click()
    expect(end).to_be_hidden()


def test_a_chosen_theme_stays_on_every_page_and_after_the_logout(tasks: Page) -> None:
    tasks.get_by_role("button", name="Dark").click()
    dark = "rgb(23, 24, 26)"
    expect(tasks.locator("body")).to_have_css("background-color", dark)
    expect(tasks.get_by_role("button", name="Dark")).to_have_attribute("aria-pressed", "true")
    tasks.goto("/nowhere")
    expect(tasks.locator("body")).to_have_css("background-color", dark)
    tasks.get_by_role("button", name="Log out").click()
    expect(flash_message(tasks)).to_have_text("You have been logged out.")
    expect(tasks.locator("body")).to_have_css("background-color", dark)
    tasks.get_by_role("button", name="System").click()
    expect(tasks.locator("body")).to_have_css("background-color", "rgb(253, 253, 251)")
    assert path_of(tasks) == "/login"


def test_logging_out_ends_the_session_and_leads_to_the_login_page(tasks: Page) -> None:
    tasks.get_by_role("button", name="Log out").click()
    expect(flash_message(tasks)).to_have_text("You have been logged out.")
    tasks.goto("/tasks")
    assert path_of(tasks) == "/login?next=/tasks"


def test_what_was_typed_while_the_session_ended_is_back_after_the_login(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    tasks.get_by_text("Add description").click()
    context.clear_cookies(name=re.compile("-session$"))
    tasks.get_by_label("Description").fill("\nwith a line end first")
    field_of_new_task(tasks).fill("Typed for long")
    field_of_new_task(tasks).press("Enter")
    expect(tasks.get_by_text("Your session has expired.")).to_be_visible()
    enter(tasks, account)
    expect(tasks.get_by_label("Title")).to_have_value("Typed for long")
    expect(tasks.get_by_label("Description")).to_have_value("\nwith a line end first")
    tasks.get_by_role("button", name="Save changes").click()
    expect(rows(tasks)).to_contain_text("Typed for long")


def test_a_browser_without_cookies_is_told_so_instead_of_asked_again(
    browser: Browser, address: str, context: BrowserContext, account: Account
) -> None:
    page = context.new_page()
    page.goto("/login")
    context.clear_cookies()
    enter(page, account)
    expect(page.get_by_role("alert")).to_contain_text("allow cookies for this site in your browser")
    expect(page.get_by_label("Email")).to_have_value(account.email)


def test_a_german_browser_reads_german(
    browser: Browser, context: BrowserContext, account: Account, address: str, *, has_scripts: bool
) -> None:
    german = browser.new_context(base_url=address, locale="de-DE", java_script_enabled=has_scripts)
    page = german.new_page()
    page.goto("/login")
    page.get_by_label("E-Mail-Adresse").fill(account.email)
    page.get_by_label("Passwort", exact=True).fill(account.password)
    page.get_by_role("button", name="Anmelden").click()
    page.get_by_role("textbox", name="Neue Aufgabe").fill("Milch kaufen")
    page.get_by_role("textbox", name="Neue Aufgabe").press("Enter")
    expect(flash_message(page)).to_have_text("Aufgabe hinzugefügt.")
    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(rows(page)).to_contain_text(re.compile("gerade eben|vor 1 Minute"))
    german.close()


def test_a_page_can_be_printed_without_what_only_a_screen_needs(tasks: Page) -> None:
    add(tasks, "Buy milk")
    tasks.get_by_role("button", name="Dark").click()
    expect(titles(tasks)).to_have_css("color", "rgb(235, 235, 232)")
    tasks.emulate_media(media="print")
    expect(titles(tasks)).to_be_visible()
    for part in ("footer", ".add", ".filter", ".links", "#flash"):
        expect(tasks.locator(part).first).to_be_hidden()
    expect(titles(tasks)).to_have_css("color", "rgb(28, 28, 26)")


def test_two_people_see_only_their_own(tasks: Page, context: BrowserContext) -> None:
    add(tasks, "Alice's secret")
    bob = new_account("bob")
    tasks.get_by_role("button", name="Log out").click()
    register(tasks, bob)
    log_in(tasks, bob)
    expect(rows(tasks)).to_have_count(0)
    expect(tasks.get_by_text("Alice's secret")).to_have_count(0)
