"""Deleting completed tasks: the list offers it, a page asks, and the counted tasks are deleted."""

import pytest

from taskapp.core.errors import FormNotTrusted
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import add_tasks
from tests.support.page_client import (
    ALICE,
    FROM_ELSEWHERE,
    PASSWORD,
    PageClient,
    cookie_name,
    titles,
)

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
ADDRESS = "/tasks/completed/delete"


@pytest.fixture
def done(empty_database: str, alice: ApiClient, bob: ApiClient) -> list[str]:
    """Add two completed tasks and a pending one of Alice, and a completed one of Bob."""
    add_tasks(empty_database, bob.user_id, 1, status="completed")
    completed = add_tasks(empty_database, alice.user_id, 2, status="completed")
    add_tasks(empty_database, alice.user_id, 1)
    return completed


async def test_the_list_offers_it_where_there_is_something_to_delete(
    mine: PageClient, alice: ApiClient
) -> None:
    task = await alice.add_task("Buy milk")
    for number in (0, 1):
        for query in ("", "?status=pending", "?status=completed"):
            page = await mine.open(f"/tasks{query}")
            is_offered = number and query != "?status=pending"
            assert ('<p class="clear">' in page.html) == bool(is_offered)
            if is_offered:
                assert page.link("Delete completed") == ADDRESS + query
                page = await mine.open(ADDRESS + query)
                assert page.link("Cancel") == f"/tasks{query}"
        await alice.put(f"/api/tasks/{task['id']}", {"status": "completed"})


@pytest.mark.parametrize(
    ("number", "question", "flash_message"),
    [
        (1, "Delete 1 completed task?", "1 completed task deleted. Undo"),
        (2, "Delete 2 completed tasks?", "2 completed tasks deleted. Undo"),
        (1234, "Delete 1,234 completed tasks?", "1,234 completed tasks deleted."),
        (9_999, "Delete 9,999 completed tasks?", "9,999 completed tasks deleted."),
        (10_000, "Delete all completed tasks?", "10,000 completed tasks deleted."),
    ],
)
async def test_it_asks_first_and_then_deletes_and_counts(
    mine: PageClient,
    alice: ApiClient,
    empty_database: str,
    number: int,
    question: str,
    flash_message: str,
) -> None:
    add_tasks(empty_database, alice.user_id, number, status="completed")
    add_tasks(empty_database, alice.user_id, 1)
    page = await mine.open("/tasks")
    page = await mine.open(page.link("Delete completed"))
    assert page.text.startswith("Delete completed tasks")
    assert question in page.text
    assert "Pending tasks are kept." in page.text
    assert len(await titles(alice)) == min(number + 1, 50)
    response = await mine.send("Delete")
    assert (response.status, response.location) == (303, "/tasks")
    page = await mine.follow(response)
    assert page.flash_message == flash_message
    assert page.titles == await titles(alice) == ["task 1"]


@pytest.mark.usefixtures("done")
async def test_the_tasks_of_others_stay(mine: PageClient, alice: ApiClient, bob: ApiClient) -> None:
    await mine.open(ADDRESS)
    assert (await mine.submit("Delete")).flash_message == "2 completed tasks deleted. Undo"
    assert (await bob.get("/api/tasks?status=completed")).json["tasks"]
    assert not (await alice.get("/api/tasks?status=completed")).json["tasks"]


async def test_a_task_that_changed_after_the_question_survives(
    mine: PageClient, alice: ApiClient, done: list[str]
) -> None:
    late = await alice.add_task("Late")
    await mine.open(ADDRESS)
    await alice.put(f"/api/tasks/{late['id']}", {"status": "completed"})
    await alice.put(f"/api/tasks/{done[0]}", {"title": "Opened again", "status": "pending"})
    page = await mine.submit("Delete")
    assert page.flash_message == "1 completed task deleted. Undo"
    assert page.titles == ["task 1", "Opened again", "Late"]


@pytest.mark.usefixtures("done")
async def test_a_second_click_deletes_nothing_that_was_completed_in_between(
    mine: PageClient, alice: ApiClient
) -> None:
    question = await mine.open(ADDRESS)
    await mine.submit("Delete")
    await alice.add_task("Late", status="completed")
    mine.page = question
    assert (await mine.submit("Delete")).titles == ["task 1", "Late"]


async def test_where_nothing_is_completed_nothing_is_asked(
    mine: PageClient, task: dict[str, str]
) -> None:
    page = await mine.open(ADDRESS)
    assert "No completed tasks" in page.text
    assert not page.has_form("Delete")
    assert (await mine.open(page.link("Back to tasks"))).titles == [task["title"]]


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("until", [None, "", "now", "infinity", "2026-02-30T10:00:00Z", "' OR 1"])
async def test_without_the_time_of_the_question_nothing_is_deleted(
    mine: PageClient, alice: ApiClient, until: str | None
) -> None:
    await mine.open(ADDRESS)
    page = await mine.send("Delete", until=until)
    assert page.status == 400
    assert "The form is incomplete. Reload the page and try again." in page.text
    assert len(await titles(alice)) == 3


@pytest.mark.usefixtures("done")
@pytest.mark.parametrize("headers", [None, *FROM_ELSEWHERE])
async def test_a_form_that_no_page_of_ours_sent_deletes_nothing(
    mine: PageClient, alice: ApiClient, headers: dict[str, str] | None
) -> None:
    await mine.open(ADDRESS)
    mine.headers = headers or {}
    page = await mine.send("Delete", **({} if headers else {"csrf_token": None}))
    assert page.status == 403
    assert FormNotTrusted.title in page.text
    assert len(await titles(alice)) == 3


@pytest.mark.usefixtures("done")
async def test_a_session_that_ended_after_the_question_deletes_nothing(
    mine: PageClient, alice: ApiClient
) -> None:
    question = await mine.open(ADDRESS)
    await mine.send("Log out")
    mine.page = question
    page = await mine.send("Delete")
    assert (page.status, page.location) == (303, "/login")
    assert len(await titles(alice)) == 3


@pytest.mark.usefixtures("done")
async def test_a_login_leads_to_the_question(mine: PageClient) -> None:
    del mine.cookies[cookie_name("session")]
    page = await mine.open(f"{ADDRESS}?status=completed")
    page = await mine.submit("Log in", email=ALICE, password=PASSWORD)
    assert "Delete 2 completed tasks?" in page.text
    assert page.link("Cancel") == "/tasks?status=completed"


@pytest.mark.usefixtures("done")
async def test_without_a_database_nothing_is_deleted_and_it_says_when_to_try_again(
    mine: PageClient, alice: ApiClient, services: Services
) -> None:
    await mine.open(ADDRESS)
    await services.database.close()
    page = await mine.send("Delete")
    await services.database.open(services.settings.database_url)
    assert page.status == 503
    assert "Try again in 2 seconds." in page.text
    assert len(await titles(alice)) == 3
