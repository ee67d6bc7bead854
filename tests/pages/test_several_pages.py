"""Adding several tasks at once: a task for each line, all or none, and no line is lost."""

import asyncio
from html import unescape

import pytest

from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, HOSTILE, PASSWORD, PageClient, cookie_name, titles

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
BUTTON = "Add tasks"
LINES = "Buy milk\n\n  Call Ada \nBuy milk"
TITLES = ["Buy milk", "Call Ada", "Buy milk"]


async def test_each_line_becomes_a_task_and_the_first_is_on_top(
    mine: PageClient, alice: ApiClient
) -> None:
    await alice.add_task("Older")
    await mine.open("/tasks")
    response = await mine.send(BUTTON, titles=LINES)
    assert (response.status, response.location) == (303, "/tasks#new-title")
    page = await mine.follow(response)
    assert page.titles == [*TITLES, "Older"]
    assert page.flash_message == "3 tasks added."
    assert (await mine.submit(BUTTON, titles="Only one")).flash_message == "1 task added."


async def test_the_form_says_what_it_does_and_has_no_text_left_from_before(
    mine: PageClient,
) -> None:
    page = await mine.submit(BUTTON, titles=LINES)
    form = page.form(BUTTON)
    assert (form.action, form.fields["titles"]) == ("/tasks/several", "")
    assert page.ids[form.described["titles"][0]] == "Each line becomes a task."
    assert not any("open" in tag for tag in page.tags("details"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"Buy milk\n\n{'x' * 300}\nCall Ada", "Line 3 must be at most 255 characters"),
        ("Buy milk\nCall \0 Ada", "Line 2 contains unsupported characters"),
        ("", "Enter at least one task"),
        ("\n \n\u200b\n", "Enter at least one task"),
        ("\n".join("x" * 101), "You can add at most 100 tasks at once (currently 101)"),
    ],
)
async def test_with_a_wrong_line_none_is_added_and_the_text_is_kept(
    mine: PageClient, alice: ApiClient, text: str, message: str
) -> None:
    page = await mine.send(BUTTON, titles=text)
    assert page.status == 400
    assert page.text.startswith("Error: Tasks")
    assert message in page.error_beside(BUTTON, "titles")
    assert page.error_beside("Add", "title") == ""
    assert page.form(BUTTON).fields["titles"] == text
    assert ["open" in tag for tag in page.tags("details")] == [False, True, False]  # and the fold
    assert [tag["name"] for tag in page.focused] == ["titles"]
    assert await titles(alice) == []
    assert (await mine.submit(BUTTON, titles=LINES)).titles == TITLES


async def test_a_hundred_lines_are_taken(mine: PageClient, alice: ApiClient) -> None:
    lines = [f"{number} " + "日" * 200 for number in range(100)]
    assert (await mine.submit(BUTTON, titles="\n".join(lines))).flash_message == "100 tasks added."
    assert (await alice.get("/api/tasks?limit=100")).json["tasks"][-1]["title"] == lines[-1]


async def test_a_form_that_is_sent_twice_adds_its_lines_once(
    mine: PageClient, alice: ApiClient
) -> None:
    form = mine.page
    for _ in range(2):
        mine.page = form
        assert (await mine.submit(BUTTON, titles=LINES)).flash_message == "3 tasks added."
    fields = mine.page.form(BUTTON).fields | {"titles": "By a\ndouble click"}
    responses = await asyncio.gather(
        *(mine.fetch("POST", "/tasks/several", fields) for _ in range(5))
    )
    assert [response.status for response in responses] == [303] * 5
    assert await titles(alice) == ["By a", "double click", *TITLES]


async def test_the_two_forms_of_the_list_do_not_interfere(
    mine: PageClient, alice: ApiClient
) -> None:
    form = mine.page
    await mine.send("Add", title="Buy milk")
    mine.page = form
    await mine.send(BUTTON, titles="Buy milk")
    assert await titles(alice) == ["Buy milk", "Buy milk"]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_lines_are_shown_as_they_were_typed(mine: PageClient, text: str) -> None:
    pages = [await mine.send(BUTTON, titles=f"{text}\n{'x' * 256}")]
    pages.append(await mine.submit(BUTTON, titles=f"{text}\n{text}"))
    assert pages[-1].titles == [text, text]
    pages.append(await mine.send(BUTTON, titles=f"\n{text}", csrf_token=None))
    del mine.cookies[cookie_name("session")]
    pages.append(await mine.send("Send again"))
    pages.append(await mine.send("Log in", email=ALICE, password=PASSWORD))
    assert pages[-1].form("Save changes").fields["titles"] == f"\n{text}"
    assert [page.status for page in pages] == [400, 200, 403, 401, 200]
    for page in pages:
        assert text in unescape(page.html)
        assert page.tags("svg") == []
        assert len(page.tags("script")) == page.html.count("</title>") == 1


# Lines that are never lost


async def test_lines_that_were_typed_while_the_session_ended_are_added_after_the_login(
    mine: PageClient, alice: ApiClient
) -> None:
    del mine.cookies[cookie_name("session")]
    page = await mine.send(BUTTON, titles=f"\n{LINES}")
    assert page.status == 401
    assert "Your session has expired. Log in to get back to your unsaved changes." in page.text
    await mine.send("Log in", email=ALICE, password="wrong at first")
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert page.form("Save changes").fields["titles"] == f"\n{LINES}"
    assert await titles(alice) == []
    page = await mine.submit("Save changes")
    assert (page.flash_message, page.titles) == ("3 tasks added.", TITLES)


async def test_lines_that_were_sent_before_the_session_ended_are_not_added_again(
    mine: PageClient, alice: ApiClient
) -> None:
    form = mine.page
    await mine.send(BUTTON, titles=LINES)
    del mine.cookies[cookie_name("session")]
    mine.page = form
    await mine.send(BUTTON, titles=LINES)
    await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert (await mine.submit("Save changes")).flash_message == "3 tasks added."
    assert await titles(alice) == TITLES


async def test_lines_of_a_form_without_its_csrf_token_are_kept_and_not_added(
    mine: PageClient, alice: ApiClient
) -> None:
    page = await mine.send(BUTTON, titles=LINES, csrf_token=None)
    assert page.status == 403
    assert page.form("Send again").fields["titles"] == LINES
    assert await titles(alice) == []
    assert (await mine.submit("Send again")).titles == TITLES


async def test_lines_survive_a_database_that_is_away(
    mine: PageClient, services: Services, alice: ApiClient
) -> None:
    await services.database.close()
    page = await mine.send(BUTTON, titles=LINES)
    assert page.status == 503
    assert "Try again in 2 seconds." in page.text
    await services.database.open(services.settings.database_url)
    assert (await mine.submit("Send again")).titles == TITLES


@pytest.mark.parametrize("extra", [b"&titles=twice", b"&key=with%20space", b"&key=%ff"])
async def test_a_strange_form_adds_nothing_and_keeps_the_lines(
    mine: PageClient, alice: ApiClient, extra: bytes
) -> None:
    token = mine.csrf_field["csrf_token"].encode("ascii")
    body = b"csrf_token=" + token + b"&titles=Buy%20milk%0D%0ACall%20Ada" + extra
    page = await mine.fetch("POST", "/tasks/several", body)
    assert page.status == 400
    assert page.form("Send again").fields["titles"] == "Buy milk\nCall Ada"
    assert await titles(alice) == []


# Access


async def test_its_address_leads_to_the_list(mine: PageClient) -> None:
    assert (await mine.fetch("GET", "/tasks/several")).location == "/tasks"
    mine.cookies.clear()
    assert (await mine.fetch("GET", "/tasks/several")).location == "/login?next=/tasks/several"


async def test_a_stranger_adds_nothing(mine: PageClient, alice: ApiClient, bob: ApiClient) -> None:
    await mine.submit(BUTTON, titles=LINES)
    assert await titles(bob) == []
    del mine.cookies[cookie_name("session")]
    page = await mine.fetch("POST", "/tasks/several", mine.csrf_field | {"titles": ""})
    assert (page.status, page.location) == (303, "/login")
    assert await titles(alice) == TITLES
