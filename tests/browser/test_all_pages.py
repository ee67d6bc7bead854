"""Checks for every page: accessible HTML, forms with a CSRF token, working links."""

from urllib.parse import urldefrag, urljoin

import pytest

from taskapp.services import Services
from tests.support.api_tools import with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page
from tests.support.page_story import PAGES, route_of, tell, walk

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test

FORMS_OF_OTHER_PAGES = {"/tasks/several", "/tasks/restore", "/account/password", "/account/tokens"}


async def test_every_page_in_every_state_is_sound_and_its_forms_are_taken(
    visitor: PageClient, alice: ApiClient, bob: ApiClient, services: Services
) -> None:
    await tell(visitor, alice, bob, services)
    pages = [page for page in visitor.history if page.is_html and page.status != 303]
    assert {page.status for page in pages} == {200, 400, 401, 403, 404, 405, 409, 413, 503}
    actions, links = set(), set()
    for page in pages:
        _is_sound(page)
        _knows_where_it_is(page)
        actions |= _actions_with_token(page)
        links |= {urldefrag(urljoin(page.address, link)).url for link in page.links}
    for addresses, method in ((actions, "POST"), (links - {"/api/openapi.json"}, "GET")):
        of_route = {route_of(address): address for address in addresses}
        for address in of_route.values():
            options = await visitor.fetch("OPTIONS", address)
            assert (options.status, method in options.headers["Allow"]) == (204, True), address
        taken = {path for path, page in PAGES.items() if method in page.allowed_methods()}
        assert set(of_route) == taken - (FORMS_OF_OTHER_PAGES if method == "GET" else set())


def _is_sound(page: Page) -> None:
    """Assert what assistive technology depends on, and the CSP."""
    names = ("input", "textarea", "button", "a", "form", "details")
    everything = [tag for name in names for tag in page.tags(name)]
    ids = [tag["id"] for tag in everything if "id" in tag]
    assert len(ids) == len(set(ids))
    assert len(page.tags("h1")) == len(page.tags("main")) == len(page.tags("title")) == 1
    assert page.tags("html")[0]["lang"] == page.headers["Content-Language"] == "en"
    assert page.headers["Vary"] == "Accept-Encoding, Accept-Language, Cookie"
    assert page.headers["Cache-Control"] == "no-store"
    labelled = {tag["for"] for tag in page.tags("label") if "for" in tag}
    for tag in [*page.tags("input"), *page.tags("textarea")]:
        if "hidden" not in (tag.get("type"), *tag) and tag.get("type") not in {"radio", "checkbox"}:
            assert tag["id"] in labelled
            assert tag["dir"] == "auto"  # text from right to left stands right while it is typed
    for tag in everything:
        assert all(name in page.ids for name in tag.get("aria-describedby", "").split())
        assert not any(name.startswith("on") for name in tag)
        assert "style" not in tag
    assert len(page.focused) <= 1
    (script,) = page.tags("script")
    assert set(script) == {"type", "src"}
    assert page.tags("style") == page.tags("svg") == page.tags("iframe") == []
    is_refused = page.method == "POST" and page.has_form("Log in") and page.status != 401
    assert page.text.startswith("Error: ") >= is_refused


def _knows_where_it_is(page: Page) -> None:
    """Assert that the theme form returns to the same page; the page of a POST has no URL."""
    here = page.form("Dark").fields["next"]
    if page.method == "GET" and page.status == 200:
        assert here == urldefrag(page.address).url
    else:
        assert here in {"/", page.address.partition("?")[0]}


def _actions_with_token(page: Page) -> set[str]:
    """Assert that every form has its CSRF token, and return the actions of its buttons."""
    for form in page.forms:
        assert form.method == "POST"
        assert form.fields["csrf_token"]
    buttons = [button for form in page.forms for button in form.buttons]
    assert all(button.action.startswith("/") for button in buttons)
    return {button.action for button in buttons}


async def test_every_link_leads_to_a_page(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await alice.add_task("Done", status="completed")
    pages = await walk(mine, "/tasks")
    routes = {route_of(page.address) for page in pages}
    of_tasks = {"/tasks", "/tasks/:id/edit", "/tasks/:id/delete", "/tasks/completed/delete"}
    of_api = {"/api/docs", route_of("/api/openapi.json")}
    of_account = {"/account", "/account/delete", "/account/sessions/others/end"}
    of_account |= {"/account/sessions/:id/end"}
    assert routes == of_tasks | of_api | of_account
    mine.cookies.clear()
    pages += await walk(mine, "/")
    assert {route_of(page.address) for page in pages} - routes == {"/login", "/register"}
    assert [page.status for page in pages] == [200] * len(pages)
    files = {tag["href"] for page in pages for tag in page.tags("link")}
    files |= {tag["src"] for page in pages for tag in page.tags("script")}
    for file in files:
        assert (await mine.fetch("GET", file)).status == 200


async def test_no_form_is_taken_without_its_token(
    mine: PageClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await alice.add_task("Done", status="completed")
    before = (await alice.get("/api/tasks")).json
    pages = [*await walk(mine, "/tasks"), await mine.open("/nowhere")]
    cookies = dict(mine.cookies)
    for page in pages:
        for form in page.forms:
            fields = {name: text for name, text in form.fields.items() if name != "csrf_token"}
            for button in form.buttons:
                response = await mine.fetch("POST", button.action, fields | button.fields)
                assert response.status == 403
                assert mine.cookies == cookies
    assert (await alice.get("/api/tasks")).json == before
    assert (await mine.open("/tasks")).status == 200


async def test_head_responds_as_get_does_without_the_page(
    mine: PageClient, task: dict[str, str]
) -> None:
    of_task = [f"/tasks/{task['id']}/{name}" for name in ("edit", "delete")]
    of_account = ("/account", "/account/delete")
    for address in ("/tasks", *of_task, "/tasks/completed/delete", *of_account, "/api/docs"):
        page = await mine.fetch("HEAD", address)
        assert (page.status, page.html) == (200, "")
    assert (await mine.fetch("HEAD", "/nowhere")).status == 404
    mine.cookies.clear()
    for address in ("/login", "/register"):
        assert (await mine.fetch("HEAD", address)).status == 200
    assert (await mine.fetch("HEAD", "/tasks")).location == "/login?next=/tasks"


# Below a base path


@with_settings(BASE_PATH="/sub")
async def test_below_a_base_path_every_link_form_and_redirect_stays_below_it(
    visitor: PageClient,
) -> None:
    for address in ("/sub", "/sub/"):
        assert (await visitor.fetch("GET", address)).location == "/sub/register"
    assert (await visitor.fetch("GET", "/sub/tasks")).location == "/sub/login?next=/sub/tasks"
    pages = [await visitor.open("/sub/register")]
    pages.append(await visitor.submit("Create account", email=ALICE, password=PASSWORD))
    pages.append(await visitor.submit("Log in", email=ALICE, password=PASSWORD, next="/sub/tasks"))
    pages.append(await visitor.submit("Add", title="Buy milk"))
    pages.append(await visitor.submit("Buy milk"))
    pages.append(await visitor.submit("Undo"))
    pages.append(await visitor.open(visitor.page.link("Edit: Buy milk")))
    pages.append(await visitor.submit("Save", title="Buy bread"))
    pages.append(await visitor.open(visitor.page.link("Delete: Buy bread")))
    pages.append(await visitor.submit("Delete"))
    pages.append(await visitor.submit("Add tasks", titles="Call Ada\nCall Bea"))
    pages.append(await visitor.submit("Call Ada"))
    pages.append(await visitor.open(visitor.page.link("Delete completed")))
    pages.append(await visitor.submit("Delete"))
    del visitor.cookies[cookie_name("session", "taskapp-sub")]
    pages.append(await visitor.send("Add", title="Typed"))
    pages.append(await visitor.send("Log in", email=ALICE, password=PASSWORD))
    pages.append(await visitor.submit("Save changes"))
    assert pages[-1].titles == ["Typed", "Call Bea"]
    pages.append(await visitor.open("/sub/account"))
    pages.append(await visitor.submit("Create token", name="Backup", password=PASSWORD))
    pages.append(await visitor.open(visitor.page.link("Done")))
    pages.append(await visitor.open(visitor.page.link("Revoke: Backup")))
    pages.append(await visitor.submit("Revoke token", password=PASSWORD))
    pages.append(await visitor.open(visitor.page.link("Delete my account")))
    pages.append(await visitor.open("/sub/nowhere"))
    pages.append(await visitor.submit("Log out"))
    assert [page.status for page in pages] == [200] * 14 + [401, 200, 200] + [200] * 6 + [404, 200]
    for page in pages:
        assert page.address.startswith("/sub/")
        inner = [each for each in page.references if not each.startswith("#")]
        assert all(each.startswith("/sub/") or each == "" for each in inner), inner
    for file in {tag["href"] for tag in pages[0].tags("link")}:
        assert (await visitor.fetch("GET", file)).status == 200
    assert (await visitor.fetch("GET", "/tasks")).status == 404


@with_settings(BASE_PATH="/sub")
@pytest.mark.parametrize("wanted", ["/sub//evil.example", "/sub/\\evil.example", "/elsewhere"])
async def test_below_a_base_path_a_login_leads_nowhere_else(
    visitor: PageClient, wanted: str
) -> None:
    await visitor.open("/sub/register")
    await visitor.submit("Create account", email=ALICE, password=PASSWORD)
    response = await visitor.send("Log in", email=ALICE, password=PASSWORD, next=wanted)
    assert response.location.startswith("/sub/")
