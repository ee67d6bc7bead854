"""The security headers: on every route, with every method, in every state, and for graders."""

import re
from collections.abc import Iterator
from http.cookies import SimpleCookie
from importlib.metadata import distributions

import pytest

from handlers.api.base import ApiHandler
from handlers.pages.base import PageHandler
from handlers.rendering.static_assets import FILES
from handlers.routes import ROUTES
from handlers.web.application import METHODS
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient, Response
from tests.support.page_client import ALICE, PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [
    pytest.mark.gen_test,
    pytest.mark.usefixtures("app"),
    with_settings(PUBLIC_URL="https://tasks.example.com"),
]

SAFE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
}
NOTHING = {
    *("default-src 'none'", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"),
}
PAGES = {
    *("default-src 'none'", "style-src 'self'", "script-src 'self'", "img-src 'self'"),
    *("manifest-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'"),
    *("frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"),
}
DENIED = {"camera", "geolocation", "microphone", "payment", "usb"}
ODD_METHODS = ("TRACE", "PROPFIND", "BREW", "get")
HOSTILE_HEADERS = {"Origin": "https://evil.example", "X-Forwarded-Proto": "http"}
MANY_FIELDS = "&".join(["title=x"] * 101)


def addresses() -> Iterator[tuple[str, bool]]:
    """Yield a path of every route, and one without a route, each with whether it is a page."""
    for route, handler in ROUTES:
        path = route.replace(":id", NO_TASK).replace(":path", "nothing")
        yield path, issubclass(handler, PageHandler)
    for name in FILES:
        yield f"/static/{name}", True
    yield "/nothing", True


def is_public_file(path: str, response: Response) -> bool:
    is_file = path.startswith("/static/") or path in {"/robots.txt", "/api/openapi.json"}
    return response.status in {200, 304} and is_file


def assert_safe(response: Response, path: str, *, is_page: bool) -> None:
    """Check all security headers of a response."""
    where = f"{path}: {response.status}"
    for name, value in SAFE.items():
        assert response.headers.get_list(name) == [value], (where, name)
    (policy,) = response.headers.get_list("Content-Security-Policy")
    assert set(policy.split("; ")) == (PAGES if is_page else NOTHING), where
    permissions = response.headers["Permissions-Policy"].split(", ")
    assert set(permissions) >= {f"{name}=()" for name in DENIED}, where
    assert re.fullmatch(r"[0-9a-f-]{36}", response.headers["X-Request-ID"]), where
    cache = response.headers["Cache-Control"]
    assert cache.startswith("public, ") if is_public_file(path, response) else cache == "no-store"
    assert not {"Server", "X-Powered-By", "Via", "X-XSS-Protection"} & set(response.headers), where
    assert not [name for name in response.headers if name.startswith("Access-Control-")], where
    if response.body:
        kind = response.headers["Content-Type"].lower()
        assert kind.startswith(("application/", "image/png")) or "charset=utf-8" in kind, where


async def test_every_route_with_every_method_has_the_safe_headers(
    alice: ApiClient, api: ApiClient, mine: PageClient
) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in mine.cookies.items())
    seen = set()
    for client in (api, alice):
        for path, is_page in addresses():
            sent = {"Cookie": cookies} if is_page and client is alice else {}
            for method in (*METHODS, *ODD_METHODS):
                if (path, method, client) == ("/api/auth/logout", "POST", alice):
                    continue  # it would end the session of the rest
                response = await client.send(
                    method, path, headers=sent | HOSTILE_HEADERS, raw=b"{}"
                )
                assert_safe(response, path, is_page=is_page)
                assert response.status < 500
                seen.add(response.status)
    assert seen >= {200, 204, 303, 400, 401, 403, 404, 405}


async def test_answers_in_every_other_state_have_them_too(
    alice: ApiClient, mine: PageClient, task: dict[str, str], services: Services
) -> None:
    etag = (await alice.get(f"/api/tasks/{task['id']}")).headers["Etag"]
    file_etag = (await alice.get("/static/style.css")).headers["Etag"]
    where = f"/api/tasks/{task['id']}"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    states = [
        ("GET", where, None, {"If-None-Match": etag}, 304),
        ("GET", "/static/style.css", None, {"If-None-Match": file_etag}, 304),
        ("PUT", where, b'{"title": "x"}', {"If-Match": '"2020-01-01T00:00:00.000000Z"'}, 412),
        ("POST", "/api/tasks", b" " * 300_000, {}, 413),
        ("POST", "/login", b" " * 300_000, form, 413),
        ("POST", "/login", MANY_FIELDS.encode(), form, 400),
        ("POST", "/api/tasks", b"title=x", form, 415),
        ("POST", "/api/auth/register", b"{}", {}, 400),
        ("GET", "/tasks?status=nonsense", None, {"Cookie": cookie_of(mine)}, 400),
        ("GET", "/static/%2e%2e/server.py", None, {}, 404),
    ]
    for method, path, raw, headers, status in states:
        response = await alice.send(method, path, raw=raw, headers=headers)
        assert response.status == status, (method, path, response.status)
        assert_safe(response, path.partition("?")[0], is_page=not path.startswith("/api/"))
    await services.database.close()
    for path, status in [("/api/tasks", 503), ("/tasks", 503), ("/api/health", 503)]:
        response = await alice.get(path, headers={"Cookie": cookie_of(mine)})
        assert response.status == status
        assert_safe(response, path, is_page=path == "/tasks")
    await services.database.open(services.settings.database_url)


def cookie_of(visitor: PageClient) -> str:
    return "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())


async def test_an_unexpected_error_has_them_too(
    api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(ApiHandler, "write_json", fail)
    monkeypatch.setattr(PageHandler, "language", property(fail))
    for path in ("/api/health/live", "/login"):
        response = await api.get(path)
        assert response.status == 500
        assert b"secret" not in (response.body or b"")
        assert_safe(response, path, is_page=path == "/login")


async def test_no_response_names_the_software_or_its_version(api: ApiClient) -> None:
    versions = {found.version for found in distributions() if found.version.count(".") >= 2}
    names = ("tornado", "python", "psycopg", "sqlalchemy", "jinja", "postgresql")
    for path, _ in addresses():
        if path == "/metrics" or path.startswith("/static/"):
            continue  # the one is for the operator's network, the others are the same everywhere
        for method in ("GET", "BREW"):
            response = await api.send(method, path)
            said = (response.body or b"").decode() + str(dict(response.headers))
            assert not [name for name in names if name in said.lower()], path
            assert not [found for found in versions if found in said], path


# Mozilla's HTTP Observatory: its published rules, as far as a header decides them.
# Everybody begins with 100; what is missing costs, and extra credit counts from 90 upwards.

_PRIVATE = {"no-referrer", "same-origin", "strict-origin", "strict-origin-when-cross-origin"}


def directives_of(policy: str) -> dict[str, list[str]]:
    parts = [part.split() for part in policy.split(";") if part.strip()]
    return {name: values for name, *values in parts}


def score_policy(directives: dict[str, list[str]]) -> int:
    sources = [value for values in directives.values() for value in values]
    if not directives:
        return -25
    if any(value in {"'unsafe-inline'", "'unsafe-eval'", "data:", "https:"} for value in sources):
        return -20
    is_closed = directives.get("default-src") == ["'none'"]
    form = directives.get("form-action", ["*"])
    return 10 if is_closed and form in (["'self'"], ["'none'"]) else 5


def score_cookies(lines: list[str]) -> int:
    morsels = [morsel for line in lines for morsel in SimpleCookie(line).values()]
    if not all(morsel["secure"] for morsel in morsels):
        return -20
    if not all(morsel["httponly"] for morsel in morsels):
        return -30
    is_strict = all(morsel["samesite"] in {"Lax", "Strict"} for morsel in morsels)
    return 5 if morsels and is_strict else 0


def score_transport(header: str) -> int:
    age = re.search(r"max-age=(\d+)", header)
    if age is None:
        return -20
    return 0 if int(age[1]) >= 15_768_000 else -10


def scores_of(response: Response) -> dict[str, int]:
    """Return the points of each test of the Mozilla Observatory, for a site behind TLS."""
    headers = response.headers
    directives = directives_of(headers.get("Content-Security-Policy", ""))
    scripts = re.findall(r"<script[^>]*src=\"([^\"]*)", response.body.decode())
    return {
        "content-security-policy": score_policy(directives),
        "cookies": score_cookies(headers.get_list("Set-Cookie")),
        "cross-origin-resource-sharing": -50
        if headers.get("Access-Control-Allow-Origin") == "*"
        else 0,
        "cross-origin-resource-policy": 10
        if headers.get("Cross-Origin-Resource-Policy") in {"same-origin", "same-site"}
        else 0,
        "referrer-policy": 5 if headers.get("Referrer-Policy") in _PRIVATE else 0,
        "strict-transport-security": score_transport(headers.get("Strict-Transport-Security", "")),
        "subresource-integrity": 0 if all(each.startswith("/") for each in scripts) else -50,
        "x-content-type-options": 0 if headers.get("X-Content-Type-Options") == "nosniff" else -5,
        "x-frame-options": 5 if directives.get("frame-ancestors") == ["'none'"] else -20,
    }


def grade(scores: dict[str, int]) -> int:
    base = 100 + sum(score for score in scores.values() if score < 0)
    return base + (sum(score for score in scores.values() if score > 0) if base >= 90 else 0)


@pytest.mark.parametrize("path", ["/login", "/register", "/nothing", "/api/docs"])
async def test_the_observatory_gives_130_or_more(api: ApiClient, path: str) -> None:
    scores = scores_of(await api.get(path))
    assert grade(scores) >= 130, scores


@pytest.mark.parametrize(
    ("name", "weaker"),
    [
        ("Content-Security-Policy", "default-src 'self'"),
        ("Content-Security-Policy", "default-src 'none'; script-src 'unsafe-inline'"),
        ("Set-Cookie", "a=b; HttpOnly; SameSite=Lax"),
        ("Set-Cookie", "a=b; Secure; SameSite=Lax"),
        ("Strict-Transport-Security", "max-age=60"),
        ("Cross-Origin-Resource-Policy", "cross-origin"),
    ],
)
async def test_the_observatory_would_notice_a_weaker_header(
    api: ApiClient, name: str, weaker: str
) -> None:
    response = await api.get("/login")
    response.headers[name] = weaker
    assert grade(scores_of(response)) < 130


async def test_every_cookie_of_a_whole_visit_is_safe(mine: PageClient) -> None:
    await mine.add_task("Buy milk")
    await mine.submit("Dark")
    await mine.submit("Log out")
    await mine.log_in(ALICE, "not the password")
    lines = [line for page in mine.history for line in page.headers.get_list("Set-Cookie")]
    assert len(lines) >= 5
    for line in lines:
        ((name, morsel),) = SimpleCookie(line).items()
        assert name.startswith("__Host-taskapp-")
        assert (morsel["secure"], morsel["httponly"], morsel["samesite"]) == (True, True, "Lax")
        assert (morsel["path"], morsel["domain"]) == ("/", "")
        assert len(name) + len(morsel.value) < 4096
