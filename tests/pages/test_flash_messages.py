"""A flash message is one of our sentences for any cookie, and is shown once."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.flash_messages import FlashMessage, Undo, read_flash_message
from handlers.rendering.languages import LANGUAGES
from tests.support.api_tools import NO_TASK
from tests.support.page_client import ALICE, HOSTILE, PASSWORD, PageClient, cookie_name

pytest_plugins = ["tests.support.page_fixtures"]

FIXED = {
    "registered": "Account created. Log in to get started.",
    "logged-out": "You have been logged out.",
    "session-over": "Your session has ended. Log in to continue.",
    "session-ended": "Session logged out.",
    "all-ended": "All other sessions logged out and all tokens revoked.",
    "password-changed": "Password changed.",
    "token-revoked": "Token revoked.",
    "account-deleted": "Your account and all its data have been deleted.",
    "account-closed": (
        "Your account has been closed. Deleting all its data takes some minutes more."
    ),
    "added": "Task added.",
    "saved": "Task saved.",
    "completed": "Task completed.",
    "reopened": "Task reopened.",
    "deleted": "Task deleted.",
    "restored": "Task restored.",
}
COUNTED = {
    "added-several": ("# task added.", "# tasks added."),
    "sessions-ended": ("# session logged out.", "# sessions logged out."),
    "deleted-completed": ("# completed task deleted.", "# completed tasks deleted."),
    "restored-several": ("# task restored.", "# tasks restored."),
}
OURS = {*FIXED.values(), *(form for forms in COUNTED.values() for form in forms)}
DELETIONS = ("deleted", "deleted-completed")
STATUS_BEFORE = {"completed": "pending", "reopened": "completed"}
COOKIE = cookie_name("flash")
SIGNED = "WyJh.signed"
HARMLESS = [
    *("nothing", "added-several", "added-several.", "added-several.-1", "added-several.1e9"),
    *("added-several.9999999999", f"added-several.{NO_TASK}", "Added", "saved_1", ".", ".1"),
]


def read(cookie: str) -> FlashMessage | None:
    """Read a cookie as a user does for whom one text of deleted tasks is signed."""
    return read_flash_message(cookie, SIGNED.__eq__)


@pytest.mark.parametrize("code", FIXED)
@pytest.mark.parametrize("subject", ["", ".", ".1", ".x", ".<b>"])
def test_a_code_stands_for_a_sentence(code: str, subject: str) -> None:
    found = read(code + subject)
    assert found is not None
    assert (found.message, found.undo) == (FIXED[code], None)


@pytest.mark.parametrize("code", COUNTED)
@pytest.mark.parametrize(
    ("subject", "number", "form"),
    [("0", "0", 1), ("1", "1", 0), ("2", "2", 1), ("001", "1", 0), ("123456789", "123,456,789", 1)],
)
def test_a_number_selects_the_plural_form(code: str, subject: str, number: str, form: int) -> None:
    found = read(f"{code}.{subject}")
    assert found is not None
    assert (found.message, found.undo) == (COUNTED[code][form].replace("#", number), None)


@pytest.mark.parametrize("code", FIXED)
def test_only_a_change_of_the_status_names_a_task_to_undo_it(code: str) -> None:
    found = read(f"{code}.{NO_TASK.upper()}")
    assert found is not None
    before = STATUS_BEFORE.get(code)
    assert found.undo == (Undo(f"/tasks/{NO_TASK}/status", "status", before) if before else None)


@pytest.mark.parametrize("code", [*FIXED, *COUNTED])
@pytest.mark.parametrize("text", [SIGNED, f"{SIGNED}x", "x", ""])
def test_only_a_deletion_is_undone_and_only_by_what_was_signed(code: str, text: str) -> None:
    found = read(f"{code}.3.{text}")
    if code in DELETIONS:
        assert found is not None
        wanted = Undo("/tasks/restore", "deleted", SIGNED) if text == SIGNED else None
        assert found.undo == wanted
    else:
        assert found is None or found.undo is None


SUBJECTS = st.one_of(
    st.uuids().map(str),
    st.integers().map(str),
    st.text(st.characters(categories=["N"]), max_size=12),
    st.text(),
)
CODES = st.sampled_from([*FIXED, *COUNTED, ""])


@given(st.text() | st.builds("{}{}{}".format, CODES, st.sampled_from([".", "", "."]), SUBJECTS))
def test_any_cookie_yields_one_of_our_sentences_or_none(cookie: str) -> None:
    found = read(cookie)
    if found is None:
        return
    assert re.sub(r"\d[\d,]*", "#", found.message) in OURS
    for language in LANGUAGES.values():
        assert language.translate(found.message)
    if found.undo:
        assert found.undo.value in {"pending", "completed"}
        path = re.fullmatch(r"/tasks/([0-9a-f-]{36})/status", found.undo.path)
        assert path
        assert cookie.endswith(f".{path[1]}")


@pytest.mark.gen_test
@pytest.mark.parametrize("cookie", [*HARMLESS, *HOSTILE, "added\xe9"])
async def test_a_cookie_with_another_text_shows_nothing(visitor: PageClient, cookie: str) -> None:
    visitor.cookies[COOKIE] = cookie
    page = await visitor.open("/login")
    assert (page.status, page.flash_message) == (200, "")
    assert page.text == (await visitor.open("/login")).text
    assert (page.tags("svg"), len(page.tags("script"))) == ([], 1)


@pytest.mark.gen_test
@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_flash_message_is_shown_once_and_in_the_language_of_the_page(
    visitor: PageClient, language: str
) -> None:
    visitor.headers = {"Accept-Language": language}
    visitor.cookies[COOKIE] = "deleted-completed.1234"
    said = {
        "en": "1,234 completed tasks deleted.",
        "de": "1.234 erledigte Aufgaben gelöscht.",
    }
    assert (await visitor.open("/login")).flash_message == said[language]
    assert COOKIE not in visitor.cookies
    assert (await visitor.open("/login")).flash_message == ""


@pytest.mark.gen_test
async def test_a_flash_message_waits_for_the_page_after_a_redirect(visitor: PageClient) -> None:
    visitor.cookies[COOKIE] = "logged-out"
    assert (await visitor.fetch("GET", "/")).status == 303
    assert (await visitor.fetch("GET", "/static/style.css")).status == 200
    assert (await visitor.open("/login")).flash_message == "You have been logged out."


@pytest.mark.gen_test
async def test_a_change_is_confirmed_with_its_number_and_can_be_undone(
    mine: PageClient,
) -> None:
    await mine.open("/tasks")
    page = await mine.submit("Add tasks", titles="Buy milk\nCall Ada\nWrite")
    assert page.flash_message == "3 tasks added."
    page = await mine.submit("Buy milk")
    assert page.flash_message == "Task completed. Undo"
    page = await mine.submit("Undo")
    assert (page.flash_message, page.is_checked("Buy milk")) == (
        "Task reopened. Undo",
        False,
    )
    page = await mine.submit("Undo")
    assert (page.flash_message, page.is_checked("Buy milk")) == ("Task completed. Undo", True)
    await mine.open("/tasks/completed/delete")
    page = await mine.submit("Delete")
    assert (page.flash_message, page.titles) == (
        "1 completed task deleted. Undo",
        ["Call Ada", "Write"],
    )


@pytest.mark.gen_test
async def test_a_forged_undo_reaches_no_task_of_another_user(
    visitor: PageClient, task: dict[str, str]
) -> None:
    await visitor.sign_up("bob@example.com")
    await visitor.log_in("bob@example.com")
    visitor.cookies[COOKIE] = f"reopened.{task['id']}"
    assert (await visitor.open("/tasks")).flash_message == "Task reopened. Undo"
    assert (await visitor.submit("Undo")).status in {403, 404}
    await visitor.submit("Log out")
    await visitor.log_in(ALICE, PASSWORD)
    assert not visitor.page.is_checked("Buy milk")
