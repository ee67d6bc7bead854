"""What the list looks like: how much fits on a screen, on touch and on paper, and the title."""

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.support.browser_fixtures import Account
from tests.support.stories import add, box, have, link, log_in, rows, with_scripts

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

# What is visible, can be touched, is no link within a sentence, and is less than 44 pixels high.
# The box of a task is larger than it looks.
SMALL = """[...document.querySelectorAll("a, button, summary, textarea, input, label.choice")]
  .filter((part) => part.offsetParent && !part.matches(".check, label.choice input"))
  .filter((part) => part.textContent.trim() === part.parentElement.textContent.trim()
    || !part.parentElement.matches("p:not(.actions, .aside, .links)"))
  .filter((part) => part.getBoundingClientRect().height < 44)
  .map((part) => part.outerHTML)"""


def test_fourteen_rows_fit_on_800_pixels(
    page: Page, context: BrowserContext, account: Account
) -> None:
    have(context, account, *(f"Task {number}" for number in range(20)))
    page.set_viewport_size({"width": 1280, "height": 800})
    log_in(page, account)
    last = rows(page).nth(13).bounding_box()
    assert last
    assert last["y"] + last["height"] <= 800


def test_what_is_touched_is_44_pixels_high(
    browser: Browser, context: BrowserContext, account: Account, address: str
) -> None:
    have(context, account, "Buy milk", "Water the plants")
    have(context, account, *(f"Done {number}" for number in range(60)), status="completed")
    touched = browser.new_context(
        base_url=address, has_touch=True, is_mobile=True, viewport={"width": 360, "height": 740}
    )
    page = touched.new_page()
    for path in ("/login", "/register"):
        page.goto(path)
        assert page.evaluate(SMALL) == [], path
    log_in(page, account)
    expect(page.locator("[data-help]")).to_be_hidden()
    add(page, "Read", "See https://example.com/" + "x" * 200)
    links = [link(page, f"{name}: Buy milk").get_attribute("href") for name in ("Edit", "Delete")]
    of_account = ("/account", "/account/delete", "/account/sessions/others/end")
    lists = ("/tasks", "/tasks?status=completed")
    for path in (*lists, *filter(None, links), "/tasks/completed/delete", *of_account, "/none"):
        page.goto(path)
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        assert page.evaluate(SMALL) == [], path
    touched.close()


def test_what_undoes_and_what_dismisses_a_notice_are_side_by_side_on_a_telephone(
    browser: Browser, context: BrowserContext, account: Account, address: str
) -> None:
    have(context, account, "Buy milk")
    german = browser.new_context(
        base_url=address, locale="de-DE", viewport={"width": 360, "height": 740}
    )
    page = german.new_page()
    page.goto("/login")
    page.locator("main [name=email]").fill(account.email)
    page.locator("main [name=password]").fill(account.password)
    page.keyboard.press("Enter")
    box(page, "Buy milk").click()
    undo = page.get_by_role("button", name="Rückgängig").bounding_box()
    dismiss = page.get_by_role("button", name="Ausblenden").bounding_box()
    assert undo
    assert dismiss
    assert undo["y"] == dismiss["y"]
    german.close()


def test_the_meanings_of_the_keys_are_below_each_other(tasks: Page) -> None:
    tasks.set_viewport_size({"width": 360, "height": 740})
    tasks.get_by_role("button", name="Keyboard shortcuts").click()
    meanings = tasks.get_by_role("dialog").get_by_role("definition")
    lefts = {place["x"] for each in meanings.all() if (place := each.bounding_box())}
    assert len(lefts) == 1


def test_paper_has_the_whole_description(tasks: Page) -> None:
    add(tasks, "Buy milk", "\n".join(f"{number}. A line" for number in range(1, 31)))
    tasks.reload()
    last = tasks.get_by_text("30. A line")
    expect(last).to_be_hidden()
    tasks.emulate_media(media="print")
    expect(last).to_be_visible()
    expect(rows(tasks).get_by_text("More")).to_be_hidden()


@pytest.mark.parametrize(
    ("query", "heading"),
    [("", "Tasks"), ("?status=pending", "Pending tasks"), ("?status=completed", "Completed tasks")],
)
def test_the_title_has_the_number_of_pending_tasks_and_the_filter(
    page: Page, context: BrowserContext, account: Account, query: str, heading: str
) -> None:
    have(context, account, "Buy milk", "Water the plants")
    log_in(page, account)
    page.goto(f"/tasks{query}")
    assert page.title() == f"(2) {heading} · taskapp"
    if not query:
        box(page, "Buy milk").click()
        expect(page).to_have_title(f"(1) {heading} · taskapp")
