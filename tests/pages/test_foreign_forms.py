"""Another site gets nothing back for the forms that it sends, and changes no cookie."""

import json
from itertools import product

import pytest

from tests.pages.test_csrf import UNSAFE
from tests.support.api_tools import with_settings
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
        *("//evil.example/tasks", "https://evil.example/tasks", "//evil.example/?/tasks"),
        *("/login", "/login?next=/tasks", "/tasksevil", "/tasksevil?/tasks/", "?/tasks"),
        *("/?/tasks", ""),
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


# Behind a proxy, over plain http

BROWSER = "http://tasks.lan:8110"


@pytest.mark.parametrize("host", ["127.0.0.1:8113", "tasks.lan", "tasks.lan:80", "upstream"])
@with_settings(ALLOWED_HOSTS="tasks.lan,upstream")
async def test_a_form_is_refused_in_the_words_of_who_can_help_if_a_proxy_changes_the_host(
    visitor: PageClient, alice: ApiClient, host: str, capfd: pytest.CaptureFixture[str]
) -> None:
    visitor.headers = {"Host": host}
    await visitor.open("/login")
    visitor.headers |= {"Origin": BROWSER}
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.status == 403
    assert (
        f"Your browser sent it from {BROWSER}, but this server was asked for {host}." in page.text
    )
    assert f"can set TASKAPP_PUBLIC_URL to {BROWSER}" in page.text
    assert "allow cookies" not in page.text
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    (refused,) = (line for line in lines if line["event"] == "form.refused")
    assert (refused["origin"], refused["host"]) == (BROWSER, host)


@pytest.mark.parametrize(
    ("origin", "headers"),
    [
        (BROWSER, {"Host": "tasks.lan:8110"}),
        (BROWSER, {"Host": "TASKS.LAN:8110"}),
        ("http://tasks.lan", {"Host": "tasks.lan:80"}),
        ("https://tasks.lan", {"Host": "tasks.lan:443"}),
        (BROWSER, {"Host": "upstream", "X-Forwarded-Host": "tasks.lan:8110"}),
        (BROWSER, {"Host": "upstream", "X-Forwarded-Host": "evil.example, tasks.lan:8110"}),
    ],
)
@with_settings(ALLOWED_HOSTS="tasks.lan,upstream", TRUSTED_PROXIES="127.0.0.1,::1")
async def test_a_form_is_taken_if_a_proxy_tells_the_host(
    visitor: PageClient, alice: ApiClient, origin: str, headers: dict[str, str]
) -> None:
    visitor.headers = headers
    await visitor.open("/login")
    visitor.headers = headers | {"Origin": origin}
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.location == "/tasks"
    assert (await visitor.fetch("GET", "/tasks")).status == 200


async def test_only_a_trusted_proxy_tells_the_host(visitor: PageClient, alice: ApiClient) -> None:
    await visitor.open("/login")
    visitor.headers = {"Origin": BROWSER, "X-Forwarded-Host": "tasks.lan:8110"}
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.status == 403


@pytest.mark.parametrize("origin", ["null", "http://evil example", "http://<b>", "ftp://a", ""])
async def test_an_origin_that_is_no_address_is_not_shown(visitor: PageClient, origin: str) -> None:
    await visitor.open("/login")
    visitor.headers = {"Origin": origin}
    page = await visitor.send("Log in", email=ALICE, password=PASSWORD)
    assert page.status == 403
    assert "Your browser sent it from" not in page.text
