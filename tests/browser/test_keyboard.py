"""Everything works with the keyboard alone, and screen readers announce it correctly."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.browser_fixtures import Account
from tests.support.server_process import wait_until
from tests.support.stories import (
    add,
    add_several,
    box,
    field_of_new_task,
    flash_message,
    have,
    link,
    open_completed,
    rows,
    titles,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]

THEMES = ["System", "Light", "Dark"]


@pytest.fixture
def three(tasks: Page) -> Page:
    """Return a list of three tasks, without focus."""
    add_several(tasks, "One", "Two", "Three")
    expect(titles(tasks)).to_have_count(3)
    tasks.locator(":focus").blur()
    return tasks


def focused(page: Page) -> str:
    """Return the accessible name of the focused element."""
    name: str = page.evaluate(
        "(document.activeElement.ariaLabel ?? document.activeElement.labels?.[0]?.textContent"
        " ?? document.activeElement.textContent).trim().replace(/\\s+/g, ' ')"
    )
    return name


def tab_to(page: Page, name: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if focused(page).startswith(name):
            return
    raise AssertionError(f"the Tab key does not lead to {name}")


def test_everything_can_be_done_with_the_keyboard_alone(tasks: Page) -> None:
    expect(field_of_new_task(tasks)).to_be_focused()
    tasks.keyboard.type("Buy milk")
    tasks.keyboard.press("Enter")
    expect(titles(tasks)).to_have_text(["Buy milk"])
    tab_to(tasks, "Buy milk")
    tasks.keyboard.press("Space")
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    tasks.goto("/tasks")
    tab_to(tasks, "Completed 1")
    tasks.keyboard.press("Enter")
    tasks.wait_for_url("**/tasks?status=completed")
    expect(box(tasks, "Buy milk")).to_be_checked()
    tab_to(tasks, "Edit: Buy milk")
    tasks.keyboard.press("Enter")
    expect(tasks.get_by_label("Title")).to_be_focused()
    tasks.keyboard.press("Control+A")
    tasks.keyboard.type("Buy bread")
    tasks.keyboard.press("Enter")
    expect(titles(tasks)).to_have_text(["Buy bread"])
    tab_to(tasks, "Dark")
    tasks.keyboard.press("Enter")
    expect(tasks.locator("html")).to_have_attribute("data-theme", "dark")
    tab_to(tasks, "Delete: Buy bread")
    tasks.keyboard.press("Enter")
    tasks.wait_for_url("**/delete?status=completed")
    tab_to(tasks, "Delete")
    tasks.keyboard.press("Enter")
    expect(flash_message(tasks)).to_contain_text("Task deleted.")
    tab_to(tasks, "Log out")
    tasks.keyboard.press("Enter")
    expect(flash_message(tasks)).to_have_text("You have been logged out.")


def test_what_is_done_seldom_can_be_done_with_the_keyboard_too(
    tasks: Page, account: Account
) -> None:
    keys = tasks.keyboard
    tab_to(tasks, "Add multiple tasks")
    keys.press("Enter")
    tab_to(tasks, "Tasks")
    keys.type("One")
    keys.press("Enter")
    keys.type("Two")
    tab_to(tasks, "Add tasks")
    keys.press("Enter")
    expect(titles(tasks)).to_have_text(["One", "Two"])
    tab_to(tasks, "One")
    keys.press("Space")
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    tab_to(tasks, "Undo")
    keys.press("Enter")
    expect(box(tasks, "One")).not_to_be_checked()
    tab_to(tasks, "One")
    keys.press("Space")
    expect(tasks.locator("#completed")).to_be_visible()
    tab_to(tasks, "Completed 1")
    keys.press("Enter")
    tab_to(tasks, "Delete completed")
    keys.press("Enter")
    expect(tasks.get_by_role("heading", name="Delete 1 completed task?")).to_be_visible()
    tab_to(tasks, "Delete")
    keys.press("Enter")
    expect(titles(tasks)).to_have_text(["Two"])
    tab_to(tasks, "Account")
    keys.press("Enter")
    expect(tasks.get_by_role("heading", name="Account", exact=True)).to_be_visible()
    tab_to(tasks, "New token")
    keys.press("Enter")
    tab_to(tasks, "Name")
    keys.type("Backup")
    tab_to(tasks, "Your password")
    keys.type(account.password)
    tab_to(tasks, "Create token")
    keys.press("Enter")
    expect(tasks.get_by_role("heading", name="Your new token")).to_be_visible()


def test_the_tab_key_goes_through_the_page_as_it_is_read(tasks: Page, *, has_scripts: bool) -> None:
    add(tasks, "Buy milk")
    tasks.goto("/tasks")
    field_of_new_task(tasks).focus()
    order = []
    while focused(tasks) != "Dark":
        tasks.keyboard.press("Tab")
        order.append(focused(tasks))
    assert order == [
        "Add",
        "Add description",
        "Add multiple tasks",
        "All 1",
        "Pending 1",
        "Completed 0",
        "Buy milk",
        "Edit: Buy milk",
        "Delete: Buy milk",
        *(["Keyboard shortcuts"] if has_scripts else []),
        *THEMES,
    ]


def test_the_lists_are_read_out_as_lists_of_checkboxes(tasks: Page) -> None:
    add(tasks, "Done")
    add(tasks, "To do", "word " * 60)
    box(tasks, "Done").click()
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    tasks.goto("/tasks")
    open_completed(tasks)
    lists = tasks.get_by_role("main").get_by_role("list")
    expect(lists).to_have_count(2)
    expect(lists.first).to_match_aria_snapshot(
        """
        - list:
          - listitem:
            - checkbox "To do"
            - paragraph: To do
            - group: /word/
            - paragraph:
              - time: just now
            - paragraph:
              - 'link "Edit: To do"'
              - 'link "Delete: To do"'
        """
    )
    expect(lists.last).to_match_aria_snapshot(
        """
        - list "Completed tasks":
          - listitem:
            - checkbox "Done" [checked]
            - paragraph: Done
            - paragraph:
              - text: Completed
              - time: just now
            - paragraph:
              - 'link "Edit: Done"'
              - 'link "Delete: Done"'
        """
    )


def test_a_page_is_read_out_by_its_landmarks(tasks: Page) -> None:
    add(tasks, "Buy milk")
    tasks.goto("/tasks")
    expect(tasks.locator("body")).to_match_aria_snapshot(
        """
        - banner:
          - link "taskapp"
          - navigation "Account":
            - button "Log out"
        - status
        - main:
          - heading "Tasks" [level=1]
          - region "Add a task"
          - navigation "Filter":
            - link "All 1"
            - link "Pending 1"
            - link "Completed 0"
          - list
        - contentinfo:
          - paragraph: /Logged in as/
          - form "Theme":
            - button "System" [pressed]
            - button "Light"
            - button "Dark"
        """
    )


def test_what_was_done_is_read_out_with_the_way_back(tasks: Page) -> None:
    add(tasks, "Buy milk")
    box(tasks, "Buy milk").click()
    expect(tasks.get_by_role("status")).to_match_aria_snapshot(
        """
        - status:
          - paragraph: Task completed.
          - button "Undo"
        """
    )


# Shortcuts


@with_scripts
def test_each_key_does_what_the_help_says(three: Page) -> None:
    keys = three.keyboard
    keys.press("j")
    expect(box(three, "One")).to_be_focused()
    keys.press("j")
    keys.press("x")
    expect(box(three, "Two")).to_be_checked()
    expect(flash_message(three)).to_contain_text("Task completed.")
    keys.press("k")
    keys.press("e")
    expect(three.get_by_label("Title")).to_have_value("One")
    keys.press("Escape")
    keys.press("/")
    expect(link(three, "All")).to_be_focused()
    keys.press("?")
    help_ = three.get_by_role("dialog", name="Keyboard shortcuts")
    expect(help_).to_be_visible()
    shown = help_.locator("kbd").all_inner_texts()
    assert shown == ["n", "j", "k", "x", "e", "#", "Del", "z", "1", "2", "3", "/", "?"]
    keys.press("Escape")
    expect(help_).to_be_hidden()
    keys.press("n")
    expect(field_of_new_task(three)).to_be_focused()
    box(three, "Three").focus()
    keys.press("#")
    expect(three.get_by_role("heading", name="Delete this task?")).to_be_visible()
    expect(three.get_by_text("Three")).to_be_visible()


@with_scripts
def test_no_key_does_anything_while_somebody_types(three: Page) -> None:
    typed = "njkxe#/?"
    field_of_new_task(three).press_sequentially(typed)
    expect(field_of_new_task(three)).to_have_value(typed)
    expect(field_of_new_task(three)).to_be_focused()
    three.get_by_text("Add description").click()
    three.get_by_label("Description").press_sequentially(typed)
    expect(three.get_by_label("Description")).to_have_value(typed)
    expect(three.get_by_role("dialog")).to_have_count(0)
    expect(rows(three).get_by_role("checkbox", checked=True)).to_have_count(0)


@with_scripts
@pytest.mark.parametrize("held", ["ctrlKey", "altKey", "metaKey", "isComposing"])
def test_no_key_does_anything_with_another_or_in_a_composition(three: Page, held: str) -> None:
    box(three, "One").focus()
    press = """([key, held]) => document.activeElement.dispatchEvent(
        new KeyboardEvent("keydown", { key, [held]: true, bubbles: true, cancelable: true }))"""
    for key in "njkxe#/?":
        assert three.evaluate(press, [key, held]), key  # its default was not prevented
    expect(box(three, "One")).to_be_focused()
    expect(three.get_by_role("dialog")).to_have_count(0)


@with_scripts
def test_a_key_that_is_held_down_walks_and_does_anything_else_once(three: Page) -> None:
    for _ in range(3):
        three.keyboard.down("j")
    three.keyboard.up("j")
    expect(box(three, "Three")).to_be_focused()
    for _ in range(2):
        three.keyboard.down("x")
    three.keyboard.up("x")
    expect(box(three, "Three")).to_be_checked()
    expect(flash_message(three)).to_contain_text("Task completed.")


@with_scripts
def test_shortcuts_that_are_switched_off_stay_off(three: Page) -> None:
    three.get_by_role("button", name="Keyboard shortcuts").click()
    three.get_by_label("Enable shortcuts").uncheck()
    three.get_by_role("button", name="Close").click()
    three.keyboard.press("n")
    expect(field_of_new_task(three)).not_to_be_focused()
    three.reload()
    box(three, "One").focus()
    three.keyboard.press("x")
    three.keyboard.press("j")
    expect(box(three, "One")).to_be_focused()
    expect(box(three, "One")).not_to_be_checked()
    three.get_by_role("button", name="Keyboard shortcuts").click()
    expect(three.get_by_label("Enable shortcuts")).not_to_be_checked()
    three.get_by_label("Enable shortcuts").check()
    three.get_by_role("button", name="Close").click()
    three.keyboard.press("n")
    expect(field_of_new_task(three)).to_be_focused()


# A key as a layout sends it, and what it does: Russian, Greek, Hebrew, Arabic, Dvorak, German;
# then signs by Option.
LAYOUTS: list[tuple[dict[str, object], str]] = [
    ({"key": "т", "code": "KeyN"}, "new task"),
    ({"key": "\u03bd", "code": "KeyN"}, "new task"),
    ({"key": "מ", "code": "KeyN"}, "new task"),
    ({"key": "ن", "code": "KeyN"}, "new task"),
    ({"key": "n", "code": "KeyB"}, "new task"),
    ({"key": ".", "code": "Slash"}, "filter"),
    ({"key": ",", "code": "Slash", "shiftKey": True}, "help"),
    ({"key": "№", "code": "Digit3", "shiftKey": True}, "question"),
    ({"key": "#", "code": "Digit3", "altKey": True}, "question"),
    ({"key": "#", "code": "Backslash"}, "question"),
    ({"key": "Delete", "code": "Delete"}, "question"),
    ({"key": "ч", "code": "KeyX"}, "tick"),
    ({"key": "-", "code": "Slash"}, "nothing"),
    ({"key": "т", "code": "KeyN", "ctrlKey": True}, "nothing"),
    ({"key": "é", "code": "Digit2"}, "filter of pending"),
    ({"key": "Process", "code": "KeyN", "keyCode": 229}, "nothing"),
    ({"key": "n", "code": "KeyN", "isComposing": True}, "nothing"),
]
SEND = """(key) => {
    const event = new KeyboardEvent("keydown", { bubbles: true, cancelable: true, ...key });
    if (key.keyCode) Object.defineProperty(event, "keyCode", { value: key.keyCode });
    return document.activeElement.dispatchEvent(event);
}"""


def outcome(page: Page) -> str:
    """Return what a key has done to the list of three tasks, whose second one has the focus."""
    if page.url.endswith("/delete"):
        return "question"
    if "status=pending" in page.url:
        return "filter of pending"
    if page.get_by_role("dialog").count():
        return "help"
    if page.locator(".task.completed").count():
        return "tick"
    name = focused(page)
    return {"New task": "new task", "All 3": "filter"}.get(name, "nothing")


@with_scripts
@pytest.mark.parametrize(("sent", "does"), LAYOUTS)
def test_keys_work_in_every_layout(three: Page, sent: dict[str, object], does: str) -> None:
    box(three, "Two").focus()
    is_taken = not three.evaluate(SEND, sent)
    assert is_taken == (does != "nothing")
    wait_until(lambda: outcome(three) == does)


@with_scripts
def test_the_keys_of_the_filters_of_undo_and_of_more(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    have(context, account, *(f"Task {number}" for number in range(1, 53)))
    keys = tasks.keyboard
    for key, address in (("2", "?status=pending"), ("3", "?status=completed"), ("1", "")):
        tasks.goto("/tasks")
        tasks.locator(":focus").blur()
        keys.press(key)
        tasks.wait_for_url(f"**/tasks{address}")
    box(tasks, "Task 50").focus()
    keys.press("x")
    expect(flash_message(tasks)).to_contain_text("Task completed.")
    keys.press("z")
    expect(flash_message(tasks)).to_contain_text("Task reopened.")
    expect(box(tasks, "Task 50")).not_to_be_checked()
    box(tasks, "Task 50").focus()
    keys.press("j")
    expect(box(tasks, "Task 51")).to_be_focused()


@with_scripts
def test_control_and_enter_save_from_any_field(three: Page) -> None:
    link(three, "Edit: One").click()
    three.get_by_label("Description (optional)").fill("Two lines\nof it")
    three.keyboard.press("Control+Enter")
    expect(flash_message(three)).to_have_text("Task saved.")
    three.get_by_text("Add multiple tasks").click()
    three.get_by_label("Tasks", exact=True).fill("Four\nFive")
    three.keyboard.press("Meta+Enter")
    expect(titles(three)).to_have_text(["Four", "Five", "One", "Two", "Three"])


@with_scripts
def test_escape_keeps_a_long_text_and_offers_it(three: Page) -> None:
    link(three, "Edit: Two").click()
    text = "word " * 80
    three.get_by_label("Description (optional)").fill(text)
    three.keyboard.press("Escape")
    expect(flash_message(three)).to_have_text(re.compile("Your changes are kept."))
    three.keyboard.press("z")
    expect(three.get_by_label("Description (optional)")).to_have_value(text)
    three.keyboard.press("Escape")
    link(three, "Edit: Two").click()
    expect(three.get_by_label("Description (optional)")).to_have_value(text)


@with_scripts
def test_escape_of_an_input_method_closes_nothing(three: Page) -> None:
    link(three, "Edit: Two").click()
    expect(three.get_by_label("Title")).to_be_focused()
    three.evaluate(SEND, {"key": "Escape", "keyCode": 229})
    expect(three.get_by_label("Title")).to_have_value("Two")
    expect(three.get_by_label("Title")).to_be_focused()


@with_scripts
def test_escape_leads_back_from_each_question(three: Page) -> None:
    box(three, "Two").click()
    expect(flash_message(three)).to_contain_text("Task completed.")
    for path, back in (
        ("/tasks/completed/delete", "/tasks"),
        ("/account/delete", "/account"),
        ("/account/sessions/others/end", "/account"),
    ):
        three.goto(path)
        three.keyboard.press("Escape")
        three.wait_for_url(f"**{back}")


@with_scripts
def test_a_question_takes_enter_and_escape(three: Page) -> None:
    box(three, "Two").focus()
    three.keyboard.press("Delete")
    expect(three.get_by_role("heading", name="Delete this task?")).to_be_visible()
    three.keyboard.press("Escape")
    expect(box(three, "Two")).to_be_focused()
    three.keyboard.press("Delete")
    expect(three.get_by_role("heading", name="Delete this task?")).to_be_visible()
    three.keyboard.press("Enter")
    expect(flash_message(three)).to_contain_text("Task deleted.")
    expect(titles(three)).to_have_text(["One", "Three"])
    expect(box(three, "Three")).to_be_focused()


@with_scripts
@pytest.mark.parametrize("way", ["Escape", "Dismiss", "Edit: Three"])
def test_the_notice_is_put_away_by_escape_by_its_button_and_by_an_editor(
    three: Page, way: str
) -> None:
    box(three, "One").click()
    expect(flash_message(three)).to_contain_text("Task completed.")
    if way == "Escape":
        three.keyboard.press(way)
    else:
        three.get_by_role("button", name=way).or_(link(three, way)).click()
    expect(flash_message(three)).to_be_empty()


@with_scripts
def test_the_caret_is_at_the_end_of_what_is_edited(three: Page) -> None:
    link(three, "Edit: Two").click()
    expect(three.get_by_label("Title")).to_be_focused()
    three.keyboard.type("!")
    expect(three.get_by_label("Title")).to_have_value("Two!")
    three.goto(link(three, "Edit: One").get_attribute("href") or "")
    three.keyboard.type("!")
    expect(three.get_by_label("Title")).to_have_value("One!")
