"""The rules of HTTP and the security headers, on every path."""

import asyncio
import re
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import HTTPResponse

from handlers.pages.base import PageHandler
from handlers.routes import ROUTES
from handlers.web.application import Application
from handlers.web.safe_headers import CSP_NOTHING
from taskapp.config.settings import Settings
from tests.conftest import PASSWORD
from tests.support.api_tools import (
    NO_TASK,
    assert_problem,
    log_in_as_browser,
    running,
    send_raw,
    with_settings,
)
from tests.support.clients import ApiClient
from tests.support.server_process import LONG_ENOUGH

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
PATHS = [
    "/",
    "/login",
    "/register",
    "/theme",
    "/tasks",
    "/tasks/several",
    "/tasks/completed/delete",
    f"/tasks/{NO_TASK}/edit",
    "/nothing",
    "/robots.txt",
    "/static/style.css",
    "/static/nothing.css",
    "/static/../server.py",
    "/metrics",
    "/api/docs",
    "/api/openapi.json",
    "/api/health",
    "/api/health/live",
    "/api/health/ready",
    "/api/tasks",
    f"/api/tasks/{NO_TASK}",
    "/api/nothing",
]
API_ROUTES = [path.replace(":id", NO_TASK) for path, _ in ROUTES if path.startswith("/api/")]
ELSEWHERE = "https://elsewhere.example"


# Headers of every response


@pytest.mark.parametrize("path", PATHS)
async def test_every_response_has_the_security_headers_and_an_id(
    alice: ApiClient, path: str
) -> None:
    for method, sent in [("GET", None), ("HEAD", None), ("OPTIONS", None), ("DELETE", None)]:
        response = await alice.send(method, path, sent)
        assert response.status < 500
        for name, value in SAFE_HEADERS.items():
            assert response.headers.get_list(name) == [value]
        policy = response.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Request-ID"]
        assert response.headers["Cache-Control"]
        assert "Server" not in response.headers
        assert "Strict-Transport-Security" not in response.headers


async def test_pages_run_our_script_and_nothing_else_and_answers_of_the_api_nothing(
    alice: ApiClient,
) -> None:
    of_pages = {
        *("default-src 'none'", "style-src 'self'", "script-src 'self'", "img-src 'self'"),
        *("manifest-src 'self'", "connect-src 'self'", "form-action 'self'", "base-uri 'none'"),
        *("frame-ancestors 'none'", "require-trusted-types-for 'script'", "trusted-types 'none'"),
    }
    for path, handler in ROUTES:
        is_page = issubclass(handler, PageHandler)
        for method in ("GET", "BREW"):
            response = await alice.send(method, path.replace(":id", NO_TASK))
            policy = set(response.headers["Content-Security-Policy"].split("; "))
            expected = of_pages if is_page else set(CSP_NOTHING.split("; "))
            assert policy == expected, path


async def test_responses_of_the_api_are_not_stored(alice: ApiClient) -> None:
    for path in ["/api/tasks", "/api/nothing", "/tasks", "/login"]:
        assert (await alice.get(path)).headers["Cache-Control"] == "no-store"


@with_settings(PUBLIC_URL="https://tasks.example.com")
async def test_behind_https_browsers_are_told_to_stay_there(api: ApiClient) -> None:
    for path in ["/login", "/api/health", "/api/nothing", "/static/style.css"]:
        value = (await api.get(path)).headers["Strict-Transport-Security"]
        assert int(value.partition(";")[0].removeprefix("max-age=")) >= 31_536_000


@with_settings(TRUSTED_PROXIES="127.0.0.1,::1")
async def test_a_trusted_proxy_may_say_https(api: ApiClient) -> None:
    response = await api.get("/login", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" in response.headers
    assert "Strict-Transport-Security" not in (await api.get("/login")).headers


async def test_a_stranger_may_not_say_https(api: ApiClient) -> None:
    response = await api.get("/login", headers={"X-Forwarded-Proto": "https"})
    assert "Strict-Transport-Security" not in response.headers


# The request's id


@pytest.mark.parametrize("identity", ["abc", "A.b_c:d-1", "x" * 64])
async def test_a_sane_request_id_is_kept_everywhere(
    api: ApiClient, capsys: pytest.CaptureFixture[str], identity: str
) -> None:
    response = await api.get("/api/nothing", headers={"X-Request-ID": identity})
    assert response.headers["X-Request-ID"] == identity
    assert response.json["requestId"] == identity
    assert f'"requestId":"{identity}"' in capsys.readouterr().err


@pytest.mark.parametrize("identity", ["", "x" * 65, "a b", "é", '"', "<b>", "a,b", "a\tb"])
async def test_a_strange_request_id_is_replaced(
    api: ApiClient, capsys: pytest.CaptureFixture[str], identity: str
) -> None:
    response = await api.get("/api/nothing", headers={"X-Request-ID": identity})
    made = response.headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f-]{36}", made)
    assert f'"requestId":"{made}"' in capsys.readouterr().err


async def test_every_request_has_an_id_of_its_own(api: ApiClient) -> None:
    responses = await asyncio.gather(*(api.get("/api/nothing") for _ in range(20)))
    assert len({response.headers["X-Request-ID"] for response in responses}) == 20
    assert all(
        response.json["requestId"] == response.headers["X-Request-ID"] for response in responses
    )


# Methods


@pytest.mark.parametrize("path", API_ROUTES)
async def test_a_method_that_a_route_has_not_is_405_with_those_that_it_has(
    alice: ApiClient, path: str
) -> None:
    options = await alice.send("OPTIONS", path)
    if path.startswith("/api/:"):
        assert options.status == 404
        return
    assert (options.status, options.response.body) == (204, b"")
    allowed = options.headers["Allow"].split(", ")
    assert "OPTIONS" in allowed
    assert ("HEAD" in allowed) == ("GET" in allowed)
    for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "BREW", "TRACE", "get"]:
        response = await alice.send(method, path, raw=b"{}")
        assert (response.status == 405) == (method not in allowed), (method, response.status)
        if response.status == 405:
            assert response.headers["Allow"] == options.headers["Allow"]


async def test_options_asks_for_no_session_and_counts_against_no_limit(api: ApiClient) -> None:
    response = await api.send("OPTIONS", "/api/tasks")
    assert response.status == 204
    assert response.headers["Allow"] == "GET, HEAD, OPTIONS, POST"
    assert "RateLimit" not in response.headers


@pytest.mark.parametrize("path", PATHS)
async def test_head_is_get_without_the_body(alice: ApiClient, path: str) -> None:
    get, head = await as_sent(alice, "GET", path), await as_sent(alice, "HEAD", path)
    assert (head.code, head.body) == (get.code, b"")
    for name in ["Content-Type", "Etag", "Location", "Link", "Cache-Control", "Www-Authenticate"]:
        assert head.headers.get(name) == get.headers.get(name)
    assert head.headers.get("Vary") == get.headers.get("Vary")
    if path not in {"/metrics", "/api/health"}:  # their numbers change all the time
        assert head.headers["Content-Length"] == get.headers["Content-Length"]


async def as_sent(client: ApiClient, method: str, path: str) -> HTTPResponse:
    """Send a request for an uncompressed response: a compressed one differs in length each time."""
    response: HTTPResponse = await client.http_client.fetch(
        client.base_url + path,
        method=method,
        headers=client.headers,
        decompress_response=False,  # else Tornado's client asks for gzip
        raise_error=False,
        follow_redirects=False,
    )
    assert "Content-Encoding" not in response.headers
    return response


# The size of a body


def chunked(size: int) -> bytes:
    """Yield a body in chunks."""
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    return chunk * (size // 0x10000) + b"0\r\n\r\n"


@pytest.mark.parametrize("path", ["/api/tasks", "/api/auth/login", "/api/nothing"])
@pytest.mark.parametrize("way", ["Content-Length", "chunked"])
async def test_ten_megabytes_are_too_large(
    alice: ApiClient, base_url: str, path: str, way: str
) -> None:
    size = 10 * 1024 * 1024
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json"]
    lines += ["Authorization: " + alice.headers["Authorization"], "Connection: close"]
    if way == "chunked":
        lines.append("Transfer-Encoding: chunked")
        body = chunked(size)
    else:
        lines.append(f"Content-Length: {size}")
        body = b" " * size
    response = await send_raw(base_url, "\r\n".join([*lines, "", ""]).encode() + body)
    head, _, problem = response.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"application/problem+json" in head
    assert b'"status":413' in problem
    assert (await alice.get("/api/tasks")).json["tasks"] == []


async def test_the_largest_description_fits_however_it_is_written(alice: ApiClient) -> None:
    raw = b'{"title": "x", "description": "' + b"\\ud83d\\ude00" * 10_000 + b'"}'
    assert (await alice.post("/api/tasks", raw=raw)).status == 201


async def test_a_connection_is_still_good_after_a_body_that_was_too_large(
    alice: ApiClient, base_url: str
) -> None:
    head = "Host: localhost\r\nContent-Type: application/json\r\n"
    first = f"POST /api/tasks HTTP/1.1\r\n{head}Content-Length: 300000\r\n\r\n".encode()
    second = f"GET /api/nothing HTTP/1.1\r\n{head}Connection: close\r\n\r\n".encode()
    response = await send_raw(base_url, first + b" " * 300_000 + second)
    assert re.findall(rb"HTTP/1.1 (\d+)", response) == [b"413", b"404"]
    assert (await alice.get("/api/tasks")).status == 200


async def test_a_client_that_hangs_up_leaves_nothing_behind(
    alice: ApiClient, app: Application, base_url: str
) -> None:
    parts = urlsplit(base_url)
    head = f"Host: x\r\nAuthorization: {alice.headers['Authorization']}\r\n"
    for request in [
        f"GET /api/tasks HTTP/1.1\r\n{head}\r\n",
        f"POST /api/tasks HTTP/1.1\r\n{head}Content-Length: 99\r\n\r\n{{",
    ]:
        _, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(request.encode())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    assert app.in_flight == 0


# Other sites: CORS and cookies


@with_settings(CORS_ORIGINS="https://app.example, https://other.example")
@pytest.mark.parametrize("path", ["/api/tasks", "/api/nothing", "/api/tasks/1"])
async def test_an_origin_of_the_list_may_read_the_api(alice: ApiClient, path: str) -> None:
    for origin in ["https://app.example", "https://other.example"]:
        response = await alice.get(path, headers={"Origin": origin})
        assert response.headers["Access-Control-Allow-Origin"] == origin
        assert "ETag" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Cross-Origin-Resource-Policy"] == "cross-origin"
        assert response.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in response.headers
    for origin in [ELSEWHERE, "null", "", "https://app.example.evil", "http://app.example"]:
        response = await alice.get(path, headers={"Origin": origin})
        assert "Access-Control-Allow-Origin" not in response.headers
        assert response.headers["Vary"] == "Origin"


@with_settings(CORS_ORIGINS="https://app.example")
async def test_a_browser_may_ask_before_it_sends(api: ApiClient) -> None:
    asked = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "PUT",
        "Access-Control-Request-Headers": "authorization, if-match",
    }
    response = await api.send("OPTIONS", f"/api/tasks/{NO_TASK}", headers=asked)
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert "PUT" in response.headers["Access-Control-Allow-Methods"].split(", ")
    allowed = response.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"authorization", "content-type", "if-match", "idempotency-key"} <= set(allowed)
    response = await api.send("OPTIONS", "/api/tasks", headers=asked | {"Origin": ELSEWHERE})
    assert not [name for name in response.headers if name.startswith("Access-Control-")]


async def test_without_a_list_no_other_site_may_read_the_api(alice: ApiClient) -> None:
    response = await alice.get("/api/tasks", headers={"Origin": ELSEWHERE})
    assert not [name for name in response.headers if name.startswith("Access-Control-")]


async def test_a_cookie_is_no_token_unless_the_request_proves_its_origin(
    api: ApiClient, alice: ApiClient
) -> None:
    task = await alice.add_task()
    cookies, csrf_token = await log_in_as_browser(api, "alice@example.com", PASSWORD)
    cookie = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    only_session = {
        "Cookie": "; ".join(
            f"{name}={value}" for name, value in cookies.items() if "session" in name
        )
    }
    proof = {"X-CSRF-Token": csrf_token}
    for headers in [
        cookie,
        cookie | {"X-CSRF-Token": ""},
        cookie | {"X-CSRF-Token": "x"},
        cookie | {"X-CSRF-Token": csrf_token.partition(".")[0] + "." + "0" * 43},
        only_session | proof,
        cookie | proof | {"Origin": ELSEWHERE},
        cookie | proof | {"Sec-Fetch-Site": "cross-site"},
        cookie | proof | {"Sec-Fetch-Site": "same-site"},
    ]:
        assert_problem(await api.get("/api/tasks", headers=headers), 401)
        response = await api.post("/api/tasks", {"title": "x"}, headers=headers)
        assert_problem(response, 401)
        query = "?csrf_token=" + csrf_token
        assert_problem(await api.get("/api/tasks" + query, headers=cookie), 401)
    response = await api.get("/api/tasks", headers=cookie | proof)
    assert (response.status, response.json["tasks"]) == (200, [task])


async def test_a_cookie_is_no_bearer_token_and_the_reverse(
    api: ApiClient, alice: ApiClient
) -> None:
    cookies, _ = await log_in_as_browser(api, "alice@example.com", PASSWORD)
    (session,) = [value for name, value in cookies.items() if "session" in name]
    headers = {"Authorization": f"Bearer {session.strip(chr(34))}"}
    assert_problem(await api.get("/api/tasks", headers=headers), 401)
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    (name,) = [name for name in cookies if "session" in name]
    response = await api.get("/tasks", headers={"Cookie": f"{name}={token}"})
    assert response.status == 303


# The client's address


async def logged_address(
    api: ApiClient, capsys: pytest.CaptureFixture[str], headers: dict[str, str]
) -> str:
    capsys.readouterr()
    await api.get("/api/health/live", headers=headers)
    match = re.search(r'"address":"([^"]*)"', capsys.readouterr().err)
    assert match
    return match[1]


@with_settings(TRUSTED_PROXIES="127.0.0.1,::1,10.0.0.0/8")
@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1", "192.0.2.1"),  # the first was written by the client
        ("192.0.2.1, 10.1.2.3", "192.0.2.1"),
        ("203.0.113.9, 192.0.2.1, 10.1.2.3,10.0.0.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("192.0.2.1:54321, 10.1.2.3:443", "192.0.2.1"),
        ("[2001:db8::1]:54321", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.1"),
        ("192.0.2.1, nonsense", "127.0.0.1"),
        ("", "127.0.0.1"),
    ],
)
async def test_trusted_proxies_say_who_the_client_is(
    api: ApiClient, capsys: pytest.CaptureFixture[str], forwarded: str, address: str
) -> None:
    sent = {"X-Forwarded-For": forwarded, "X-Real-Ip": "198.51.100.7"}
    assert await logged_address(api, capsys, sent) in {address, "::1"}


async def test_a_stranger_may_not_say_who_he_is(
    api: ApiClient, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ["X-Forwarded-For", "X-Real-Ip", "Forwarded"]:
        address = await logged_address(api, capsys, {name: "192.0.2.1"})
        assert address in {"127.0.0.1", "::1"}


# The base path


async def test_the_site_may_live_below_a_path(settings: Settings) -> None:
    async with running(settings, TASKAPP_BASE_PATH="/my/tasks.d") as server:
        user = await server.client.sign_up("carol@example.com", PASSWORD)
        made = await user.post("/api/tasks", {"title": "x"})
        await user.add_task()
        assert made.headers["Location"] == f"/my/tasks.d/api/tasks/{made.json['id']}"
        listed = await user.get("/api/tasks?limit=1")
        assert listed.headers["Link"].startswith("</my/tasks.d/api/tasks?limit=1&after=")
        document = (await user.get("/api/openapi.json")).json
        assert document["servers"] == [{"url": "/my/tasks.d"}]
        assert_problem(await user.get("/api/nothing"), 404)
        start = await server.client.get("/")
        assert (start.status, start.headers["Location"]) == (303, "/my/tasks.d/login")
        login = (await server.client.get("/login")).response.body.decode()
        addresses = re.findall(r'(?:href|src|action)="([^"]*)"', login)
        assert addresses
        assert all(
            address.startswith(("/my/tasks.d/", "#", "?")) for address in addresses if address
        )
        root = ApiClient(user.http_client, user.base_url.removesuffix("/my/tasks.d"), user.headers)
        for path in ["/api/tasks", "/login", "/my/tasksXd/login", "/my/tasks.dlogin", "/"]:
            assert (await root.get(path)).status == 404
