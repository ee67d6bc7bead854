"""What is sent before a limit counts it costs the event loop little, whatever it is.

The cost is the processor time of the event loop's thread for one request, which does not depend on
what else the machine does.
"""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import pytest

from handlers.api.base import ApiHandler
from handlers.pages.base import COOKIE_AGES, PageHandler
from handlers.routes import ROUTES
from handlers.web.body_limit import MAX_BODY_SIZE
from handlers.web.request_stream import MAX_CHUNKS
from handlers.web_server import MAX_HEADER_SIZE
from tests.support.api_tools import NO_TASK
from tests.support.server_process import (
    LONG_ENOUGH,
    PASSWORD,
    ServerProcess,
    processor_seconds,
    server_process,
)

MAX_COST = 0.020  # seconds of processor time
SIZE = 250_000  # bytes
ROOM = 1_000  # bytes of a request that are not hostile
# Bytes of headers and addresses that are read; longer ones are refused before anything is, so that
# one place is enough for them.
FITS = MAX_HEADER_SIZE - ROOM
SENT_AGAIN = 2  # times after a request that cost too much: the first one may import a module
TEXTS = {
    "letters": "a",
    "accents of two classes": "\u0301\u0316",
    "a character and an accent": "<\u0338",
    "quotes": "\"'",
    "markup": "<&>",
    "spaces": " ",
    "line ends": "\r\n",
    "tabs": "\t",
    "NUL": "\0",
    "digits": "9",
    "dots": ".",
    "labels": "a.",
    "signs": "@",
    "commas": ",",
    "semicolons": "a=b; ",
    "equals signs": "=",
    "ampersands": "&",
    "percent signs": "%",
    "escapes": "%41",
    "broken escapes": "%\xe9",
    "slashes": "/../",
    "emoji": "\U0001f600",
    "a letter that grows when folded": "\u0130",
    "a letter that grows when normalized": "\ufdfa",
    "punycode": "xn--",
    "marks of direction": "\u202e",
    "weights": "en;q=0.1, ",
    "tags": 'W/"x", ',
    "addresses": "127.0.0.1, ",
    "parts of signed texts": "AAAA.",
    "names of browsers": "Version/1 (",
    "brackets": "[",
}
JSON_VALUES = {
    "lists in lists": "[" * 100_000,
    "many lists": "[" + "[]," * 80_000 + "[]]",
    "many objects": "[" + "{}," * 80_000 + "{}]",
    "many numbers": "[" + "0," * 120_000 + "0]",
    "a long number": "9" * SIZE,
    "a long fraction": "0." + "9" * SIZE,
    "a long exponent": "1e" + "9" * SIZE,
    "half an emoji": '"' + "\\ud83d" * 40_000 + '"',
    "escapes": '"' + "\\u0301\\u0316" * 20_000 + '"',
    "many names": "{" + ",".join(f'"{number}":0' for number in range(28_000)) + "}",
}
# The fields of every form of a page; those of a public page are sent without a session.
FIELDS = {
    "/login": (
        *("email", "password", "next", "csrf_token", "draft_action", "draft_title"),
        *("draft_description", "draft_titles", "draft_key", "draft_version"),
    ),
    "/register": ("email", "password"),
    "/logout": ("csrf_token",),
    "/theme": ("theme", "next"),
    "/tasks": ("title", "description", "key", "csrf_token"),
    "/tasks/several": ("titles", "key"),
    "/tasks/:id/edit": ("title", "description", "version"),
    "/tasks/:id/status": ("status",),
    "/tasks/:id/delete": ("anything",),
    "/tasks/completed/delete": ("until",),
    "/tasks/restore": ("deleted",),
    "/account/password": ("current_password", "new_password"),
    "/account/tokens": ("name", "expires", "read_only", "password"),
    "/account/sessions/others/end": ("password",),
    "/account/sessions/:id/end": ("password",),
    "/account/delete": ("password",),
}
HEADERS = (
    *("Accept", "Accept-Encoding", "Accept-Language", "Authorization", "Cookie", "Date"),
    *("Content-Encoding", "Content-Type", "Expect", "Forwarded", "Idempotency-Key", "If-Match"),
    *("If-Modified-Since", "If-None-Match", "Origin", "Range", "Referer", "Sec-Fetch-Site"),
    *("TE", "Upgrade", "User-Agent", "X-CSRF-Token", "X-Forwarded-For", "X-Forwarded-Proto"),
    *("X-Real-IP", "X-Request-ID", "X-Anything"),
)
ADDRESSES = ("/login", "/tasks", "/api/tasks", "/static/style.css")
QUERIES = ("/tasks?after=", "/tasks?status=", "/login?next=", "/api/tasks?limit=", "/status?")
FORM = "application/x-www-form-urlencoded"


@dataclass(frozen=True)
class Visitor:
    """A browser's cookies, and the CSRF token that goes with them."""

    cookies: str
    csrf_token: str


@pytest.fixture(scope="module")
def server(short_folder: Path, database_url: str) -> Iterator[ServerProcess]:
    """A server that trusts this machine as a proxy, so that what proxies say is read."""
    settings = {
        "TASKAPP_DATABASE_URL": database_url,
        "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
        "TASKAPP_CORS_ORIGINS": "https://other.example",
    }
    with server_process(short_folder / "bounded", settings=settings) as running:
        yield running.wait_until_ready()


@pytest.fixture(scope="module")
def stranger(server: ServerProcess) -> Visitor:
    """Somebody who has opened the login page."""
    return visit(exchange(server, make_request("GET", "/login")))


@pytest.fixture(scope="module")
def alice(server: ServerProcess, stranger: Visitor) -> Visitor:
    """Alice, logged in."""
    email = "alice-of-bounded-work@example.com"
    server.client().register(email)
    form = f"email={email}&password={PASSWORD}&csrf_token={stranger.csrf_token}"
    logged_in = exchange(server, make_request("POST", "/login", form, stranger.cookies))
    cookies = f"{stranger.cookies}; {visit(logged_in).cookies}"
    page = exchange(server, make_request("GET", "/tasks", cookies=cookies))
    return Visitor(cookies, visit(page).csrf_token)


def visit(response: bytes) -> Visitor:
    text = response.decode()
    tokens = re.findall(r'name="csrf_token" value="([^"]+)"', text)
    return Visitor("; ".join(re.findall("Set-Cookie: ([^;]+)", text)), (tokens or [""])[0])


def make_request(
    method: str, target: str, body: str = "", cookies: str = "", more: str = "", kind: str = FORM
) -> bytes:
    """Return a request whose text may be of any characters: UTF-8, unless it is escaped."""
    content = body.encode("utf-8", "surrogatepass")
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: {kind}\r\nContent-Length: {len(content)}\r\nCookie: {cookies}\r\n{more}\r\n"
    )
    return head.encode() + content


def exchange(server: ServerProcess, request: bytes) -> bytes:
    """Send bytes, and return what comes back until the connection is closed."""
    response = b""
    with (
        socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection,
        suppress(ConnectionError),  # it hung up before it had read everything
    ):
        connection.sendall(request)
        while part := connection.recv(65536):
            response += part
    return response


def cost(server: ServerProcess, request: bytes) -> float:
    """Return the seconds for which the event loop was busy with a request and one after it."""
    after_it = make_request("GET", "/api/health/live")
    before, _ = processor_seconds(server.pid)
    exchange(server, request)
    assert exchange(server, after_it).startswith(b"HTTP/1.1 200")
    return processor_seconds(server.pid)[0] - before


def costly(server: ServerProcess, requests: dict[str, bytes]) -> dict[str, str]:
    """Return those of the requests that cost too much whenever they are sent."""
    found = {}
    for name, request in requests.items():
        seconds = cost(server, request)
        for _ in range(SENT_AGAIN):
            if seconds > MAX_COST:
                seconds = min(seconds, cost(server, request))
        if seconds > MAX_COST:
            found[name] = f"{seconds * 1000:.0f} ms"
    return found


def fill(text: str, size: int) -> str:
    """Return a text as often as it fits into so many bytes."""
    return text * (size // len(text.encode()))


def fill_escaped(text: str, size: int) -> str:
    """Return a text as a form sends it, as often as it fits into so many bytes."""
    return fill(quote_plus(text), size)


def address_of(route: str) -> str:
    return route.replace(":id", NO_TASK)


def bodies(field: str, csrf_token: str, size: int) -> dict[str, str]:
    """Return a form for each hostile text in a field, escaped as browsers do, and as it is."""
    rest = "" if field == "csrf_token" else f"csrf_token={csrf_token}&"
    return {
        f"{name}, {how}": f"{rest}{field}={fill(sent, size - ROOM)}"
        for name, text in TEXTS.items()
        for sent, how in {quote_plus(text): "escaped", text: "as it is"}.items()
    }


def test_every_form_of_the_pages_is_among_those_that_are_tried() -> None:
    assert set(FIELDS) == {
        route
        for route, handler in ROUTES
        if issubclass(handler, PageHandler) and "POST" in handler.allowed_methods()
    }


@pytest.mark.parametrize("route", FIELDS)
def test_no_field_of_a_page_keeps_the_event_loop_busy(
    server: ServerProcess, route: str, stranger: Visitor, alice: Visitor
) -> None:
    handler = dict(ROUTES)[route]
    visitor = stranger if handler.is_public else alice
    for field in FIELDS[route]:
        size = min(SIZE, handler.max_body_size)
        requests = {
            name: make_request("POST", address_of(route), body, visitor.cookies)
            for name, body in bodies(field, visitor.csrf_token, size).items()
        }
        assert costly(server, requests) == {}, field


def test_no_form_without_a_session_keeps_the_event_loop_busy(
    server: ServerProcess, stranger: Visitor
) -> None:
    for field in ("title", "description", "titles"):
        requests = {
            f"{name}, {address}": make_request("POST", address, body, stranger.cookies)
            for address in ("/tasks", "/tasks/several", "/nothing", "/api/tasks", "/api/health")
            for name, body in bodies(field, stranger.csrf_token, SIZE).items()
        }
        assert costly(server, requests) == {}, field


@pytest.mark.parametrize(
    "route",
    [
        route
        for route, handler in ROUTES
        if issubclass(handler, ApiHandler)
        and handler.is_public
        and "POST" in handler.allowed_methods()
    ],
)
def test_no_json_keeps_the_event_loop_busy(server: ServerProcess, route: str) -> None:
    size = dict(ROUTES)[route].max_body_size
    assert size < MAX_BODY_SIZE
    for field in ("email", "password", "anything"):
        for longest in (size - ROOM, SIZE):
            values = {name: text_as_json(fill(text, longest)) for name, text in TEXTS.items()}
            values |= {name: value[:longest] for name, value in JSON_VALUES.items()}
            values |= {f"{name}, whole": value for name, value in whole_values(longest).items()}
            other = "password" if field == "email" else "email"
            requests = {
                name: make_request(
                    "POST", route, f'{{"{other}":"x","{field}":{value}}}', kind="application/json"
                )
                for name, value in values.items()
            }
            assert costly(server, requests) == {}, field


def text_as_json(text: str) -> str:
    escaped = re.sub(r'["\\\x00-\x1f]', lambda match: f"\\u{ord(match[0]):04x}", text)
    return f'"{escaped}"'


def whole_values(size: int) -> dict[str, str]:
    """Return valid JSON of many parts, of at most so many bytes."""
    return {
        "lists": "[" + ",".join(["[]"] * (size // 3)) + "]",
        "objects": "[" + ",".join(["{}"] * (size // 3)) + "]",
        "numbers": "[" + ",".join(["0"] * (size // 2)) + "]",
    }


@pytest.mark.parametrize("header", HEADERS)
def test_no_header_keeps_the_event_loop_busy(server: ServerProcess, header: str) -> None:
    requests = {
        f"{name}, {address}, {size}": make_request(
            "GET", address, more=f"{header}: {fill(text, size)}\r\n"
        )
        for address, size in (*((address, FITS) for address in ADDRESSES), (ADDRESSES[0], SIZE))
        for name, text in TEXTS.items()
    }
    assert costly(server, requests) == {}


def test_no_cookie_keeps_the_event_loop_busy(server: ServerProcess, alice: Visitor) -> None:
    start = alice.cookies.partition("csrf=")[0]  # of the names of our cookies
    assert start.startswith("taskapp-")
    requests = {
        f"{name}, {cookie}, {size}": make_request(
            "GET", "/login", cookies=f"{start}{cookie}={fill(text, size)}"
        )
        for cookie, size in (*((cookie, FITS) for cookie in COOKIE_AGES), ("session", SIZE))
        for name, text in TEXTS.items()
    }
    many = fill("; ", FITS), fill(";a", FITS)
    requests |= {
        text[:2]: make_request("GET", "/tasks", cookies=alice.cookies + text) for text in many
    }
    assert costly(server, requests) == {}


def test_no_address_keeps_the_event_loop_busy(server: ServerProcess, alice: Visitor) -> None:
    places = [*QUERIES, *(address_of(route).replace(":path", "") for route, _ in ROUTES)]
    requests = {
        f"{name}, {place}, {size}, {how}": make_request(
            "GET", place + filled(text, size), cookies=who
        )
        for place, size in (*((place, FITS) for place in places), (places[0], SIZE))
        for name, text in TEXTS.items()
        for how, filled, who in (("escaped", fill_escaped, alice.cookies), ("as it is", fill, ""))
    }
    assert costly(server, requests) == {}


def test_no_number_of_headers_keeps_the_event_loop_busy(server: ServerProcess) -> None:
    lines: dict[str, Callable[[int], str]] = {
        "short ones": lambda number: "a:\n",
        "names": lambda number: f"{number:x}:\n",
        "names of many parts": lambda number: "-" * 20 + f"{number}:\n",
    }
    requests = {}
    for name, line in lines.items():
        text, number = "", 0
        while len(text) < FITS:
            text, number = text + line(number), number + 1
        requests[name] = make_request("GET", "/login", more=text)
    assert costly(server, requests) == {}


@pytest.mark.parametrize("length", [1, 16])
def test_no_body_in_many_chunks_keeps_the_event_loop_busy(
    server: ServerProcess, length: int
) -> None:
    chunk = f"{length:x}\r\n{'a' * length}\r\n"
    head = "POST /login HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = {
        str(number): (head + chunk * number + "0\r\n\r\n").encode()
        for number in (MAX_CHUNKS, SIZE // length)
    }
    assert costly(server, chunks) == {}
