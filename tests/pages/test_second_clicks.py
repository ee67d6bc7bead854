"""A second click is the first one: every form, sent twice, ends with what the first one did."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import psycopg2
import pytest

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from taskapp.config.settings import Settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test

CAROL = "carol@example.com"
NEW_PASSWORD = f"another {PASSWORD}"
CONFIRMED = {"password": PASSWORD}


@dataclass
class Story:
    """A form, what its user is told at the end, and what there is more afterwards."""

    route: str
    address: str
    button: str
    told: str
    fields: dict[str, str] = field(default_factory=dict)
    first: str = ""  # the button of a form before
    is_logged_in: bool = True  # before
    stays: bool = True  # logged in afterwards
    users: int = 0
    sessions: int = 0
    tokens: int = 0
    tasks: int = 0


STORIES = [
    Story(
        *("/register", "/register", "Create account", "Account created."),
        fields={"email": CAROL, "password": PASSWORD},
        is_logged_in=False,
        stays=False,
        users=1,
    ),
    Story(
        *("/login", "/login?next=%2Ftasks%3Fstatus%3Dpending", "Log in", "Buy milk"),
        fields={"email": ALICE, "password": PASSWORD},
        is_logged_in=False,
        sessions=1,
    ),
    Story("/logout", "/tasks", "Log out", "You have been logged out.", stays=False, sessions=-1),
    Story(
        *("/account/password", "/account", "Update password", "Password changed."),
        fields={"current_password": PASSWORD, "new_password": NEW_PASSWORD},
        sessions=-3,  # one of them of the API
        tokens=-1,
    ),
    Story(
        *("/account/tokens", "/account", "Create token", "Your new token"),
        fields={"name": "Backups", "password": PASSWORD},
        tokens=1,
    ),
    Story(
        "/account/sessions/others/end",
        "Log out everywhere else",
        "Log out everywhere else",
        "3 sessions logged out.",
        CONFIRMED,
        sessions=-3,
    ),
    Story(
        "/account/sessions/:id/end",
        "Log out: Tornado (API client), 127.0.0.1",
        *("Log out session", "Session logged out.", CONFIRMED),
        sessions=-1,
    ),
    Story(
        *("/account/sessions/:id/end", "Revoke: Scripts", "Revoke token", "Token revoked."),
        fields=CONFIRMED,
        tokens=-1,
    ),
    Story(
        *("/account/delete", "/account/delete", "Delete my account"),
        *("Your account and all its data have been deleted.", CONFIRMED),
        stays=False,
        users=-1,
        sessions=-4,
        tokens=-1,
        tasks=-3,
    ),
    Story("/theme", "/tasks", "Dark", "Buy milk"),
    Story("/tasks", "/tasks", "Add", "Task added.", {"title": "Call Ada"}, tasks=1),
    Story(
        *("/tasks/several", "/tasks", "Add tasks", "2 tasks added."),
        fields={"titles": "Call Ada\nCall Bea"},
        tasks=2,
    ),
    Story(
        *("/tasks/completed/delete", "/tasks/completed/delete", "Delete"),
        "2 completed tasks deleted.",
        tasks=-2,
    ),
    Story("/tasks/:id/edit", "Edit: Buy milk", "Save", "Task saved.", {"title": "Buy bread"}),
    Story("/tasks/:id/status", "/tasks", "Buy milk", "Task completed."),
    Story("/tasks/:id/delete", "Delete: Buy milk", "Delete", "Task deleted.", tasks=-1),
    Story("/tasks/restore", "Delete: Buy milk", "Undo", "Task restored.", first="Delete"),
]
IDS = [f"{story.button} {story.route}" for story in STORIES]


def test_every_form_of_the_site_has_a_story() -> None:
    forms = {
        path
        for path, handler in ROUTES
        if issubclass(handler, PageHandler) and "POST" in handler.allowed_methods()
    }
    assert {story.route for story in STORIES} == forms


def counts(settings: Settings) -> dict[str, int]:
    """Return how many rows of each kind are stored."""
    connection = psycopg2.connect(settings.database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT count(*) FROM users),"
            " (SELECT count(*) FROM sessions WHERE name IS NULL),"
            " (SELECT count(*) FROM sessions WHERE name IS NOT NULL),"
            " (SELECT count(*) FROM tasks)"
        )
        numbers = cursor.fetchone() or ()
    connection.close()
    return dict(zip(("users", "sessions", "tokens", "tasks"), numbers, strict=True))


async def at_once(browser: PageClient, second: PageClient, sent: list[Any]) -> Page:
    _, page = await asyncio.gather(browser.fetch(*sent), second.fetch(*sent))
    return page


async def before_the_response(browser: PageClient, second: PageClient, sent: list[Any]) -> Page:
    """Send the form again with the cookies from before the response, as on a slow line."""
    await browser.fetch(*sent)
    return await second.fetch(*sent)


async def after_the_response(browser: PageClient, second: PageClient, sent: list[Any]) -> Page:
    """Send the form again when its page is still shown, and the response is there."""
    await browser.fetch(*sent)
    second.cookies = dict(browser.cookies)
    return await second.fetch(*sent)


async def after_the_next_page(browser: PageClient, second: PageClient, sent: list[Any]) -> Page:
    """Send the form again when the next page has been loaded in vain."""
    await browser.follow(await browser.fetch(*sent))
    second.cookies = dict(browser.cookies)
    return await second.fetch(*sent)


async def send_again(
    visitor: PageClient, other: PageClient, sent: list[Any], again: Callable[..., Any]
) -> Page:
    """Send a form twice, and return the page that a browser shows in the end."""
    other.cookies = dict(visitor.cookies)
    other.morsels.clear()
    response = await again(visitor, other, sent)
    for name, morsel in other.morsels.items():
        if name in other.cookies:
            visitor.cookies[name] = morsel.value
        else:
            visitor.cookies.pop(name, None)
    return await visitor.follow(response)


sent_again = pytest.mark.parametrize(
    "again", [at_once, before_the_response, after_the_response, after_the_next_page]
)


@sent_again
@pytest.mark.parametrize("story", STORIES, ids=IDS)
async def test_a_second_click_is_the_first_one(
    visitor: PageClient,
    other: PageClient,
    alice: ApiClient,
    task: dict[str, str],
    settings: Settings,
    story: Story,
    again: Callable[..., Any],
) -> None:
    for title in ("Done", "Done too"):
        await alice.add_task(title, status="completed")
    if story.is_logged_in:
        for browser in (other, other, visitor):
            browser.cookies.clear()
            await browser.log_in(ALICE)
        await other.make_token(name="Scripts", password=PASSWORD)
    before = counts(settings)

    address = story.address
    if not address.startswith("/"):
        list_of_links = "/tasks" if story.route.startswith("/tasks") else "/account"
        address = (await visitor.open(list_of_links)).link(address)
    page = await visitor.open(address)
    if story.first:
        page = await visitor.submit(story.first)
    form, button = page.form(story.button), page.button(story.button)
    sent = ["POST", button.action, form.fields | button.fields | story.fields]
    last = await send_again(visitor, other, sent, again)

    assert last.status == 200
    assert story.told in last.text
    assert "Error" not in last.text
    assert last.has_form("Log out") == story.stays
    assert (await visitor.open("/tasks")).has_form("Log out") == story.stays
    changed = {name: number - before[name] for name, number in counts(settings).items()}
    assert changed == {name: getattr(story, name) for name in changed}
    assert (story.route != "/theme") or visitor.cookies[cookie_name("theme")] == "dark"


@sent_again
async def test_a_deletion_that_is_sent_twice_can_be_undone(
    mine: PageClient, other: PageClient, task: dict[str, str], again: Callable[..., Any]
) -> None:
    await mine.open((await mine.open("/tasks")).link("Delete: Buy milk"))
    button, form = mine.page.button("Delete"), mine.page.form("Delete")
    await send_again(mine, other, ["POST", button.action, form.fields], again)
    assert (await mine.submit("Undo")).titles == ["Buy milk"]


async def test_a_token_made_by_two_clicks_is_the_one_that_works(
    mine: PageClient, other: PageClient
) -> None:
    await mine.open("/account")
    page = mine.page
    texts = []
    for _ in range(2):
        mine.page = page
        token = await mine.send("Create token", name="Backups", password=PASSWORD)
        texts.append(token.text.partition("Authorization")[0])
    assert texts[0] == texts[1]
    mine.page = page
    token = await mine.send("Create token", name="Backups", expires="never", password=PASSWORD)
    assert "You already have a token with this name" in token.text


async def test_a_form_that_began_a_session_begins_another_one_after_the_logout(
    visitor: PageClient, other: PageClient, alice: ApiClient
) -> None:
    form = await visitor.open("/login")
    await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    copied = dict(visitor.cookies)
    await visitor.submit("Log out")
    visitor.headers = {"Origin": visitor.base_url}
    await visitor.open("/login")
    visitor.page = form  # by Back
    page = await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    assert page.has_form("Log out")
    other.cookies = copied
    assert (await other.open("/tasks")).has_form("Log in")


async def test_registering_again_with_another_password_is_no_second_click(
    visitor: PageClient, alice: ApiClient
) -> None:
    form = await visitor.open("/register")
    await visitor.submit("Create account", email=CAROL, password=PASSWORD)
    visitor.page = form
    page = await visitor.submit("Create account", email=CAROL, password=NEW_PASSWORD)
    assert page.status == 409
    assert "already exists" in page.text
    for password in (PASSWORD, NEW_PASSWORD):
        await visitor.open("/register")
        page = await visitor.submit("Create account", email=ALICE, password=password)
        assert page.status == 409


async def test_whose_session_ended_is_not_told_that_the_account_is_deleted(
    mine: PageClient, bob: ApiClient
) -> None:
    await mine.open("/account/delete")
    del mine.cookies[cookie_name("session")]
    page = await mine.submit("Delete my account", password=PASSWORD)
    assert "Your session has ended." in page.text
    assert (await mine.log_in(ALICE)).has_form("Log out")
