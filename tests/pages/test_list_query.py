"""Every page of a task keeps the part of the list it came from, and leads back there."""

from collections.abc import Callable, Coroutine
from typing import Any
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.web.application import Application
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import add_tasks
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page, Row

pytest_plugins = ["tests.support.page_fixtures"]
gen_test = pytest.mark.gen_test
FILTERS = ["", "?status=pending", "?status=completed"]
in_every_filter = pytest.mark.parametrize("query", FILTERS)
on_every_page = pytest.mark.parametrize("page_number", [1, 2])

Test = Callable[..., Coroutine[Any, Any, None]]


def in_every_part(test: Test) -> Test:
    """Run a test on each page of each filter of a list that has many tasks."""
    for mark in (on_every_page, in_every_filter, pytest.mark.usefixtures("many"), gen_test):
        test = mark(test)
    return test


@pytest.fixture
def many(empty_database: str, alice: ApiClient) -> None:
    """Add two pages of tasks of either status."""
    add_tasks(empty_database, alice.user_id, 53, status="completed")
    add_tasks(empty_database, alice.user_id, 53)


async def open_part(mine: PageClient, query: str, page_number: int) -> str:
    """Open a page of the filtered list, and return its query."""
    page = await mine.open(f"/tasks{query}")
    for _ in range(page_number - 1):
        page = await mine.open(page.link("Load more"))
    assert page.address.startswith(f"/tasks{query}")
    return page.address.removeprefix("/tasks")


async def leads_back(mine: PageClient, page: Page, list_query: str, fragment: str = "") -> Page:
    """Check that a page redirects to this part of the list, to a place in it, and follow."""
    assert (page.status, page.location) == (303, f"/tasks{list_query}{fragment}")
    return await mine.follow(page)


def first_part(page: Page) -> list[Row]:
    """Return the rows without those of the fold below them."""
    return [row for row in page.rows if row.is_completed == page.rows[0].is_completed]


def at(row: Row) -> str:
    """Return the fragment that shows a row of the list."""
    return f"#task-{row.id}"


# It is kept


@in_every_part
async def test_every_link_of_a_row_and_the_theme_keep_the_query(
    mine: PageClient, query: str, page_number: int
) -> None:
    list_query = await open_part(mine, query, page_number)
    page = mine.page
    assert len(page.rows) == (50 if page_number == 1 else 3 if query else 8)
    for row in page.rows:
        for action in ("edit", "delete", "status"):
            assert page.references.count(f"/tasks/{row.id}/{action}{list_query}") == 1
    assert page.form("Dark").fields["next"] == f"/tasks{list_query}"


@in_every_part
async def test_completing_and_undoing_lead_back(
    mine: PageClient, query: str, page_number: int
) -> None:
    list_query = await open_part(mine, query, page_number)
    row, beside = mine.page.rows[:2]
    page = await leads_back(mine, await mine.send(row.title), list_query, at(beside))
    assert row not in first_part(page)
    page = await leads_back(mine, await mine.send("Undo"), list_query, at(row))
    if query == "?status=completed":
        page = await mine.open(f"/tasks{query}")  # the latest completion is the first there
    assert page.rows[0] == row


@in_every_part
async def test_editing_leads_back_whatever_comes_between(
    mine: PageClient, alice: ApiClient, query: str, page_number: int
) -> None:
    list_query = await open_part(mine, query, page_number)
    row = mine.page.rows[0]
    back = f"/tasks{list_query}{at(row)}"
    page = await mine.open(mine.page.link(f"Edit: {row.title}"))
    assert page.link("Cancel") == back
    page = await mine.send("Save", title="")
    assert (page.status, page.link("Cancel")) == (400, back)
    await alice.put(f"/api/tasks/{row.id}", {"title": "By the other"})
    page = await mine.send("Save", title="By me")
    assert (page.status, page.link("Cancel")) == (409, back)
    conflict = page
    page = await leads_back(mine, await mine.send("Take the saved one"), list_query, at(row))
    assert page.titles[0] == "By the other"
    for _ in range(2):  # and a second click
        mine.page = conflict
        page = await leads_back(mine, await mine.send("Save mine"), list_query, at(row))
        assert page.titles[0] == "By me"


@in_every_part
async def test_deleting_leads_to_the_task_beside(
    mine: PageClient, query: str, page_number: int
) -> None:
    list_query = await open_part(mine, query, page_number)
    for place in (0, -1):
        row = first_part(mine.page)[place]
        page = await mine.open(mine.page.link(f"Delete: {row.title}"))
        assert page.link("Cancel") == f"/tasks{list_query}{at(row)}"
        response = await mine.send("Delete")
        page = await mine.open(f"/tasks{list_query}")
        # Below the last row of a page, the next task has come up from the next page.
        beside = first_part(page)[place]
        await leads_back(mine, response, list_query, at(beside))
        assert row not in page.rows


@gen_test
@pytest.mark.usefixtures("many")
async def test_the_last_task_of_a_page_leads_to_the_newest(mine: PageClient) -> None:
    list_query = await open_part(mine, "?status=pending", 2)
    first, second, third = mine.page.rows
    await leads_back(mine, await mine.send(third.title), list_query, at(second))
    await leads_back(mine, await mine.send(first.title), list_query, at(second))
    page = await leads_back(mine, await mine.send(second.title), "?status=pending")
    assert len(page.rows) == 50
    page = await mine.open(f"/tasks{list_query}")
    assert "No more tasks." in page.text
    assert page.link("Back to newest") == "/tasks?status=pending"


@gen_test
@pytest.mark.usefixtures("many")
@pytest.mark.parametrize(
    ("query", "leads_to"),
    [("", ""), ("?status=pending", "?status=pending"), ("?status=completed", "")],
)
@on_every_page
async def test_adding_leads_to_the_list_that_shows_the_new_task(
    mine: PageClient, query: str, leads_to: str, page_number: int
) -> None:
    for button, field in [("Add", "title"), ("Add tasks", "titles")]:
        await open_part(mine, query, page_number)
        response = await mine.send(button, **{field: "New"})
        page = await leads_back(mine, response, leads_to, "#new-title")
        assert page.titles[0] == "New"


@in_every_part
async def test_an_error_of_a_new_task_is_shown_in_the_same_filter(
    mine: PageClient, query: str, page_number: int
) -> None:
    for button, field in [("Add", "title"), ("Add tasks", "titles")]:
        await open_part(mine, query, page_number)
        page = await mine.send(button, **{field: ""})
        assert page.status == 400
        assert [tag["href"] for tag in page.tags("a") if "aria-current" in tag] == [
            f"/tasks{query}"
        ]
        row, beside = page.rows[:2]
        await leads_back(mine, await mine.send(row.title), query, at(beside))


@gen_test
@pytest.mark.usefixtures("many")
@in_every_filter
async def test_a_login_in_between_leads_to_the_same_part_of_the_list(
    mine: PageClient, query: str
) -> None:
    list_query = await open_part(mine, query, 2)
    row = mine.page.rows[0]
    for address in (f"/tasks{list_query}", f"/tasks/{row.id}/edit{list_query}"):
        del mine.cookies[cookie_name("session")]
        await mine.open(address)
        page = await mine.submit("Log in", email=ALICE, password=PASSWORD)
        assert page.address == address
    assert page.link("Cancel") == f"/tasks{list_query}{at(row)}"


@gen_test
@in_every_filter
@pytest.mark.parametrize("mishap", ["no session", "no token", "no database"])
async def test_a_form_that_is_sent_again_leads_back_to_the_same_part_of_the_list(
    mine: PageClient,
    services: Services,
    empty_database: str,
    alice: ApiClient,
    query: str,
    mishap: str,
) -> None:
    task_id = add_tasks(empty_database, alice.user_id, 1)[0]
    seen = "" if query == "?status=completed" else query  # the list that shows new tasks
    for address, button, field, leads_to in [
        ("/tasks", "Add", "title", f"/tasks{seen}#new-title"),
        ("/tasks", "Add tasks", "titles", f"/tasks{seen}#new-title"),
        (f"/tasks/{task_id}/edit", "Save", "title", f"/tasks{query}#task-{task_id}"),
    ]:
        await mine.open(f"{address}{query}")
        if mishap == "no session":
            del mine.cookies[cookie_name("session")]
            await mine.send(button, **{field: "Typed"})
            await mine.send("Log in", email=ALICE, password=PASSWORD)
            page = await mine.send("Save changes")
        elif mishap == "no token":
            await mine.send(button, **{field: "Typed", "csrf_token": None})
            page = await mine.send("Send again")
        else:
            await services.database.close()
            await mine.send(button, **{field: "Typed"})
            await services.database.open(services.settings.database_url)
            page = await mine.send("Send again")
        assert (page.status, page.location) == (303, leads_to)


# Forged queries are ignored


@gen_test
@pytest.mark.parametrize(
    "query",
    [
        *("?status=nonsense", "?status=", "?status=COMPLETED", "?status=%ff", "?after=%00"),
        *("?after=forged", "?after=", "?after=%0d%0aSet-Cookie:x=y", "?status=%3Cb%3E&after=%22"),
        *("?shown=pending", "?next=//evil.example", "?list_query=%3Fstatus%3Dpending", "?%ff=%ff"),
    ],
)
async def test_a_forged_query_is_the_beginning_of_the_list(
    mine: PageClient, task: dict[str, str], query: str
) -> None:
    for name, button, link in [("edit", "Save", "Cancel"), ("delete", "Delete", "Cancel")]:
        page = await mine.open(f"/tasks/{task['id']}/{name}{query}")
        assert page.form(button).action == f"/tasks/{task['id']}/{name}"
        assert page.link(link) == f"/tasks#task-{task['id']}"
        assert page.form("Dark").fields["next"] == f"/tasks/{task['id']}/{name}"
    page = await mine.open(f"/tasks/completed/delete{query}")
    assert set(page.links) <= {"/", "/tasks", "/account"}
    for name, fields, fragment in [
        ("status", {"status": "completed"}, ""),
        ("edit", {"title": "Changed"}, f"#task-{task['id']}"),
        ("delete", {}, ""),
    ]:
        address = f"/tasks/{task['id']}/{name}{query}"
        page = await mine.fetch("POST", address, mine.csrf_field | fields)
        assert (page.status, page.location) == (303, f"/tasks{fragment}")


@gen_test
async def test_of_two_queries_the_first_counts(mine: PageClient, task: dict[str, str]) -> None:
    page = await mine.open(f"/tasks/{task['id']}/edit?status=completed&status=pending")
    assert page.link("Cancel") == f"/tasks?status=completed#task-{task['id']}"


@gen_test
@pytest.mark.usefixtures("many")
async def test_an_altered_cursor_is_ignored(mine: PageClient) -> None:
    list_query = await open_part(mine, "", 2)
    row = mine.page.rows[0]
    for altered in (
        list_query[:-1],
        f"{list_query}A",
        list_query[:-1] + ("A" if list_query[-1] != "A" else "B"),
    ):
        page = await mine.open(f"/tasks/{row.id}/edit{altered}")
        assert page.link("Cancel") == f"/tasks{at(row)}"


@pytest.mark.fuzz
def test_any_query_leads_to_a_part_of_the_list(
    mine: PageClient, app: Application, alice: ApiClient, task: dict[str, str], io_loop: Any
) -> None:
    cursor = app.services.signer.sign_cursor(task["id"])
    values = st.sampled_from([b"pending", b"completed", cursor.encode("ascii")]) | st.binary()
    parts = {
        f"/tasks{query}{fragment}"
        for fragment in (f"#task-{task['id']}", "")
        for status in ["", "pending", "completed"]
        for query in [
            f"?status={status}" if status else "",
            f"?status={status}&after={cursor}" if status else f"?after={cursor}",
        ]
    }

    @settings(
        max_examples=100,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    @given(st.lists(st.tuples(st.sampled_from(["status", "after", "x"]), values), max_size=4))
    def send(parameters: list[tuple[str, bytes]]) -> None:
        query = "&".join(f"{name}={quote_from_bytes(value)}" for name, value in parameters)
        address = f"/tasks/{task['id']}/status?{query}"
        fields = mine.csrf_field | {"status": "completed"}
        page = io_loop.run_sync(lambda: mine.fetch("POST", address, fields))
        assert page.status == 303
        assert page.location in parts

    send()
