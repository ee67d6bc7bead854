"""Another site gets nothing back for the forms that it sends, and changes no cookie."""

from itertools import product

import pytest

from tests.pages.test_csrf import UNSAFE
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, FROM_ELSEWHERE, PASSWORD, PageClient, titles

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

PLANTED = {
    **dict.fromkeys(("email", "title", "titles", "description", "name", "until"), "Planted"),
    **dict.fromkeys(("draft_title", "draft_titles", "draft_description"), "Planted"),
    "draft_action": "/tasks/several",
    "next": "/planted",
    "password": PASSWORD,
    "theme": "dark",
}
PATHS = (*UNSAFE, ("/nothing", "POST"), ("/nothing", "PUT"), ("/login?next=/planted", "POST"))


@pytest.mark.parametrize("headers", FROM_ELSEWHERE)
async def test_no_form_of_another_site_is_shown_again_or_sets_a_cookie(
    mine: PageClient, task: dict[str, str], headers: dict[str, str]
) -> None:
    await mine.open("/tasks")
    token, own = mine.csrf_field, dict(mine.cookies)
    mine.headers = headers
    # Browsers send such a form without our cookies, and old ones with them.
    for (path, method), cookies, proof in product(PATHS, ({}, own), ({}, token)):
        mine.cookies = dict(cookies)
        page = await mine.fetch(method, path, PLANTED | proof)
        assert page.status in {403, 404}, path
        assert "lanted" not in page.html, path
        assert page.headers.get_list("Set-Cookie") == [], path
        assert "logged out" not in page.text


async def test_forms_that_were_open_are_taken_after_another_site_sent_some(
    mine: PageClient, alice: ApiClient
) -> None:
    page = await mine.open("/tasks")
    own = dict(mine.cookies)
    for (path, method), headers in product(PATHS, FROM_ELSEWHERE):
        mine.cookies, mine.headers = {}, headers
        await mine.fetch(method, path, PLANTED)
        mine.cookies = own | mine.cookies
    mine.page, mine.headers = page, {}
    assert (await mine.submit("Add", title="Mine")).status == 200
    assert await titles(alice) == ["Mine"]


async def test_what_another_site_sent_is_not_offered_after_the_login(
    visitor: PageClient, alice: ApiClient
) -> None:
    for headers in FROM_ELSEWHERE:
        visitor.headers = headers
        page = await visitor.fetch("POST", "/login", PLANTED | {"email": ALICE})
        assert not page.has_form("Log in")
    visitor.headers = {}
    page = await visitor.log_in(ALICE)
    assert page.address == "/tasks"
    assert await titles(alice) == []


@pytest.mark.parametrize("origin", ["", "null", "ftp://{host}", "//{host}", "{host}", "http://"])
async def test_an_odd_origin_is_not_ours(mine: PageClient, alice: ApiClient, origin: str) -> None:
    await mine.open("/tasks")
    mine.headers = {"Origin": origin.format(host=mine.base_url.partition("://")[2])}
    assert (await mine.send("Add", title="Planted")).status == 403
    assert await titles(alice) == []


@pytest.mark.parametrize(
    "action",
    [
        *("/tasks/../account/delete", "/tasks/./several", "/tasks/several/", "/tasks//several"),
        *(
            "/tasks/completed/delete",
            "/tasks/%2e%2e/logout",
            "/tasks/several/../x",
            "/tasks/x/edit",
        ),
        "/tasks/01900000-0000-7000-8000-000000000000/delete",
        "/tasks/01900000-0000-7000-8000-000000000000/status",
    ],
)
async def test_a_kept_text_is_sent_to_no_form_but_those_that_take_text(
    visitor: PageClient, alice: ApiClient, action: str
) -> None:
    await visitor.open("/login")
    page = await visitor.send(
        "Log in", email=ALICE, password=PASSWORD, draft_action=action, draft_title="Evil"
    )
    assert (page.status, page.location) == (303, "/tasks")
