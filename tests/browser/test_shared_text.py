"""A text from another page fills the form, beside what was typed here, and is added once."""

from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.support.browser_fixtures import Account
from tests.support.document_blocks import read_blocks
from tests.support.server_process import CHECKOUT
from tests.support.stories import (
    add,
    field_of_new_task,
    log_in,
    path_of,
    rows,
    titles,
    unsaved,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]

PAGE = CHECKOUT / "docs" / "how-to" / "add-from-anywhere.md"
ELSEWHERE = "https://tea.example/green?cup=1"


def bookmarklet(address: str) -> str:
    blocks = [block.text for block in read_blocks(PAGE.read_text(encoding="utf-8"))]
    [code] = [text.strip() for text in blocks if text.startswith("javascript:")]
    assert code.count("https://tasks.example.com/") == 1
    return code.removeprefix("javascript:").replace("https://tasks.example.com", address)


@with_scripts
def test_the_bookmarklet_fills_the_form_with_the_page_where_it_was_pressed(
    context: BrowserContext, account: Account, address: str
) -> None:
    page = context.new_page()
    log_in(page, account)
    content = "<title>Tea &amp; cups</title><p>Steep it for <b>three</b> minutes.</p><p>Then drink."
    page.route(
        "https://tea.example/**",
        lambda route: route.fulfill(body=content, content_type="text/html"),
    )
    page.goto(ELSEWHERE)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('p'))")
    with page.expect_popup() as opened:
        page.evaluate(bookmarklet(address))
    form = opened.value
    expect(field_of_new_task(form)).to_have_value("Tea & cups")
    description = f"Steep it for three minutes.\n{ELSEWHERE}"
    expect(form.get_by_label("Description")).to_have_value(description)
    expect(rows(form)).to_have_count(0)
    form.get_by_role("button", name="Add", exact=True).click()
    expect(titles(form)).to_have_text(["Tea & cups"])
    expect(field_of_new_task(form)).to_have_value("")


@with_scripts
def test_a_text_from_elsewhere_and_a_draft_of_ones_own_do_not_replace_each_other(
    tasks: Page,
) -> None:
    field_of_new_task(tasks).fill("Typed before")
    tasks.on("dialog", lambda dialog: dialog.accept())
    tasks.goto("/tasks?title=From+elsewhere")
    expect(field_of_new_task(tasks)).to_have_value("From elsewhere")
    field_of_new_task(tasks).fill("")
    field_of_new_task(tasks).press("Enter")
    expect(tasks.get_by_text("Title is required")).to_be_visible()
    tasks.goto("/tasks?title=From+elsewhere")
    field_of_new_task(tasks).press("Enter")
    expect(titles(tasks)).to_have_text(["From elsewhere"])
    expect(field_of_new_task(tasks)).to_have_value("Typed before")


def test_a_second_press_while_the_first_is_on_its_way_adds_once_and_is_no_error(
    tasks: Page, has_scripts: bool
) -> None:
    add(tasks, "Buy milk")
    statuses: list[int] = []
    tasks.on("response", lambda response: statuses.append(response.status))
    sent: list[Route] = []

    def hold_the_first(route: Route) -> None:
        sent.append(route)
        if has_scripts or len(sent) > 1:
            route.continue_()

    tasks.route("**/tasks", hold_the_first)
    field_of_new_task(tasks).fill("Call Ada")
    field_of_new_task(tasks).focus()
    with tasks.expect_request("**/tasks"):
        tasks.keyboard.press("Enter")
    tasks.keyboard.press("Enter")
    expect(titles(tasks)).to_have_text(["Call Ada", "Buy milk"])
    expect(unsaved(tasks)).to_have_count(0)
    assert path_of(tasks) == "/tasks"
    assert max(statuses) < 400
