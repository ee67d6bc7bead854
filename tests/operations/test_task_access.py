"""Who may do what to a task: no anonymous client, no other user, no other site."""

import pytest

from taskapp.core.errors import FormNotTrusted
from tests.support.api_tools import NO_TASK
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, FROM_ELSEWHERE, PASSWORD, PageClient, stored

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
GETS = ["edit", "delete"]
POSTS = {
    "edit": {"title": "Changed", "description": "", "status": "pending"},
    "status": {"status": "completed"},
    "delete": {},
}


@pytest.mark.parametrize("page_name", GETS)
async def test_a_page_of_somebody_elses_task_is_refused(
    mine: PageClient, bob: ApiClient, page_name: str
) -> None:
    task = await bob.add_task("Bob's secret")
    page = await mine.open(f"/tasks/{task['id']}/{page_name}")
    assert page.status == 403
    assert "This task belongs to another user." in page.text
    assert "secret" not in page.text


@pytest.mark.parametrize("page_name", POSTS)
async def test_somebody_elses_task_cannot_be_changed(
    mine: PageClient, bob: ApiClient, page_name: str
) -> None:
    task = await bob.add_task("Bob's own")
    fields = mine.csrf_field | POSTS[page_name]
    page = await mine.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == 403
    assert await stored(bob, task) == task


@pytest.mark.parametrize("task_id", [NO_TASK, "1", "%00", "..%2f..%2fapi", "a" * 3000, "٣"])
@pytest.mark.parametrize("page_name", POSTS)
async def test_a_task_that_there_is_not_is_an_error_page(
    mine: PageClient, page_name: str, task_id: str
) -> None:
    fields = mine.csrf_field | POSTS[page_name]
    pages = [await mine.fetch("POST", f"/tasks/{task_id}/{page_name}", fields)]
    if page_name in GETS:
        pages.append(await mine.fetch("GET", f"/tasks/{task_id}/{page_name}"))
    for page in pages:
        assert page.status == 404
        assert "This task does not exist" in page.text


@pytest.mark.parametrize("page_name", GETS)
async def test_a_page_leads_a_stranger_to_the_login_page_and_back(
    visitor: PageClient, task: dict[str, str], page_name: str
) -> None:
    address = f"/tasks/{task['id']}/{page_name}"
    response = await visitor.fetch("GET", address)
    assert (response.status, response.location) == (303, f"/login?next={address}")
    await visitor.follow(response)
    page = await visitor.submit("Log in", email=ALICE, password=PASSWORD)
    assert page.address == address
    assert page.status == 200


@pytest.mark.parametrize("page_name", POSTS)
async def test_a_stranger_changes_nothing(
    visitor: PageClient, alice: ApiClient, task: dict[str, str], page_name: str
) -> None:
    await visitor.open("/login")
    fields = visitor.csrf_field | POSTS[page_name]
    page = await visitor.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == (401 if page_name == "edit" else 303)
    assert page.has_form("Log in") or page.location == "/login"
    assert await stored(alice, task) == task


@pytest.mark.parametrize("page_name", POSTS)
@pytest.mark.parametrize("headers", [None, *FROM_ELSEWHERE])
async def test_a_form_that_no_page_of_ours_sent_changes_nothing(
    mine: PageClient,
    alice: ApiClient,
    task: dict[str, str],
    page_name: str,
    headers: dict[str, str] | None,
) -> None:
    proof = mine.csrf_field if headers else {}
    fields = proof | POSTS[page_name]
    mine.headers = headers or {}
    page = await mine.fetch("POST", f"/tasks/{task['id']}/{page_name}", fields)
    assert page.status == 403
    assert FormNotTrusted.title in page.text
    assert await stored(alice, task) == task
