"""A task is added from anywhere: an address fills the form, and only the user's press adds it."""

from urllib.parse import urlencode

import pytest

from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test

HOSTILE = [
    '"><script>alert(1)</script>',
    "</textarea><img src=x onerror=alert(1)>",
    "{{ 7 * 7 }} {% raw %} %(x)s ${x}",
    "' onfocus=alert(1) autofocus x='",
    "\x00title\x00 \x00rows\x00 \x00csrf_token\x00",
    "javascript:alert(1)",
    "\u202egnirts\u202c \ufeff",
]


def address(**fields: str) -> str:
    return f"/tasks?{urlencode(fields)}"


async def test_an_address_fills_the_form_and_adds_nothing(
    mine: PageClient, alice: ApiClient
) -> None:
    page = await mine.open(address(title="Buy milk", description="Oat\nSoon"))
    assert (page.status, page.titles) == (200, [])
    fields = page.form("Add").fields
    assert (fields["title"], fields["description"]) == ("Buy milk", "Oat\nSoon")
    assert (await alice.get("/api/tasks")).json["tasks"] == []
    page = await mine.submit("Add")
    assert page.titles == ["Buy milk"]
    assert page.form("Add").fields["title"] == ""
    [task] = (await alice.get("/api/tasks")).json["tasks"]
    assert (task["title"], task["description"]) == ("Buy milk", "Oat\nSoon")


async def test_several_lines_fill_the_form_for_several_tasks(mine: PageClient) -> None:
    page = await mine.open(address(title="Buy milk\r\nCall Ada", status="pending"))
    assert page.form("Add tasks").fields["titles"] == "Buy milk\nCall Ada"
    assert page.form("Add").fields["title"] == ""
    page = await mine.submit("Add tasks")
    assert page.titles == ["Buy milk", "Call Ada"]
    assert page.address == "/tasks?status=pending#new-title"


async def test_a_text_that_is_too_long_is_kept_to_be_shortened(mine: PageClient) -> None:
    await mine.open(address(title="x" * 500))
    page = await mine.send("Add")
    assert page.status == 400
    assert "Must be at most 255 characters (currently 500)" in page.text
    assert page.form("Add").fields["title"] == "x" * 500


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["title", "description", "url"])
async def test_a_hostile_text_is_only_text(mine: PageClient, name: str, text: str) -> None:
    page = await mine.open(address(**{"title": "Tea", name: text}))
    shown = text.replace("\x00", "").strip()
    fields = page.form("Add").fields
    assert fields["title" if name == "title" else "description"] == shown
    plain = await mine.open(address(title="Tea"))
    assert [tag["src"] for tag in page.tags("script")] == [
        tag["src"] for tag in plain.tags("script")
    ]
    assert not list(page.tags("img"))
    assert page.form("Log out").action == plain.form("Log out").action


async def test_what_is_sent_twice_or_is_no_utf_8_fills_as_far_as_it_can(mine: PageClient) -> None:
    page = await mine.open("/tasks?title=Buy+milk&title=Call+Ada&description=%ff%fe")
    fields = page.form("Add").fields
    assert (fields["title"], fields["description"]) == ("Buy milk", "\ufffd\ufffd")


async def test_a_page_with_a_text_from_elsewhere_is_not_compressed(mine: PageClient) -> None:
    assert (await mine.open("/tasks")).headers["Content-Encoding"] == "zstd"
    page = await mine.open(address(title="Buy milk"))
    assert "Content-Encoding" not in page.headers


@pytest.mark.parametrize("cookie", [None, "is over"])
async def test_whoever_is_not_logged_in_keeps_the_text_over_the_login(
    visitor: PageClient, alice: ApiClient, cookie: str | None
) -> None:
    if cookie:
        visitor.cookies[cookie_name("session")] = cookie
    page = await visitor.open(address(title="Buy <milk>", description="Oat", status="pending"))
    assert page.status == 401
    assert "Log in to add the task." in page.text
    await visitor.send("Log in", email=ALICE, password="wrong at first")
    assert "Log in to add the task." in visitor.page.text
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save changes").fields["title"] == "Buy <milk>"
    assert (await alice.get("/api/tasks")).json["tasks"] == []
    page = await visitor.submit("Save changes")
    assert (page.titles, page.address) == (["Buy <milk>"], "/tasks?status=pending#new-title")


async def test_several_lines_are_kept_over_the_login(visitor: PageClient, alice: ApiClient) -> None:
    await visitor.open(address(title="Buy milk\nCall Ada"))
    await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert (await visitor.submit("Save changes")).titles == ["Buy milk", "Call Ada"]
    assert len((await alice.get("/api/tasks")).json["tasks"]) == 2


async def test_an_address_of_the_list_without_a_text_leads_to_the_login_and_back(
    visitor: PageClient, alice: ApiClient
) -> None:
    for given in ("/tasks?title=", "/tasks?title=%20&url=", "/tasks?status=pending"):
        page = await visitor.fetch("GET", given)
        assert page.status == 303
        assert page.location.startswith("/login?next=/tasks%3F")


async def test_the_text_survives_a_time_without_the_database(
    mine: PageClient, alice: ApiClient
) -> None:
    await mine.open("/tasks")
    page = await mine.open(address(title="Buy milk", after="no cursor"))
    assert page.status == 400
    assert page.form("Send again").fields["title"] == "Buy milk"
    assert (await mine.submit("Send again")).titles == ["Buy milk"]
