"""The acceptance criteria of the requirements (PRD, section 5) in a real browser.

Each is proven in Chromium with scripts on and with scripts off.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.browser_fixtures import Account, new_account, running_browser, running_server

HOSTILE = ['"><svg onload=alert(1)>', "{{7*7}}", "</title>", "<script>alert(1)</script>"]
# Every width of a column that has to hold it, and no place to break.
UNBROKEN = "Donaudampfschifffahrtsgesellschaft" * 7


# Not for the whole session: Playwright's loop would run in the thread of the other tests' loops.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as chromium:
        yield chromium


@pytest.fixture(scope="module", autouse=True)
def patience() -> None:
    """Wait longer than Playwright does, for a machine that has other things to do."""
    expect.set_options(timeout=15_000)


@pytest.fixture(scope="module")
def address(database_url: str, short_folder: Path) -> Iterator[str]:
    with running_server(short_folder / "browser", TASKAPP_DATABASE_URL=database_url) as url:
        yield url


@pytest.fixture(params=["scripts on", "scripts off"])
def context(
    request: pytest.FixtureRequest, browser: Browser, address: str
) -> Iterator[BrowserContext]:
    made = browser.new_context(base_url=address, java_script_enabled=request.param == "scripts on")
    made.set_default_timeout(15_000)
    yield made
    made.close()


with_scripts = pytest.mark.parametrize("context", ["scripts on"], indirect=True)


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


@pytest.fixture
def account(context: BrowserContext) -> Account:
    """Give an account."""
    made = new_account("alice")
    sent = {"email": made.email, "password": made.password}
    assert context.request.post("/api/auth/register", data=sent).status == 201
    return made


@pytest.fixture
def tasks(page: Page, account: Account) -> Page:
    """The task list of somebody who has just logged in."""
    log_in(page, account)
    return page


def register(page: Page, account: Account) -> None:
    page.goto("/register")
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Make my account").click()


def log_in(page: Page, account: Account) -> None:
    page.goto("/login")
    enter(page, account)


def enter(page: Page, account: Account) -> None:
    page.get_by_label("E-mail").fill(account.email)
    page.get_by_label("Password").fill(account.password)
    page.get_by_role("button", name="Log in").click()


def add(page: Page, title: str, description: str = "") -> None:
    page.get_by_label("New task").fill(title)
    if description:
        page.get_by_text("Add a description").click()
        page.get_by_label("Description").fill(description)
    page.get_by_role("button", name="Add").click()


def path_of(page: Page) -> str:
    return page.url.split("/", 3)[3].split("#")[0]


# The acceptance criteria


def test_registering_makes_the_account_and_leads_to_the_login_page(page: Page) -> None:
    account = new_account("alice")
    register(page, account)
    assert path_of(page) == "login"
    expect(page.get_by_role("status")).to_have_text("Your account is ready. Log in to begin.")
    enter(page, account)
    assert path_of(page) == "tasks"


def test_logging_in_leads_to_the_tasks(page: Page, account: Account) -> None:
    log_in(page, account)
    assert path_of(page) == "tasks"
    expect(page.get_by_text(f"Logged in as {account.email}")).to_be_visible()


def test_a_new_task_is_visible_at_once(tasks: Page) -> None:
    add(tasks, "Buy milk", "Oat, two of them")
    row = tasks.get_by_role("listitem")
    expect(row).to_have_count(1)
    expect(row).to_contain_text("Buy milk")
    expect(row).to_contain_text("Oat, two of them")


def test_all_tasks_are_in_a_list(tasks: Page) -> None:
    for title in ("First", "Second", "Third"):
        add(tasks, title)
    tasks.goto("/tasks")
    rows = tasks.get_by_role("list").get_by_role("listitem")
    expect(rows).to_contain_text(["Third", "Second", "First"])


def test_an_edited_task_is_saved_and_in_the_list(tasks: Page) -> None:
    add(tasks, "Buy milk")
    tasks.get_by_role("link", name="Edit Buy milk").click()
    tasks.get_by_label("Title").fill("Buy bread")
    tasks.get_by_label("Description").fill("Rye")
    tasks.get_by_role("button", name="Save").click()
    assert path_of(tasks) == "tasks"
    expect(tasks.get_by_role("listitem")).to_contain_text("Buy bread")
    expect(tasks.get_by_role("listitem")).to_contain_text("Rye")


def test_a_task_is_deleted_for_good_after_a_question(tasks: Page) -> None:
    add(tasks, "Buy milk")
    tasks.get_by_role("link", name="Delete Buy milk").click()
    expect(tasks.get_by_role("heading", name="Delete this task?")).to_be_visible()
    tasks.get_by_role("button", name="Delete").click()
    expect(tasks.get_by_text("No tasks yet.")).to_be_visible()
    tasks.goto("/tasks?status=completed")
    expect(tasks.get_by_role("listitem")).to_have_count(0)


def test_a_completed_task_looks_different_from_a_pending_one(tasks: Page) -> None:
    add(tasks, "Done")
    add(tasks, "To do")
    tasks.get_by_role("checkbox", name="Done").click()
    expect(tasks.get_by_role("checkbox", name="Done")).to_be_checked()
    expect(tasks.get_by_role("checkbox", name="To do")).not_to_be_checked()
    expect(tasks.locator("s")).to_have_text(["Done"])
    tasks.get_by_role("checkbox", name="Done").press("Space")
    expect(tasks.get_by_role("checkbox", name="Done")).not_to_be_checked()


def test_logging_out_ends_the_session_and_leads_to_the_login_page(tasks: Page) -> None:
    tasks.get_by_role("button", name="Log out").click()
    assert path_of(tasks) == "login"
    tasks.goto("/tasks")
    assert path_of(tasks) == "login?next=/tasks"


# What only a browser can prove


@with_scripts
def test_going_back_after_the_logout_shows_nothing_private(tasks: Page) -> None:
    add(tasks, "A secret")
    expect(tasks.get_by_text("A secret")).to_be_visible()
    tasks.get_by_role("button", name="Log out").click()
    expect(tasks.get_by_text("You are logged out.")).to_be_visible()
    tasks.go_back()
    expect(tasks.get_by_text("A secret")).to_have_count(0)
    expect(tasks.get_by_role("heading", name="Log in")).to_be_visible()


def test_what_was_typed_while_the_session_ended_is_back_after_the_login(
    tasks: Page, context: BrowserContext, account: Account
) -> None:
    context.clear_cookies(name="taskapp-session")
    add(tasks, "Typed for long", "\nwith a line end first")
    expect(tasks.get_by_text("Your session has ended.")).to_be_visible()
    enter(tasks, account)
    expect(tasks.get_by_label("Title")).to_have_value("Typed for long")
    expect(tasks.get_by_label("Description")).to_have_value("\nwith a line end first")
    tasks.get_by_role("button", name="Save it now").click()
    expect(tasks.get_by_role("listitem")).to_contain_text("Typed for long")


@with_scripts
def test_a_double_click_makes_one_task(tasks: Page) -> None:
    tasks.get_by_label("New task").fill("Buy milk")
    tasks.get_by_role("button", name="Add").dblclick()
    expect(tasks.get_by_text("Task added.")).to_be_visible()
    expect(tasks.get_by_role("listitem")).to_have_count(1)


def test_a_conflict_shows_both_texts_and_saving_works(tasks: Page, context: BrowserContext) -> None:
    add(tasks, "Buy milk")
    tasks.get_by_role("link", name="Edit Buy milk").click()
    other = context.new_page()
    other.goto(tasks.url)
    for page, title in ((other, "By the other"), (tasks, "By me")):
        page.get_by_label("Title").fill(title)
        page.get_by_role("button", name="Save").click()
    expect(tasks.get_by_role("alert")).to_contain_text("By the other")
    expect(tasks.get_by_label("Title")).to_have_value("By me")
    tasks.get_by_role("button", name="Save").click()
    expect(tasks.get_by_role("listitem")).to_contain_text("By me")


@with_scripts
def test_hostile_text_is_shown_as_text_and_runs_nothing(tasks: Page) -> None:
    seen: list[str] = []
    tasks.on("dialog", lambda dialog: seen.append(dialog.message))
    for text in HOSTILE:
        add(tasks, text, text)
        expect(tasks.get_by_role("checkbox", name=text, exact=True)).to_have_count(1)
    expect(tasks.locator("main svg, main script")).to_have_count(0)
    tasks.get_by_role("link", name=f"Edit {HOSTILE[0]}").click()
    expect(tasks.get_by_label("Title")).to_have_value(HOSTILE[0])
    tasks.goto("/tasks")
    tasks.get_by_role("link", name=f"Delete {HOSTILE[0]}").click()
    expect(tasks.locator("main svg")).to_have_count(0)
    assert seen == []


@with_scripts
def test_a_hostile_address_is_shown_as_text(page: Page) -> None:
    seen: list[str] = []
    page.on("dialog", lambda dialog: seen.append(dialog.message))
    page.goto("/register")
    page.get_by_label("E-mail").fill('"><svg/onload=alert(1)>@example.com')
    page.get_by_label("Password").fill("short")
    page.get_by_role("button", name="Make my account").click()
    expect(page.get_by_label("E-mail")).to_have_value('"><svg/onload=alert(1)>@example.com')
    expect(page.locator("main svg")).to_have_count(0)
    assert seen == []


@with_scripts
def test_an_error_is_read_out_with_its_field_which_has_the_focus(tasks: Page) -> None:
    add(tasks, "x" * 300)
    field = tasks.get_by_label("New task")
    expect(field).to_be_focused()
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(
        "At most 255 characters are possible; this has 300."
    )
    expect(field).to_have_value("x" * 300)


@with_scripts
def test_the_checkbox_of_a_task_is_one_for_assistive_technology(tasks: Page) -> None:
    add(tasks, "Buy milk")
    expect(tasks.get_by_role("list")).to_match_aria_snapshot(
        """
        - list:
          - listitem:
            - checkbox "Buy milk"
            - paragraph: Buy milk
            - paragraph: /Pending/
            - paragraph:
              - link "Edit Buy milk"
              - link "Delete Buy milk"
        """
    )
    tasks.get_by_role("checkbox").click()
    expect(tasks.get_by_role("checkbox", checked=True)).to_have_accessible_name("Buy milk")


@with_scripts
def test_everything_can_be_done_with_the_keyboard_alone(tasks: Page) -> None:
    tasks.keyboard.type("Buy milk")
    tasks.keyboard.press("Enter")
    expect(tasks.get_by_label("New task")).to_be_focused()
    for _ in range(6):  # the description, Add, three filters, the checkbox
        tasks.keyboard.press("Tab")
    expect(tasks.get_by_role("checkbox")).to_be_focused()
    outline = tasks.get_by_role("checkbox").evaluate("node => getComputedStyle(node).outlineStyle")
    assert outline == "solid"
    tasks.keyboard.press("Space")
    expect(tasks.get_by_role("checkbox")).to_be_checked()


@with_scripts
def test_cookies_cannot_be_read_by_scripts(tasks: Page, context: BrowserContext) -> None:
    assert {cookie["name"] for cookie in context.cookies()} >= {"taskapp-session", "taskapp-xsrf"}
    assert all(cookie["httpOnly"] and cookie["sameSite"] == "Lax" for cookie in context.cookies())


@with_scripts
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_is_wider_than_a_small_telephone(tasks: Page, scheme: str) -> None:
    tasks.set_viewport_size({"width": 360, "height": 740})
    tasks.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    add(tasks, UNBROKEN, UNBROKEN)
    edit = tasks.get_by_role("link", name=f"Edit {UNBROKEN}").get_attribute("href") or ""
    for address in ("/tasks", edit, edit.replace("/edit", "/delete"), "/nowhere", "/api/docs"):
        tasks.goto(address)
        assert _overflow(tasks) <= 0, address
    tasks.goto("/tasks")
    tasks.get_by_role("button", name="Log out").click()
    for address in ("/login", "/register"):
        tasks.goto(address)
        assert _overflow(tasks) <= 0, address


def _overflow(page: Page) -> int:
    """Tell by how many pixels a page is wider than the window."""
    wider: int = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    return wider
