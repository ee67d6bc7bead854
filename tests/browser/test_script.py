"""What the script adds: no reloads, editing in place, and small conveniences."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Error, Page, expect

from tests.support.browser_fixtures import Account, running_server
from tests.support.page_client import HOSTILE
from tests.support.page_console import PageConsole
from tests.support.stories import (
    Watch,
    add,
    add_several,
    box,
    edit,
    enter,
    expect_counts,
    field_of_new_task,
    flash_message,
    hold_the_first,
    link,
    open_completed,
    path_of,
    rows,
    title_field,
    titles,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

# No reloads


def test_no_page_is_loaded_for_adding_completing_editing_or_more(tasks: Page, watch: Watch) -> None:
    add(tasks, "Buy milk")
    add_several(tasks, *(f"Task {number}" for number in range(60)))
    expect(titles(tasks)).to_have_count(50)
    link(tasks, "Load more").click()
    expect(titles(tasks)).to_have_count(61)
    open_completed(tasks)
    box(tasks, "Buy milk").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("Buy bread")
    title_field(tasks).press("Enter")
    expect(titles(tasks).last).to_have_text("Buy bread")
    expect(titles(tasks)).to_have_count(61)
    expect_counts(tasks, 61, 60, 1)
    assert watch.loads == []


def test_what_was_loaded_is_there_again_after_going_back(tasks: Page) -> None:
    add_several(tasks, *(f"Task {number}" for number in range(70)))
    expect(titles(tasks)).to_have_count(50)
    link(tasks, "Load more").click()
    expect(titles(tasks)).to_have_count(70)
    link(tasks, "Delete: Task 65").click()
    link(tasks, "Cancel").wait_for()
    tasks.go_back()
    expect(titles(tasks)).to_have_count(70)
    expect(box(tasks, "Task 65")).to_be_in_viewport()


def test_the_next_task_can_be_typed_while_the_one_before_is_on_its_way(tasks: Page) -> None:
    first = hold_the_first(tasks, "**/tasks")
    expect(field_of_new_task(tasks)).to_be_focused()
    tasks.keyboard.type("First")
    tasks.keyboard.press("Enter")
    expect(field_of_new_task(tasks)).to_have_value("")
    tasks.keyboard.type("Sec")
    first().continue_()
    expect(titles(tasks)).to_have_text(["First"])
    expect(field_of_new_task(tasks)).to_be_focused()
    tasks.keyboard.type("ond")
    tasks.keyboard.press("Enter")
    expect(titles(tasks)).to_have_text(["Second", "First"])


def test_tasks_are_added_as_quickly_as_they_are_typed(tasks: Page) -> None:
    first = hold_the_first(tasks, "**/tasks")
    for title in ("First", "Second", "Third"):
        tasks.keyboard.type(title)
        tasks.keyboard.press("Enter")
        expect(field_of_new_task(tasks)).to_have_value("")
    tasks.keyboard.press("Enter")
    tasks.keyboard.type("Fou")
    first().continue_()
    expect(titles(tasks)).to_have_count(3)
    expect(field_of_new_task(tasks)).to_have_value("Fou")
    tasks.reload()
    expect(field_of_new_task(tasks)).to_have_value("Fou")
    assert {*titles(tasks).all_inner_texts()} == {"First", "Second", "Third"}


def test_a_double_click_makes_one_task(tasks: Page) -> None:
    field_of_new_task(tasks).fill("Buy milk")
    tasks.get_by_role("button", name="Add", exact=True).dblclick()
    expect(titles(tasks)).to_have_text(["Buy milk"])
    tasks.reload()
    expect(titles(tasks)).to_have_text(["Buy milk"])


def test_a_double_click_loads_more_once(tasks: Page, watch: Watch) -> None:
    add_several(tasks, *(f"Task {number}" for number in range(60)))
    expect(titles(tasks)).to_have_count(50)
    first = hold_the_first(tasks, "**/tasks?**")
    link(tasks, "Load more").dblclick()
    first().continue_()
    expect(titles(tasks)).to_have_text([f"Task {number}" for number in range(60)])
    assert len([fetch for fetch in watch.fetches if "after=" in fetch]) == 1


def test_a_double_click_opens_one_editor(tasks: Page, watch: Watch) -> None:
    add(tasks, "Buy milk")
    first = hold_the_first(tasks, "**/edit")
    link(tasks, "Edit: Buy milk").dblclick()
    first().continue_()
    expect(title_field(tasks)).to_be_focused()
    tasks.keyboard.type(" and bread")
    tasks.keyboard.press("Enter")
    expect(titles(tasks)).to_have_text(["Buy milk and bread"])
    asked = [fetch for fetch in watch.fetches if fetch.startswith("GET")]
    assert len([fetch for fetch in asked if fetch.endswith("/edit")]) == 1


def test_who_loads_more_while_the_place_is_restored_loads_it_once(tasks: Page) -> None:
    add_several(tasks, *(f"Task {number}" for number in range(60)))
    expect(titles(tasks)).to_have_count(50)
    link(tasks, "Load more").click()
    expect(titles(tasks)).to_have_count(60)
    first = hold_the_first(tasks, "**/tasks?**")
    tasks.reload()
    link(tasks, "Load more").click()
    first().continue_()
    expect(titles(tasks)).to_have_text([f"Task {number}" for number in range(60)])


def test_a_line_end_without_its_key_saves_a_title(tasks: Page) -> None:
    field_of_new_task(tasks).fill("Buy milk")
    # As keyboards of telephones send it
    enter = {"type": "keyDown", "key": "Unidentified", "windowsVirtualKeyCode": 229, "text": "\r"}
    tasks.context.new_cdp_session(tasks).send("Input.dispatchKeyEvent", enter)
    expect(titles(tasks)).to_have_text(["Buy milk"])
    expect(field_of_new_task(tasks)).to_have_value("")


# Editing in place


WAYS_OUT: dict[str, Callable[[Page], None]] = {
    "Escape": lambda page: page.keyboard.press("Escape"),
    "Cancel": lambda page: link(page, "Cancel").click(),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_giving_up_an_edit_brings_the_row_back(tasks: Page, way: str) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    tasks.keyboard.type("Something else")
    WAYS_OUT[way](tasks)
    expect(titles(tasks)).to_have_text(["Buy milk"])
    expect(link(tasks, "Edit: Buy milk")).to_be_focused()
    edit(tasks, "Buy milk")
    expect(title_field(tasks)).to_have_value("Buy milk")


def test_escape_gives_up_no_edit_from_elsewhere(tasks: Page) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    tasks.keyboard.type("Something else")
    tasks.get_by_role("button", name="Keyboard shortcuts").click()
    tasks.keyboard.press("Escape")
    expect(tasks.get_by_role("dialog")).to_have_count(0)
    field_of_new_task(tasks).press("Escape")
    expect(title_field(tasks)).to_have_value(re.compile("Something else"))


def test_only_one_task_is_edited_at_a_time(tasks: Page) -> None:
    add(tasks, "First")
    add(tasks, "Second")
    edit(tasks, "First")
    edit(tasks, "Second")
    expect(title_field(tasks)).to_have_count(1)
    expect(title_field(tasks)).to_have_value("Second")


def test_no_key_completes_a_task_while_it_is_edited(tasks: Page) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    expect(box(tasks, "Buy milk")).to_be_hidden()
    tasks.get_by_role("button", name="Save").focus()
    tasks.keyboard.press("x")
    tasks.get_by_role("button", name="Save").click()
    expect(flash_message(tasks)).to_have_text("Task saved.")
    expect(box(tasks, "Buy milk")).not_to_be_checked()


def test_an_edit_of_a_task_that_is_gone_keeps_the_text(
    tasks: Page, context: BrowserContext
) -> None:
    add(tasks, "Buy milk")
    edit(tasks, "Buy milk")
    title_field(tasks).fill("Typed with care")
    other = context.new_page()
    other.goto("/tasks")
    link(other, "Delete: Buy milk").click()
    other.get_by_role("button", name="Delete").click()
    expect(flash_message(other)).to_contain_text("Task deleted.")
    tasks.get_by_role("button", name="Save").click()
    expect(tasks.get_by_role("heading", name="Task not found")).to_be_visible()
    tasks.get_by_role("button", name="Save as new task").click()
    expect(titles(tasks)).to_have_text(["Typed with care"])


# Small conveniences


def test_pasted_lines_are_shown_before_they_become_tasks(
    tasks: Page, context: BrowserContext
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    field_of_new_task(tasks).focus()
    tasks.evaluate("navigator.clipboard.writeText('One\\nTwo')")
    tasks.keyboard.press("Control+V")
    lines = tasks.get_by_label("Tasks", exact=True)
    expect(lines).to_have_value("One\nTwo")
    expect(lines).to_be_focused()
    expect(lines).to_have_accessible_description("Each line becomes a task.")
    expect(rows(tasks)).to_have_count(0)
    field_of_new_task(tasks).focus()
    tasks.keyboard.press("Control+V")
    expect(lines).to_have_value("One\nTwo\nOne\nTwo")
    lines.fill("One\nTwo")
    tasks.get_by_role("button", name="Add tasks").click()
    expect(titles(tasks)).to_have_text(["One", "Two"])
    tasks.evaluate("navigator.clipboard.writeText('One line')")
    field_of_new_task(tasks).focus()
    tasks.keyboard.press("Control+V")
    expect(field_of_new_task(tasks)).to_have_value("One line")


def test_a_password_can_be_shown_and_hidden(page: Page) -> None:
    page.goto("/login")
    field = page.get_by_label("Password", exact=True)
    show = page.get_by_role("button", name="Show")
    for kind, pressed in (("password", "false"), ("text", "true"), ("password", "false")):
        expect(field).to_have_attribute("type", kind)
        expect(show).to_have_attribute("aria-pressed", pressed)
        show.click()


def test_the_exact_time_is_told_in_the_time_zone_of_the_browser(
    tasks: Page, context: BrowserContext
) -> None:
    add(tasks, "Buy milk")
    time = rows(tasks).locator("time")
    local = time.evaluate("node => new Date(node.dateTime).toLocaleString()")
    expect(time).to_have_attribute("title", local)
    expect(time).to_have_text("just now")


def test_going_back_after_the_logout_shows_nothing_private(tasks: Page) -> None:
    add(tasks, "A secret")
    tasks.get_by_role("button", name="Log out").click()
    expect(flash_message(tasks)).to_have_text("You have been logged out.")
    tasks.go_back()
    expect(tasks.get_by_role("heading", name="Log in")).to_be_visible()
    expect(tasks.get_by_text("A secret")).to_have_count(0)


# Hostile text


def test_hostile_text_stays_text_on_every_way_through_the_script(
    tasks: Page, said: list[str]
) -> None:
    for text in HOSTILE:
        add(tasks, text, f"{text}\n" * 5)
        edit(tasks, text)
        title_field(tasks).fill(f"{text}!")
        title_field(tasks).press("Enter")
        expect(titles(tasks).first).to_have_text(f"{text}!")
        box(tasks, f"{text}!").click()
        expect(flash_message(tasks)).to_contain_text("Task completed.")
    expect(tasks.locator("main :is(svg, script, iframe, img)")).to_have_count(0)
    assert said == []


def test_the_console_tells_what_the_csp_blocks(tasks: Page) -> None:
    console = PageConsole(tasks)
    with tasks.expect_console_message(lambda line: "Content Security Policy" in line.text):
        tasks.evaluate("document.body.setAttribute('style', 'color: red')")
    assert ["style-src" in line for line in console.complaints] == [True]


@pytest.mark.parametrize(
    "attack",
    [
        "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
        "new DOMParser().parseFromString('<p>', 'text/html')",
        "trustedTypes.createPolicy('mine', { createHTML: (html) => html })",
        "trustedTypes.createPolicy('taskapp', { createHTML: (html) => html })",
    ],
)
def test_a_script_that_got_in_could_put_no_markup_into_a_page(tasks: Page, attack: str) -> None:
    with pytest.raises(Error, match=r"TrustedHTML|[Tt]rusted [Tt]ypes|[Pp]olicy"):
        tasks.evaluate(f"() => {{ {attack} }}")


def test_cookies_cannot_be_read_by_scripts(tasks: Page, context: BrowserContext) -> None:
    purposes = {cookie["name"].rpartition("-")[2] for cookie in context.cookies()}
    assert purposes >= {"session", "csrf"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in context.cookies())
    assert tasks.evaluate("document.cookie") == ""


def test_all_of_it_works_below_a_path(
    context: BrowserContext, account: Account, database_url: str, short_folder: Path
) -> None:
    with running_server(
        short_folder / "below", TASKAPP_DATABASE_URL=database_url, TASKAPP_BASE_PATH="/my/list"
    ) as url:
        page = context.new_page()
        page.goto(f"{url}/login")
        enter(page, account)
        add(page, "Buy milk")
        open_completed(page)
        box(page, "Buy milk").click()
        expect(flash_message(page)).to_contain_text("Task completed.")
        edit(page, "Buy milk")
        title_field(page).fill("Buy bread")
        title_field(page).press("Enter")
        expect(titles(page)).to_have_text(["Buy bread"])
        page.get_by_role("button", name="Dark").click()
        expect(page.locator("html")).to_have_attribute("data-theme", "dark")
        assert path_of(page) == "/my/list/tasks"
        page.get_by_role("button", name="Log out").click()
        expect(flash_message(page)).to_have_text("You have been logged out.")
