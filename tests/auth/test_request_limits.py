"""The requests of a user are limited; what is not known to be the user's spends nothing of it."""

import re
import secrets
from itertools import product
from urllib.parse import urlencode

import pytest

from handlers.routes import ROUTES
from handlers.web.application import Application
from taskapp.auth.signing import SessionToken
from taskapp.config.settings import Settings
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, assert_problem, at_once, with_settings
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, PASSWORD, PageClient
from tests.support.server_process import LONG_ENOUGH

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

AMOUNT = 1000
limited = with_settings(API_LIMIT=f"{AMOUNT}/hour", PAGE_LIMIT=f"{AMOUNT}/hour")
PATHS = sorted({re.sub(":(id|path)", name, path) for path, _ in ROUTES for name in (NO_TASK, "x")})
WITHOUT_BODY, WITH_BODY = ("GET", "HEAD", "OPTIONS", "DELETE"), ("POST", "PUT", "PATCH")
WHAT_WAS_RECORDED = (
    "SELECT last_used_at::text, expires_at::text, last_active_on::text"
    " FROM sessions JOIN users ON user_id = users.id ORDER BY sessions.id"
)


def session_of(client: ApiClient, services: Services) -> SessionToken:
    token = client.headers["Authorization"].removeprefix("Bearer ")
    session = services.signer.read_bearer_token(token)
    assert session
    return session


async def left(services: Services, session: SessionToken) -> tuple[int, int]:
    """Return how many requests the user has left, of the API and for pages."""
    fresh = SessionToken(session.user_id, secrets.token_bytes(32))
    of_api, of_pages = await services.limits.api.hit(fresh), await services.limits.pages.hit(fresh)
    assert of_api
    assert of_pages
    return of_api.remaining + 1, of_pages.remaining + 1


async def send_everything(client: ApiClient, headers: dict[str, str], *bodies: str) -> None:
    """Send each method with each body to each route, with an id of no task and with none."""
    requests: list[tuple[str, bytes | None]] = [(method, None) for method in WITHOUT_BODY]
    requests += [(method, body.encode()) for method in WITH_BODY for body in bodies]
    for path, (method, raw) in product(PATHS, requests):
        assert (await client.send(method, path, raw=raw, headers=headers)).status < 500


@limited
async def test_an_ended_session_spends_nothing_of_its_user_on_any_route(
    alice: ApiClient, services: Services, settings: Settings, app: Application
) -> None:
    session = session_of(alice, services)
    cookie, _ = services.signer.new_session_cookie(session.user_id)
    execute(settings.database_url, "UPDATE sessions SET expires_at = now()")
    assert await app.drain(LONG_ENOUGH)
    before = await left(services, session)
    recorded = execute(settings.database_url, WHAT_WAS_RECORDED)
    await send_everything(alice, {}, "{}", '{"title": "x", "status": "completed"}')
    ended = services.signer.read_session_cookie(cookie)
    form = urlencode(
        {
            "csrf_token": services.signer.new_csrf_token("browser", ended),
            "title": "x",
            "titles": "x",
            "status": "completed",
            "password": PASSWORD,
            "current_password": PASSWORD,
            "new_password": "another horse, another battery",
            "name": "x",
            "expires": "30",
        }
    )
    forms = {
        "Content-Type": "application/x-www-form-urlencoded",
        "Cookie": f"taskapp-session={cookie}; taskapp-csrf=browser",
    }
    browser = ApiClient(alice.http_client, alice.base_url)
    await send_everything(browser, forms, "", form)
    await send_everything(browser, forms | {"Origin": "https://elsewhere.example"}, form)
    assert await app.drain(LONG_ENOUGH)
    assert await left(services, session) == before
    assert execute(settings.database_url, WHAT_WAS_RECORDED) == recorded


@with_settings(API_LIMIT="100/15minute")
async def test_whoever_holds_an_ended_token_does_not_keep_the_owners_scripts_out(
    alice: ApiClient, api: ApiClient
) -> None:
    again = await api.log_in(ALICE, PASSWORD)
    await alice.post("/api/auth/logout")
    statuses = {(await alice.get("/api/tasks")).status for _ in range(130)}
    assert statuses == {401, 429}
    response = await again.get("/api/tasks")
    assert response.status == 200
    assert response.headers["RateLimit"].startswith('"api";r=98;')  # with the logout


@with_settings(API_LIMIT="3/hour")
async def test_a_forged_token_is_counted_for_nobody(alice: ApiClient, api: ApiClient) -> None:
    token = alice.headers["Authorization"]
    for _ in range(10):
        forged = {"Authorization": token[:-1] + ("A" if token[-1] != "A" else "B")}
        assert_problem(await api.get("/api/tasks", headers=forged), 401)
    assert (await alice.get("/api/tasks")).headers["RateLimit"].startswith('"api";r=2;')


@with_settings(API_LIMIT="20/hour")
async def test_concurrent_requests_of_a_session_are_exactly_as_many_as_the_limit(
    alice: ApiClient, api: ApiClient
) -> None:
    responses = await at_once(alice.get("/api/tasks") for _ in range(50))
    assert sorted(response.status for response in responses) == [200] * 20 + [429] * 30
    again = await api.log_in(ALICE, PASSWORD)
    assert_problem(await again.get("/api/tasks"), 429)


@with_settings(PAGE_LIMIT="4/15minute")
async def test_pages_of_a_user_are_limited_too_and_nothing_typed_is_lost(
    mine: PageClient, bobs: PageClient, alice: ApiClient
) -> None:
    """The login led to one page."""
    await mine.open("/account")
    await mine.open("/tasks")
    assert (await mine.send("Add", title="Fourth")).status == 303
    fields = {"title": "Fifth", "csrf_token": csrf_token_of(mine)}
    page = await mine.fetch("POST", "/tasks", fields)
    assert page.status == 429
    assert 0 < int(page.headers["Retry-After"]) <= 900
    assert "You have opened or sent too many pages." in page.text
    assert "Try again in 15 minutes." in page.text
    assert page.form("Send again").fields["title"] == "Fifth"
    for address in ("/tasks", "/account", f"/tasks/{NO_TASK}/edit"):
        assert (await mine.fetch("GET", address)).status == 429
    # Others, the API and the way out are not limited by it.
    assert (await bobs.open("/tasks")).status == 200
    assert [task["title"] for task in (await alice.get("/api/tasks")).json["tasks"]] == ["Fourth"]
    await mine.fetch("POST", "/logout", {"csrf_token": csrf_token_of(mine)})
    assert mine.page.location == "/login"


def csrf_token_of(browser: PageClient) -> str:
    """Return the CSRF token of the last page that had a form."""
    pages = [page.html for page in reversed(browser.history)]
    found = re.search(r'name="csrf_token" value="([^"]+)"', "".join(pages))
    assert found
    return found[1]


@with_settings(PAGE_LIMIT="3/15minute")
async def test_sessions_of_one_user_share_a_limit_of_pages(
    mine: PageClient, other: PageClient
) -> None:
    await mine.open("/account")
    await other.log_in(ALICE)
    assert other.page.status == 200
    for browser in (mine, other):
        assert (await browser.fetch("GET", "/tasks")).status == 429


WRONG = {"email": ALICE, "password": "a wrong password"}
RIGHT = {"email": ALICE, "password": PASSWORD}
# The setting, the form, and what its page says when it is sent for the second time.
FORMS = [
    ("LOGIN_LIMIT", "/login", "Log in", WRONG, "wrong passwords have been sent from your network"),
    ("SUCCESSFUL_LOGIN_LIMIT", "/login", "Log in", RIGHT, "logins to this account"),
    (
        *("REGISTER_LIMIT", "/register", "Create account"),
        *({"email": "carol@example.com", "password": PASSWORD}, "accounts have been created"),
    ),
]


@pytest.mark.parametrize(
    ("setting_changes", "address", "button", "fields", "told"),
    [({f"TASKAPP_{name}": "1/15minute"}, *rest) for name, *rest in FORMS],
    ids=[name for name, *_ in FORMS],
)
async def test_a_page_says_what_was_too_much_and_when_it_may_be_sent_again(
    visitor: PageClient,
    api: ApiClient,
    address: str,
    button: str,
    fields: dict[str, str],
    told: str,
) -> None:
    if address == "/login":
        await api.post("/api/auth/register", RIGHT)
    for _ in range(2):
        visitor.cookies.clear()
        await visitor.open(address)
        page = await visitor.send(button, **fields)
    assert page.status == 429
    assert f"Too many {told}" in page.text
    assert "Try again in 15 minutes." in page.text
