"""A late response moves nothing that somebody has in hand, whatever the line."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, expect

from tests.faults.proxy import Proxy
from tests.support.browser_fixtures import TIMEOUT, Account
from tests.support.stories import (
    add,
    box,
    edit,
    expect_counts,
    field_of_new_task,
    flash_message,
    have,
    hold_the_first,
    link,
    log_in,
    open_completed,
    title_field,
    titles,
    unsaved,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

ROUND_TRIPS = [0, 300, 1000]  # milliseconds
at_each_latency = pytest.mark.parametrize("latency", ROUND_TRIPS)
slow = pytest.mark.parametrize("latency", [1000])
LONG = "Call before ten, ask for the form"


@pytest.fixture(scope="module")
def proxy(address: str) -> Iterator[Proxy]:
    with Proxy(urlsplit(address).port or 0) as proxy:
        yield proxy


@pytest.fixture
def context(browser: Browser, proxy: Proxy) -> Iterator[BrowserContext]:
    proxy.heal()
    made = browser.new_context(
        base_url=f"http://127.0.0.1:{proxy.port}", locale="en-GB", reduced_motion="reduce"
    )
    made.set_default_timeout(TIMEOUT)
    yield made
    made.close()


@pytest.fixture
def many(page: Page, context: BrowserContext, account: Account) -> Page:
    """Return a list of 60 tasks, of which 50 are shown."""
    have(context, account, *(f"Task {number}" for number in range(1, 61)))
    log_in(page, account)
    return page


def slow_down(proxy: Proxy, latency: int) -> None:
    proxy.delay = latency / 2000  # seconds of each way, for milliseconds of both


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
    many: Page, proxy: Proxy, latency: int
) -> None:
    link(many, "Load more").click()
    expect(titles(many)).to_have_count(60)
    slow_down(proxy, latency)
    type_title(many, "Buy milk")
    expect(titles(many).first).to_have_text("Buy milk")
    edit(many, "Task 31")
    description = many.get_by_label("Description (optional)")
    description.press_sequentially(LONG, delay=20)
    place = description.bounding_box()
    expect(unsaved(many)).to_have_count(0)
    description.press_sequentially("!")
    expect(description).to_have_value(f"{LONG}!")
    expect(description).to_be_focused()
    expect(titles(many)).to_have_count(61)
    assert description.bounding_box() == place
    expect_counts(many, 61, 61, 0)


@at_each_latency
def test_the_next_task_is_typed_while_the_one_before_is_saved(
    many: Page, proxy: Proxy, latency: int
) -> None:
    slow_down(proxy, latency)
    type_title(many, "First")
    field = field_of_new_task(many)
    field.press_sequentially("Buy bread")
    for _ in "bread":
        field.press("ArrowLeft")
    field.press_sequentially("rye ", delay=latency / 8)
    expect(unsaved(many)).to_have_count(0)
    field.press_sequentially("(dark) ")
    expect(field).to_have_value("Buy rye (dark) bread")
    many.get_by_text("Add description").click()
    many.get_by_label("Description").press_sequentially(LONG)
    expect(many.get_by_label("Description")).to_be_focused()
    expect(field).to_have_value("Buy rye (dark) bread")


@slow
def test_a_composition_is_not_broken_by_a_response(many: Page, proxy: Proxy, latency: int) -> None:
    slow_down(proxy, latency)
    type_title(many, "First")
    keyboard = many.context.new_cdp_session(many)
    with many.expect_response("**/tasks"):
        for text in ("か", "かい", "かいも"):
            keyboard.send(
                "Input.imeSetComposition",
                {"text": text, "selectionStart": len(text), "selectionEnd": len(text)},
            )
    many.wait_for_timeout(200)  # milliseconds, in which a page that breaks it does so
    expect(field_of_new_task(many)).to_have_value("かいも")
    keyboard.send("Input.insertText", {"text": "買い物"})
    expect(field_of_new_task(many)).to_have_value("買い物")
    expect(unsaved(many)).to_have_count(0)


def test_an_older_response_takes_no_newer_task_away(many: Page) -> None:
    first = hold_the_first(many, "**/tasks/*/status")
    box(many, "Task 3").click()
    type_title(many, "Second")
    expect(unsaved(many)).to_have_count(0)
    first().continue_()
    expect_counts(many, 61, 60, 1)
    expect(titles(many).first).to_have_text("Second")
    expect(box(many, "Task 3")).to_be_checked()


@at_each_latency
def test_the_last_wish_wins(many: Page, proxy: Proxy, latency: int) -> None:
    open_completed(many)
    slow_down(proxy, latency)
    type_title(many, "Buy milk")
    for wishes in (1, 2, 3):
        for _ in range(wishes):
            box(many, f"Task {wishes}").click()
    expect(unsaved(many)).to_have_count(0)
    expect_counts(many, 61, 59, 2)
    for title, checked in (("Task 1", True), ("Task 2", False), ("Task 3", True)):
        expect(box(many, title)).to_be_checked(checked=checked)
    many.goto("/tasks?status=completed")
    expect(titles(many)).to_have_count(2)
    for title in ("Task 1", "Task 3"):
        expect(box(many, title)).to_be_checked()


def test_counts_are_right_when_responses_overtake_each_other(many: Page, proxy: Proxy) -> None:
    proxy.jitter = 0.4  # seconds
    for number in range(1, 8):
        box(many, f"Task {number}").click()
    expect_counts(many, 60, 53, 7)
    many.wait_for_timeout(900)  # milliseconds: longer than the last response can take
    expect_counts(many, 60, 53, 7)


@at_each_latency
def test_the_same_title_three_times_is_three_tasks(many: Page, proxy: Proxy, latency: int) -> None:
    slow_down(proxy, latency)
    for title in ("Milk", "Milk", "Bread", "Milk"):
        type_title(many, title)
    expect(titles(many).nth(3)).to_have_text("Milk")
    expect(unsaved(many)).to_have_count(0)
    proxy.heal()
    assert stored(many)[:5] == ["Milk", "Bread", "Milk", "Milk", "Task 1"]


def test_tasks_that_could_not_be_sent_are_kept_in_their_order(many: Page, proxy: Proxy) -> None:
    proxy.refuses = True
    proxy.cut()
    for title in ("One", "Two", "Three"):
        type_title(many, title)
    expect(unsaved(many).get_by_role("alert")).to_have_count(3)
    expect(titles(many).nth(2)).to_have_text("One")
    field_of_new_task(many).press_sequentially("Fo")
    proxy.heal()
    many.get_by_role("button", name="Try again").first.click()
    expect(unsaved(many)).to_have_count(0)
    expect(field_of_new_task(many)).to_have_value("Fo")
    assert stored(many)[:4] == ["Three", "Two", "One", "Task 1"]


def test_tasks_that_could_not_be_sent_are_sent_after_a_reload(many: Page, proxy: Proxy) -> None:
    many.route("**/tasks", lambda route: route.abort())
    type_title(many, "One")
    type_title(many, "Two")
    expect(unsaved(many).get_by_role("alert")).to_have_count(2)
    many.unroute("**/tasks")
    many.on("dialog", lambda dialog: dialog.accept())
    many.reload()
    expect(titles(many).nth(1)).to_have_text("One")
    expect(unsaved(many)).to_have_count(0)
    assert stored(many)[:3] == ["Two", "One", "Task 1"]


def test_a_response_that_was_lost_changes_nothing_twice(many: Page, proxy: Proxy) -> None:
    slow_down(proxy, 300)
    type_title(many, "Buy milk")
    many.wait_for_timeout(220)  # milliseconds: the request is there, the response on its way
    proxy.cut()
    expect(unsaved(many)).to_have_count(0)
    box(many, "Task 1").click()
    many.wait_for_timeout(220)  # milliseconds
    proxy.cut()
    expect_counts(many, 61, 60, 1)
    assert stored(many)[:3] == ["Buy milk", "Task 2", "Task 3"]


@slow
def test_an_editor_is_not_opened_under_the_hands_of_somebody_who_types_elsewhere(
    many: Page, proxy: Proxy, latency: int
) -> None:
    slow_down(proxy, latency)
    many.get_by_role("link", name="Edit: Task 5", exact=True).click()
    field_of_new_task(many).press_sequentially("Milk", delay=400)
    expect(field_of_new_task(many)).to_have_value("Milk")
    expect(field_of_new_task(many)).to_be_focused()
    expect(title_field(many)).to_have_value("Task 5")


@slow
def test_a_saved_edit_is_shown_at_once_and_what_is_edited_next_stays(
    many: Page, proxy: Proxy, latency: int
) -> None:
    edit(many, "Task 5")
    title_field(many).fill("Task five")
    slow_down(proxy, latency)
    title_field(many).press("Enter")
    expect(titles(many).nth(4)).to_have_text("Task five", timeout=latency / 2)
    edit(many, "Task 6")
    title_field(many).press_sequentially(" and more", delay=latency / 10)
    expect(flash_message(many)).to_have_text("Task saved.")
    expect(title_field(many)).to_have_value("Task 6 and more")
    expect(title_field(many)).to_be_focused()


# The second click

FORMS = ["/register", "/login", "/tasks/completed/delete", "/account", "/account/delete"]
FORMS += ["/account/sessions/others/end"]
CLICKS = """async (form) => {
    const button = [...form.elements].find((element) => element.type === "submit");
    for (const pause of [30, 200, 0]) {
        button.click();
        await new Promise((resolve) => setTimeout(resolve, pause));
    }
}"""


def click_all_forms_of(page: Page, path: str) -> int:
    """Click the button of each form that loads a page three times; return the number of forms."""
    sent: list[str] = []

    def hold(route: Route) -> None:
        if route.request.method == "POST":
            sent.append(route.request.url)
        else:
            route.continue_()

    forms = page.locator("form[method=post]:not([data-send])")
    page.goto(path)
    count = forms.count()
    for index in range(count):
        page.goto(path)
        page.route("**/*", hold)
        forms.nth(index).evaluate(CLICKS)
        assert len(sent) == index + 1, (path, sent)
        page.unroute("**/*", hold)
    return count


def test_a_form_on_its_way_is_not_sent_again(context: BrowserContext, account: Account) -> None:
    page = context.new_page()
    strangers = [click_all_forms_of(page, path) for path in FORMS[:2]]
    assert min(strangers) >= 2  # its own, and the theme
    log_in(page, account)
    add(page, "Buy milk")
    links = [link(page, f"{name}: Buy milk").get_attribute("href") for name in ("Edit", "Delete")]
    for path in [*FORMS[2:], *filter(None, links)]:
        click_all_forms_of(page, path)
