"""Completed tasks are folded below the pending ones, and go there after a moment."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.support.browser_fixtures import Account
from tests.support.server_process import wait_until
from tests.support.stories import (
    add_several,
    box,
    expect_counts,
    flash_message,
    have,
    hold_the_first,
    link,
    log_in,
    open_completed,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

TITLES = "list => [...list.querySelectorAll('.title')].map(title => title.textContent)"


def pending(page: Page) -> list[str]:
    found: list[str] = page.locator(".tasks").first.evaluate(TITLES)
    return found


def folded(page: Page) -> list[str]:
    found: list[str] = page.locator("#completed .tasks").evaluate(TITLES)
    return found


def wait_for_lists(page: Page, of_pending: list[str], of_completed: list[str]) -> None:
    wait_until(lambda: (pending(page), folded(page)) == (of_pending, of_completed))


def fold_summary(page: Page, number: int) -> None:
    expect(page.locator("#completed > summary")).to_have_text(f"Completed {number}")


@pytest.fixture
def five(tasks: Page) -> Page:
    """Return a list of five tasks."""
    add_several(tasks, "A", "B", "C", "D", "E")
    return tasks


def test_ticked_tasks_go_to_the_top_of_the_fold_and_reopened_ones_to_their_place(
    five: Page,
) -> None:
    expect(five.locator("#completed")).to_be_hidden()
    for number, title in enumerate(("B", "D", "A"), start=1):
        box(five, title).click()
        fold_summary(five, number)
    wait_for_lists(five, ["C", "E"], ["A", "D", "B"])
    expect(box(five, "A")).to_be_hidden()
    open_completed(five)
    for title in ("D", "A"):
        box(five, title).click()
    wait_for_lists(five, ["A", "C", "D", "E"], ["B"])
    fold_summary(five, 1)
    five.reload()
    assert (pending(five), folded(five)) == (["A", "C", "D", "E"], ["B"])


def test_the_flash_message_brings_a_task_back_from_the_fold(five: Page) -> None:
    box(five, "B").click()
    wait_for_lists(five, ["A", "C", "D", "E"], ["B"])
    flash_message(five).get_by_role("button", name="Undo").click()
    wait_for_lists(five, ["A", "B", "C", "D", "E"], [])
    expect(five.locator("#completed")).to_be_hidden()


def test_an_emptied_list_says_that_all_is_done(tasks: Page) -> None:
    add_several(tasks, "A")
    box(tasks, "A").click()
    wait_for_lists(tasks, [], ["A"])
    expect(tasks.locator(".empty")).to_have_text("All done. Nothing left to do.")
    open_completed(tasks)
    box(tasks, "A").click()
    wait_for_lists(tasks, ["A"], [])
    expect(tasks.locator(".empty")).to_have_count(0)


def test_a_task_stays_where_it_was_ticked_while_the_keyboard_is_there(five: Page) -> None:
    box(five, "A").focus()
    five.keyboard.press("j")
    five.keyboard.press("x")
    expect(box(five, "B")).to_be_checked()
    box(five, "D").click()  # goes to the fold, and shows that the time for it is over
    five.keyboard.press("k")
    five.keyboard.press("k")
    expect(box(five, "B")).to_be_focused()
    wait_until(lambda: folded(five) == ["D"])
    expect(box(five, "B")).to_be_focused()
    five.keyboard.press("x")
    expect(box(five, "B")).not_to_be_checked()
    five.keyboard.press("j")
    expect(box(five, "C")).to_be_focused()
    wait_for_lists(five, ["A", "B", "C", "E"], ["D"])


def test_the_keys_walk_into_the_fold_when_it_is_open(five: Page) -> None:
    for title in ("A", "B"):
        box(five, title).click()
    wait_for_lists(five, ["C", "D", "E"], ["B", "A"])
    box(five, "E").focus()
    five.keyboard.press("j")
    expect(box(five, "E")).to_be_focused()
    open_completed(five)
    for title in ("B", "A"):
        five.keyboard.press("j")
        expect(box(five, title)).to_be_focused()
    for title in ("B", "E"):
        five.keyboard.press("k")
        expect(box(five, title)).to_be_focused()


def test_what_was_completed_elsewhere_is_in_the_fold_with_the_next_response(
    five: Page, context: BrowserContext
) -> None:
    box(five, "C").click()
    wait_for_lists(five, ["A", "B", "D", "E"], ["C"])
    other = context.new_page()
    other.goto("/tasks")
    box(other, "A").click()
    fold_summary(other, 2)
    open_completed(other)
    box(other, "C").click()
    fold_summary(other, 1)
    add_several(five, "New")
    wait_for_lists(five, ["New", "B", "C", "D", "E"], ["A"])


def test_a_late_response_takes_nothing_out_of_the_fold(five: Page) -> None:
    first = hold_the_first(five, "**/tasks/*/status")
    box(five, "A").click()
    box(five, "B").click()
    wait_until(lambda: folded(five) == ["B"])
    assert pending(five) == ["A", "C", "D", "E"]  # its response is not there
    first().continue_()
    wait_for_lists(five, ["C", "D", "E"], ["A", "B"])
    expect_counts(five, 5, 3, 2)


@pytest.fixture
def full(page: Page, context: BrowserContext, account: Account) -> Page:
    """Return a list of 60 pending tasks and 70 completed ones."""
    have(context, account, *(f"Done {number}" for number in range(1, 71)), status="completed")
    have(context, account, *(f"Task {number}" for number in range(1, 61)))
    log_in(page, account)
    return page


def test_all_completed_tasks_are_loaded_into_the_fold_and_are_there_again(full: Page) -> None:
    fold_summary(full, 70)
    full.locator("#completed > summary").click()
    expect(box(full, "Done 5")).to_be_visible()
    assert folded(full) == [f"Done {number}" for number in range(1, 6)]
    fold = full.locator("#completed")
    fold.get_by_role("link", name="All completed tasks").click()
    wait_until(lambda: len(folded(full)) == 50)
    fold.get_by_role("link", name="Load more").click()
    wait_until(lambda: folded(full) == [f"Done {number}" for number in range(1, 71)])
    expect(fold.get_by_role("link", name="Load more")).to_have_count(0)
    assert len(pending(full)) == 45
    box(full, "Done 66").scroll_into_view_if_needed()
    before = full.evaluate("scrollY")
    box(full, "Done 67").click()
    expect_counts(full, 130, 61, 69)
    link(full, "Delete: Done 66").click()
    link(full, "Cancel").click()
    wait_until(lambda: full.evaluate("scrollY") == pytest.approx(before, abs=3))
    expect(box(full, "Done 66")).to_be_in_viewport()
    # The reopened one is not loaded: its place is after the 45th.
    assert folded(full) == [f"Done {number}" for number in range(1, 71) if number != 67]
    assert pending(full) == [f"Task {number}" for number in range(1, 46)]
