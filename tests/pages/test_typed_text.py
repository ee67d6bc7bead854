"""Typed text is never lost: a form that is rejected for any reason can be sent again."""

import pytest

from taskapp.operations.accounts import log_out
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, PASSWORD, PageClient, cookie_name, stored, titles

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test


# The session ended


async def test_what_was_typed_while_the_session_ended_is_added_after_the_login(
    mine: PageClient, alice: ApiClient
) -> None:
    del mine.cookies[cookie_name("session")]
    page = await mine.send("Add", title="Typed for long", description="\nWith <care>")
    assert page.status == 401
    assert "Your session has expired." in page.text
    await mine.send("Log in", email=ALICE, password="wrong at first")
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save changes").fields["title"] == "Typed for long"
    assert page.form("Save changes").fields["description"] == "\nWith <care>"
    assert page.has_form("Log out")
    assert (await mine.submit("Save changes")).titles == ["Typed for long"]
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\nWith <care>"


async def test_an_edit_that_was_typed_while_the_session_ended_is_saved_after_the_login(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    form = await mine.open(f"/tasks/{task['id']}/edit")
    await mine.send("Log out")
    mine.cookies[cookie_name("session")] = "is over"
    mine.page = form
    page = await mine.send("Save", title="Typed for long", description="With care")
    assert page.status == 401
    assert mine.cookies[cookie_name("session")] == "is over"
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save changes").fields["title"] == "Typed for long"
    assert (await mine.submit("Save changes")).titles == ["Typed for long"]
    assert (await stored(alice, task))["description"] == "With care"


async def test_an_edit_after_the_login_still_notices_a_conflict(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    del mine.cookies[cookie_name("session")]
    await mine.send("Save", title="By me")
    await alice.put(f"/api/tasks/{task['id']}", {"title": "By the other"})
    await mine.send("Log in", email=ALICE, password=PASSWORD)
    page = await mine.send("Save changes")
    assert page.status == 409
    assert "By the other" in page.text


async def test_what_was_typed_survives_a_database_that_is_away(
    mine: PageClient, services: Services, alice: ApiClient, task: dict[str, str]
) -> None:
    add_form = await mine.open("/tasks")
    edit_form = await mine.open(f"/tasks/{task['id']}/edit")
    await services.database.close()
    mine.page = add_form
    added = await mine.send("Add", title="Typed", description="At length")
    mine.page = edit_form
    edited = await mine.send("Save", title="Edited", description="At length")
    await services.database.open(services.settings.database_url)
    for page, title in ((added, "Typed"), (edited, "Edited")):
        assert page.status == 503
        assert "Try again in 2 seconds." in page.text
        assert page.form("Send again").fields["title"] == title
        assert page.form("Send again").fields["description"] == "At length"
        mine.page = page
        assert (await mine.send("Send again")).status == 303
    assert await titles(alice) == ["Typed", "Edited"]


async def test_a_broken_form_keeps_what_can_be_read_of_it(mine: PageClient) -> None:
    token = mine.csrf_field["csrf_token"].encode("ascii")
    page = await mine.fetch(
        "POST", "/tasks", b"csrf_token=" + token + b"&title=Typed&description=%ff"
    )
    assert page.status == 400
    assert page.form("Send again").fields["title"] == "Typed"


@pytest.mark.parametrize("keeps_cookie", [True, False])
@pytest.mark.parametrize("button", ["Add", "Add tasks"])
async def test_what_was_typed_while_the_session_ended_is_not_shown_to_another_user(
    mine: PageClient, services: Services, bob: ApiClient, keeps_cookie: bool, button: str
) -> None:
    session = services.signer.read_session_cookie(mine.cookies[cookie_name("session")])
    assert session
    await log_out(services, session)
    if not keeps_cookie:
        del mine.cookies[cookie_name("session")]
    typed = {"title" if button == "Add" else "titles": "Secret of Alice"}
    assert (await mine.send(button, **typed)).status == 401
    page = await mine.submit("Log in", email=BOB, password=PASSWORD)
    assert page.address == "/tasks"
    assert "Secret of Alice" not in page.html
    assert await titles(bob) == []


async def test_what_was_typed_before_another_user_logged_in_is_not_shown(
    mine: PageClient, alice: ApiClient, bob: ApiClient
) -> None:
    form = await mine.open("/tasks")
    await mine.submit("Log out")
    await mine.log_in(BOB)
    mine.page = form
    page = await mine.send("Add", title="Secret of Alice", description="Long")
    assert page.status == 403
    assert "Secret of Alice" not in page.html
    assert page.link("Open the form again") == "/tasks"
    assert await titles(alice) == await titles(bob) == []


# A form that no page of ours sent


async def test_what_was_typed_into_an_untrusted_add_form_can_be_sent_again(
    mine: PageClient, alice: ApiClient
) -> None:
    page = await mine.send("Add", title="Typed", description="\nlong", csrf_token=None)
    assert page.status == 403
    assert page.form("Send again").fields["title"] == "Typed"
    assert (await mine.submit("Send again")).titles == ["Typed"]
    assert (await alice.get("/api/tasks")).json["tasks"][0]["description"] == "\nlong"


async def test_what_was_typed_into_an_untrusted_edit_form_can_be_sent_again(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/edit")
    page = await mine.send("Save", title="Typed", description="Long", csrf_token="forged")
    assert page.status == 403
    assert (await mine.submit("Send again")).titles == ["Typed"]
    assert (await stored(alice, task))["description"] == "Long"
