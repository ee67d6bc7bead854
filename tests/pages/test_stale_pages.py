"""A page that is older than the session works, or says what to do (ADR 0045)."""

import pytest

from taskapp.core.errors import FormNotTrusted
from taskapp.operations.accounts import log_out
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, PASSWORD, PageClient, cookie_name, titles
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]


def by_browser(visitor: PageClient) -> dict[str, str]:
    """Return the headers of forms by which a browser tells that this site sent them."""
    return {"Origin": visitor.base_url}


async def end_session_of(visitor: PageClient, services: Services) -> None:
    """End the session of a browser from elsewhere."""
    session = services.signer.read_session_cookie(visitor.cookies[cookie_name("session")])
    assert session
    await log_out(services, session)


async def log_in_elsewhere(visitor: PageClient, page: Page) -> None:
    """Log out and in again in another tab, and return to the page."""
    await visitor.open("/tasks")
    await visitor.submit("Log out")
    await visitor.log_in(ALICE)
    visitor.page = page


@pytest.mark.parametrize("sent", [{"Origin": ""}, {"Sec-Fetch-Site": "same-origin"}])
async def test_a_page_from_before_the_login_logs_out(
    mine: PageClient, alice: ApiClient, sent: dict[str, str]
) -> None:
    await log_in_elsewhere(mine, await mine.open("/tasks"))
    mine.headers = {name: text or mine.base_url for name, text in sent.items()}
    page = await mine.submit("Log out")
    assert page.flash_message == "You have been logged out."
    assert cookie_name("session") not in mine.cookies


async def test_a_page_from_before_the_login_changes_the_theme(mine: PageClient) -> None:
    await log_in_elsewhere(mine, await mine.open("/tasks"))
    mine.headers = by_browser(mine)
    assert (await mine.submit("Dark")).titles == []
    assert mine.cookies[cookie_name("theme")] == "dark"


async def test_of_two_login_pages_the_second_leads_on(
    visitor: PageClient, alice: ApiClient
) -> None:
    second = await visitor.open("/login?next=%2Ftasks%3Fstatus%3Dpending")
    await visitor.log_in(ALICE)
    before = visitor.cookies[cookie_name("session")]
    visitor.page = second
    page = await visitor.submit("Log in", email=" Alice@example.com ", password="anything")
    assert page.address == "/tasks?status=pending"
    assert visitor.cookies[cookie_name("session")] == before


async def test_of_two_login_pages_the_second_logs_in_another_user(
    visitor: PageClient, other: PageClient, alice: ApiClient, bob: ApiClient
) -> None:
    second = await visitor.open("/login")
    await visitor.log_in(ALICE)
    other.cookies = dict(visitor.cookies)
    visitor.page, visitor.headers = second, by_browser(visitor)
    page = await visitor.submit("Log in", email=BOB, password=PASSWORD)
    assert "Logged in as bob@example.com" in page.text
    assert (await other.open("/tasks")).has_form("Log in")  # the session before has ended


@pytest.mark.parametrize("button", ["Log in", "Create account"])
async def test_a_form_whose_browser_got_another_csrf_cookie_is_taken(
    visitor: PageClient, alice: ApiClient, button: str
) -> None:
    email = ALICE if button == "Log in" else "carol@example.com"
    first = await visitor.open("/login" if button == "Log in" else "/register")
    visitor.cookies.clear()
    await visitor.open("/login")  # as a browser that restores both tabs does
    visitor.page, visitor.headers = first, by_browser(visitor)
    page = await visitor.send(button, email=email, password=PASSWORD)
    assert page.status == 303


async def test_a_browser_without_cookies_is_told_to_allow_them(
    visitor: PageClient, alice: ApiClient
) -> None:
    await visitor.open("/login")
    visitor.cookies.clear()
    visitor.headers = by_browser(visitor)
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.status == 403
    assert "allow cookies" in page.text
    assert page.form("Log in").fields["email"] == ALICE


@pytest.mark.parametrize(
    ("address", "button", "done"),
    [
        ("/tasks", "Buy milk", "Task completed."),
        ("/tasks/{id}/delete", "Delete", "Task deleted."),
        ("/tasks/completed/delete", "Delete", "1 completed task deleted."),
    ],
)
async def test_a_click_sends_a_form_of_an_older_page_again(
    mine: PageClient,
    alice: ApiClient,
    task: dict[str, str],
    address: str,
    button: str,
    done: str,
) -> None:
    await alice.add_task("Done", status="completed")
    await log_in_elsewhere(mine, await mine.open(address.format(**task)))
    page = await mine.send(button)
    assert page.status == 403
    assert FormNotTrusted.detail in page.text
    assert "You may have logged in again" in page.text
    assert "allow cookies" not in page.text
    assert (await mine.submit("Send again")).flash_message.startswith(done)


@pytest.mark.parametrize(
    ("button", "path"),
    [("Create token", "/account/tokens"), ("Update password", "/account/password")],
)
async def test_a_form_with_a_password_is_opened_again(
    mine: PageClient, button: str, path: str
) -> None:
    await log_in_elsewhere(mine, await mine.open("/account"))
    page = await mine.send(button)
    assert page.status == 403
    assert PASSWORD not in page.html
    assert page.link("Open the form again") == path
    assert (await mine.open(path)).has_form(button)


# A session that has ended


@pytest.mark.parametrize("query", ["", "?status=pending"])
@pytest.mark.parametrize("keeps_cookie", [True, False])
async def test_a_tick_after_the_end_of_the_session_says_so_and_leads_back_to_the_list(
    mine: PageClient,
    services: Services,
    task: dict[str, str],
    query: str,
    keeps_cookie: bool,
) -> None:
    await mine.open(f"/tasks{query}")
    await end_session_of(mine, services)
    if not keeps_cookie:  # its time is up
        del mine.cookies[cookie_name("session")]
    login = await mine.submit("Buy milk")
    assert "Your session has ended. Log in to continue." in login.text
    page = await mine.submit("Log in", email=ALICE, password=PASSWORD)
    assert page.address == f"/tasks{query}"


async def test_the_answer_to_a_form_of_an_ended_session_removes_no_cookie(
    mine: PageClient, services: Services, alice: ApiClient, task: dict[str, str]
) -> None:
    addresses = ("/tasks", "/account", f"/tasks/{task['id']}/edit", "/account/delete")
    forms = [form for address in addresses for form in (await mine.open(address)).forms]
    await end_session_of(mine, services)
    before = mine.cookies[cookie_name("session")]
    for form in forms:
        for button in form.buttons:
            if button.label not in {"Log out", "System"}:
                await mine.fetch("POST", button.action, form.fields | {"title": "Typed"})
                assert mine.cookies[cookie_name("session")] == before, button.label
    assert await titles(alice) == ["Buy milk"]
