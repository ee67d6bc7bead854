"""A late response moves nothing that somebody has in hand, whatever the line."""

from collections.abc import Iterator
from itertools import product
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.faults.proxy import Proxy
from tests.support.browser_fixtures import BROWSERS, Account
from tests.support.server_process import wait_until
from tests.support.stories import (
    ROUND_TRIPS,
    box,
    edit,
    expect_counts,
    field_of_new_task,
    have,
    hold_the_first,
    in_chromium,
    in_each_browser,
    link,
    log_in,
    open_completed,
    rows,
    slow_down,
    title_field,
    titles,
    unsaved,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

LONG = "Call before ten, ask for the form"
at_each_latency = pytest.mark.parametrize(
    ("browser", "latency"), list(product(BROWSERS, ROUND_TRIPS)), indirect=["browser"]
)


@pytest.fixture(scope="module")
def line(address: str) -> Iterator[Proxy]:
    with Proxy(urlsplit(address).port or 0) as line:
        yield line


@pytest.fixture
def entrance(line: Proxy) -> str:
    line.heal()
    return f"http://127.0.0.1:{line.port}"


@pytest.fixture
def tasks(page: Page, context: BrowserContext, account: Account) -> Page:
    """Return a list of ten tasks."""
    have(context, account, *(f"Task {number}" for number in range(1, 11)))
    log_in(page, account)
    return page


def type_title(page: Page, title: str) -> None:
    field_of_new_task(page).press_sequentially(title)
    field_of_new_task(page).press("Enter")


def stored(page: Page) -> list[str]:
    """Return the titles that a new page has, in their order."""
    other = page.context.new_page()
    other.goto("/tasks")
    found: list[str] = titles(other).all_inner_texts()
    other.close()
    return found


@at_each_latency
def test_an_editor_that_is_opened_after_an_add_stays_with_its_text_and_focus(
    page: Page, context: BrowserContext, account: Account, line: Proxy, latency: int
) -> None:
    have(context, account, *(f"Task {number}" for number in range(1, 61)))
    log_in(page, account)
    link(page, "Load more").click()
    expect(titles(page)).to_have_count(60)
    slow_down(line, latency)
    type_title(page, "Buy milk")
    expect(titles(page).first).to_have_text("Buy milk")
    edit(page, "Task 31")
    description = page.get_by_label("Description (optional)")
    description.press_sequentially(LONG, delay=20)
    place = description.bounding_box()
    expect(unsaved(page)).to_have_count(0)
    description.press_sequentially("!")
    expect(description).to_have_value(f"{LONG}!")
    expect(description).to_be_focused()
    expect(titles(page)).to_have_count(61)
    assert description.bounding_box() == place
    expect_counts(page, 61, 61, 0)


@at_each_latency
def test_the_next_task_is_typed_while_the_one_before_is_saved(
    tasks: Page, line: Proxy, latency: int
) -> None:
    slow_down(line, latency)
    type_title(tasks, "First")
    field = field_of_new_task(tasks)
    field.press_sequentially("Buy bread")
    for _ in "bread":
        field.press("ArrowLeft")
    field.press_sequentially("rye ", delay=latency / 8)
    expect(unsaved(tasks)).to_have_count(0)
    field.press_sequentially("(dark) ")
    expect(field).to_have_value("Buy rye (dark) bread")
    tasks.get_by_text("Add description").click()
    tasks.get_by_label("Description").press_sequentially(LONG)
    expect(tasks.get_by_label("Description")).to_be_focused()
    expect(field).to_have_value("Buy rye (dark) bread")


@in_chromium  # WebDriver BiDi has no input methods
@pytest.mark.parametrize("latency", ROUND_TRIPS)
def test_a_composition_is_not_broken_by_a_response(tasks: Page, line: Proxy, latency: int) -> None:
    slow_down(line, latency)
    keyboard = tasks.context.new_cdp_session(tasks)
    with tasks.expect_response(lambda response: response.request.method == "GET"):
        type_title(tasks, "First")
        for text in ("か", "かい", "かいも"):
            keyboard.send(
                "Input.imeSetComposition",
                {"text": text, "selectionStart": len(text), "selectionEnd": len(text)},
            )
    tasks.wait_for_timeout(200)  # milliseconds, in which a page that breaks it does so
    expect(field_of_new_task(tasks)).to_have_value("かいも")
    keyboard.send("Input.insertText", {"text": "買い物"})
    expect(field_of_new_task(tasks)).to_have_value("買い物")
    expect(unsaved(tasks)).to_have_count(0)


@in_each_browser
def test_an_older_response_takes_no_newer_task_away(tasks: Page) -> None:
    first = hold_the_first(tasks, "**/tasks/*/status")
    box(tasks, "Task 3").click()
    type_title(tasks, "Second")
    expect(unsaved(tasks)).to_have_count(0)
    first().continue_()
    expect_counts(tasks, 11, 10, 1)
    expect(titles(tasks).first).to_have_text("Second")
    expect(box(tasks, "Task 3")).to_be_checked()


@at_each_latency
def test_the_last_wish_wins(tasks: Page, line: Proxy, latency: int) -> None:
    open_completed(tasks)
    slow_down(line, latency)
    type_title(tasks, "Buy milk")
    for wishes in (1, 2, 3):
        for _ in range(wishes):
            box(tasks, f"Task {wishes}").click()
    expect(unsaved(tasks)).to_have_count(0)
    expect_counts(tasks, 11, 9, 2)
    for title, checked in (("Task 1", True), ("Task 2", False), ("Task 3", True)):
        expect(box(tasks, title)).to_be_checked(checked=checked)
    # What is sent when this page is left may arrive after the next one has been asked for.
    tasks.goto("/tasks?status=completed")
    wished = ["Task 1", "Task 3"]
    wait_until(lambda: sorted(titles(tasks).all_inner_texts()) == wished or not tasks.reload())
    for title in wished:
        expect(box(tasks, title)).to_be_checked()


@in_each_browser
def test_counts_are_right_when_responses_overtake_each_other(tasks: Page, line: Proxy) -> None:
    line.jitter = 0.4  # seconds
    for number in range(1, 8):
        box(tasks, f"Task {number}").click()
    expect_counts(tasks, 10, 3, 7)
    tasks.wait_for_timeout(900)  # milliseconds: longer than the last response can take
    expect_counts(tasks, 10, 3, 7)


@at_each_latency
def test_the_same_title_three_times_is_three_tasks(tasks: Page, line: Proxy, latency: int) -> None:
    slow_down(line, latency)
    for title in ("Milk", "Milk", "Bread", "Milk"):
        type_title(tasks, title)
    expect(titles(tasks).nth(3)).to_have_text("Milk")
    expect(unsaved(tasks)).to_have_count(0)
    line.heal()
    assert stored(tasks)[:5] == ["Milk", "Bread", "Milk", "Milk", "Task 1"]


@in_each_browser
def test_tasks_that_could_not_be_sent_are_kept_in_their_order(tasks: Page, line: Proxy) -> None:
    line.refuses = True
    line.cut()
    for title in ("One", "Two", "Three"):
        type_title(tasks, title)
    expect(unsaved(tasks).get_by_role("alert")).to_have_count(3)
    expect(titles(tasks).nth(2)).to_have_text("One")
    field_of_new_task(tasks).press_sequentially("Fo")
    line.heal()
    tasks.get_by_role("button", name="Try again").first.click()
    expect(unsaved(tasks)).to_have_count(0)
    expect(field_of_new_task(tasks)).to_have_value("Fo")
    assert stored(tasks)[:4] == ["Three", "Two", "One", "Task 1"]


@in_each_browser
def test_tasks_that_could_not_be_sent_are_sent_after_a_reload(tasks: Page, line: Proxy) -> None:
    tasks.route("**/tasks", lambda route: route.abort())
    type_title(tasks, "One")
    type_title(tasks, "Two")
    expect(unsaved(tasks).get_by_role("alert")).to_have_count(2)
    tasks.unroute("**/tasks")
    tasks.on("dialog", lambda dialog: dialog.accept())
    tasks.reload()
    expect(titles(tasks).nth(1)).to_have_text("One")
    expect(unsaved(tasks)).to_have_count(0)
    assert stored(tasks)[:3] == ["Two", "One", "Task 1"]


@in_each_browser
def test_a_response_that_was_lost_changes_nothing_twice(tasks: Page, line: Proxy) -> None:
    slow_down(line, 300)
    type_title(tasks, "Buy milk")
    tasks.wait_for_timeout(220)  # milliseconds: the request is there, the response on its way
    line.cut()
    expect(unsaved(tasks)).to_have_count(0)
    box(tasks, "Task 1").click()
    tasks.wait_for_timeout(220)  # milliseconds
    line.cut()
    expect_counts(tasks, 11, 10, 1)
    assert stored(tasks)[:3] == ["Buy milk", "Task 2", "Task 3"]


@at_each_latency
def test_an_editor_is_not_opened_under_the_hands_of_somebody_who_types_elsewhere(
    tasks: Page, line: Proxy, latency: int
) -> None:
    slow_down(line, latency)
    tasks.get_by_role("link", name="Edit: Task 5", exact=True).click()
    field_of_new_task(tasks).press_sequentially("Milk", delay=latency / 3)
    expect(field_of_new_task(tasks)).to_have_value("Milk")
    expect(field_of_new_task(tasks)).to_be_focused()
    expect(title_field(tasks)).to_have_value("Task 5")


@at_each_latency
def test_a_saved_edit_is_shown_at_once_and_what_is_edited_next_stays(
    tasks: Page, line: Proxy, latency: int
) -> None:
    edit(tasks, "Task 5")
    title_field(tasks).fill("Task five")
    slow_down(line, latency)
    line.is_black_hole = True
    title_field(tasks).press("Enter")
    expect(titles(tasks).nth(4)).to_have_text("Task five")
    line.is_black_hole = False
    edit(tasks, "Task 6")
    title_field(tasks).press_sequentially(" and more", delay=latency / 10)
    expect(rows(tasks).and_(tasks.locator("[aria-busy=true]"))).to_have_count(0)
    expect(title_field(tasks)).to_have_value("Task 6 and more")
    expect(title_field(tasks)).to_be_focused()
