"""Rejected before a handler is called: malformed, too large, too slow, too many connections."""

import json
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import pytest

from handlers.web.connections import IDLE_TIMEOUT
from handlers.web.request_stream import MAX_LINGERING
from handlers.web.safe_headers import CSP_NOTHING, HSTS, SAFE_HEADERS
from taskapp.runtime.listeners import OTHER_FILES
from tests.support.api_tools import is_closed
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    Client,
    ServerProcess,
    server_process,
    wait_until,
)

HOST = b"Host: localhost\r\n"
HASTY = 1.0  # seconds, where the real server waits 30 or 75
CONSTANTS = {
    "IDLE_TIMEOUT": "handlers.web.connections",
    "MAX_CONNECTIONS": "handlers.web_server",
    "BODY_TIMEOUT": "handlers.web.connections",
    "SENDING_TIMEOUT": "handlers.web.connections",
}
MALFORMED = {
    "no request line": b"\r\n\r\n",
    "half of a request line": b"GET\r\n\r\n",
    "a version that there is not": b"GET / HTTP/9.9\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 2\r\n\r\na",
    "a length that is negative": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n",
    "a length that is no number": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: %s\r\n\r\n" % (b"9" * 4301),
    "a length and chunks": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "chunks in HTTP/1.0": b"POST /api/tasks HTTP/1.0\r\n"
    + HOST
    + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a chunk that is none": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk with an endless length": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n"
    + b"1" * 100,
    "an absolute address without a host": b"GET http:///login HTTP/1.1\r\n" + HOST + b"\r\n",
    "an absolute address with a password": b"GET http://a:b@localhost/ HTTP/1.1\r\n"
    + HOST
    + b"\r\n",
    "an absolute address alone": b"GET http://localhost/login HTTP/1.1\r\n\r\n",
    "a folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n\tb\x00\r\n\r\n",
    "a header without a name": b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "101 parameters": b"GET /tasks?" + b"a=b&" * 101 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
}
TOO_LARGE = {
    "20 KB of headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 20_000 + b"\r\n\r\n",
    "5,000 headers": b"GET / HTTP/1.1\r\n" + HOST + b"a: \r\n" * 5_000 + b"\r\n",
    "an endless address": b"GET /" + b"a" * 20_000,
    "a megabyte of headers": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"y" * 2**20 + b"\r\n\r\n",
    "the headers of a second request": b"GET /robots.txt HTTP/1.1\r\n"
    + HOST
    + b"\r\nGET / HTTP/1.1\r\nX: "
    + b"y" * 20_000,
}
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(short_folder: Path, database_url: str) -> Iterator[ServerProcess]:
    """A server behind https, which logs all that it can."""
    settings = {
        "TASKAPP_DATABASE_URL": database_url,
        "TASKAPP_PUBLIC_URL": "https://tasks.example.com",
        "TASKAPP_LOG_LEVEL": "debug",
    }
    with server_process(short_folder / "refusals", settings=settings) as running:
        yield running.wait_until_ready()


def with_constants(**constants: float) -> list[str]:
    """Return the command that runs `server.py` with other values of some constants."""
    changed = "".join(
        "import {0}; {0}.{1}; {0}.{1} = {2}; ".format(CONSTANTS[name], name, value)
        for name, value in constants.items()
    )
    code = f"import sys, server; del sys.argv[1]; {changed}server.cli()"
    return [sys.executable, "-W", "error", "-c", code]


def exchange(server: ServerProcess, sent: bytes) -> bytes:
    """Send bytes, and return all that comes back until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        connection.sendall(sent)
        return receive(connection)


def receive(connection: socket.socket) -> bytes:
    response = b""
    while part := connection.recv(65536):
        response += part
    return response


def read(response: bytes) -> tuple[int, dict[str, str], dict[str, object]]:
    """Return the status, the headers and the problem document of a response."""
    head, _, body = response.partition(b"\r\n\r\n")
    first, *lines = head.decode("ascii").split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert int(headers["Content-Length"]) == len(body)
    return int(first.split()[1]), headers, json.loads(body)


def assert_refused(response: bytes, status: int) -> dict[str, str]:
    """Check that a response is a problem with all security headers, and return its headers."""
    found, headers, problem = read(response)
    assert found == problem["status"] == status
    assert headers["Content-Type"] == "application/problem+json"
    assert problem["requestId"] == headers["X-Request-ID"]
    assert headers["Strict-Transport-Security"] == HSTS
    assert headers["Content-Security-Policy"] == CSP_NOTHING
    assert dict(SAFE_HEADERS).items() <= headers.items()
    assert headers["Connection"] == "close"
    assert "Server" not in headers
    return headers


@pytest.mark.parametrize("sent", MALFORMED.values(), ids=MALFORMED.keys())
def test_what_cannot_be_parsed_is_refused_in_the_one_shape_and_logged(
    server: ServerProcess, sent: bytes
) -> None:
    headers = assert_refused(exchange(server, sent), 400)
    lines = [line for line in server.log if line.get("requestId") == headers["X-Request-ID"]]
    assert [(line["event"], line["status"]) for line in lines] == [("request.refused", 400)]
    assert server.surprises() == []


@pytest.mark.parametrize("sent", TOO_LARGE.values(), ids=TOO_LARGE.keys())
def test_headers_that_are_too_large_are_refused_as_such(server: ServerProcess, sent: bytes) -> None:
    response = exchange(server, sent)
    assert_refused(b"HTTP/1.1" + response.rpartition(b"HTTP/1.1")[2], 431)
    assert server.surprises() == []


@pytest.mark.parametrize(
    "sent",
    [
        b"\x05\x01\x00",  # SOCKS 5
        b"\x03\x00\x00\x13\x0e\xe0",  # RDP
        b"\x80\x2e\x01\x00\x02",  # SSL 2
        b"\x00\x00\x00\x08\x04\xd2\x16\x2f",  # PostgreSQL, asking for TLS
        *(
            bytes([first])
            for first in (*range(10), *range(14, 33), *b'"(),/:;<=>?@[\\]{}', 127, 255)
        ),
    ],
)
def test_what_is_no_http_is_refused_at_its_first_byte(server: ServerProcess, sent: bytes) -> None:
    started = time.monotonic()
    assert_refused(exchange(server, sent), 400)
    assert time.monotonic() - started < IDLE_TIMEOUT


def test_a_tls_client_fails_at_once(server: ServerProcess) -> None:
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        context = ssl.create_default_context()
        with pytest.raises(ssl.SSLError):
            context.wrap_socket(connection, server_hostname="localhost")
    assert time.monotonic() - started < IDLE_TIMEOUT


@pytest.mark.parametrize(
    ("target", "host", "path", "status"),
    [
        ("http://localhost/login", "localhost", "/login", 200),
        ("HTTP://localhost:8000/login?next=/account", "localhost", "/login?next=/account", 200),
        ("https://tasks.example.com/login", "elsewhere.example", "/login", 200),
        ("http://localhost", "localhost", "/", 303),
        ("http://localhost/tasks?status=pending", "localhost", "/tasks?status=pending", 303),
        ("http://[::1]:8000/robots.txt", "localhost", "/robots.txt", 200),
        ("http://localhost/http://localhost/login", "localhost", "/http://localhost/login", 404),
    ],
)
def test_an_absolute_address_is_taken_as_its_path(
    server: ServerProcess, target: str, host: str, path: str, status: int
) -> None:
    of_target = head_of_response(server, target, host)
    assert of_target.startswith(f"HTTP/1.1 {status} ")
    assert location_in(of_target) == location_in(head_of_response(server, path, "localhost"))


@pytest.mark.parametrize("target", ["ftp://localhost/login", "localhost/login"])
def test_an_address_of_another_kind_is_not_found(server: ServerProcess, target: str) -> None:
    assert head_of_response(server, target, "localhost").startswith("HTTP/1.1 404 ")


def head_of_response(server: ServerProcess, target: str, host: str) -> str:
    request = f"GET {target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    return exchange(server, request.encode()).partition(b"\r\n\r\n")[0].decode()


def location_in(head: str) -> str | None:
    match = re.search(r"\r\nLocation: ([^\r]*)", head)
    return match and match[1]


def test_the_host_of_an_absolute_address_counts_and_not_the_header(server: ServerProcess) -> None:
    login = server.client().send("GET", "/login")
    cookie = login.headers["Set-Cookie"].partition(";")[0]
    match = re.search(rb'name="csrf_token" value="([^"]+)"', login.body)
    assert match
    form = urlencode({"csrf_token": match[1].decode(), "theme": "dark", "next": "/login"})
    for target, host, status in [
        ("/theme", "localhost", 303),
        ("/theme", "tasks.example.com", 403),
        ("https://localhost/theme", "tasks.example.com", 303),
        ("https://tasks.example.com/theme", "localhost", 403),
    ]:
        lines = [
            f"POST {target} HTTP/1.1",
            f"Host: {host}",
            "Origin: https://localhost",
            f"Cookie: {cookie}",
            "Content-Type: application/x-www-form-urlencoded",
            f"Content-Length: {len(form)}",
            "Connection: close",
        ]
        response = exchange(server, "\r\n".join([*lines, "", form]).encode())
        assert response.startswith(b"HTTP/1.1 %d " % status), (target, host)


# Bodies that are too large


def begin_upload(size: int, *headers: str) -> bytes:
    lines = [
        "POST /api/tasks HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {size}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def assert_too_large(response: bytes) -> None:
    assert b"100 (Continue)" not in response
    status, headers, problem = read(response)
    assert (status, problem["status"]) == (413, 413)
    assert headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("expect", ["100-continue", "100-Continue"])
@pytest.mark.parametrize("size", [256 * 1024 + 1, MIB, 64 * MIB, 65 * MIB, 10**13, 10**4299])
def test_a_body_that_is_too_large_is_not_invited(
    server: ServerProcess, size: int, expect: str
) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    assert_too_large(exchange(server, begin_upload(size, f"Expect: {expect}") + smuggled))
    assert server.surprises() == []


def test_a_body_that_fits_is_invited(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        connection.sendall(begin_upload(2, "Expect: 100-continue", "Connection: close"))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100 ")
        connection.sendall(b"{}")
        assert receive(connection).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("size", [256 * 1024 + 1, MIB, 63 * MIB, 65 * MIB, 100 * MIB])
def test_a_body_that_is_too_large_is_refused_as_such_whatever_its_size(
    server: ServerProcess, size: int
) -> None:
    body = bytes(size)
    assert_too_large(exchange(server, begin_upload(size, "Connection: close") + body))
    with server.client() as client:
        response = client.send_form("POST", "/login", "a=" + "b" * size)
        assert response.status == 413
    assert server.surprises() == []


def test_a_body_in_chunks_is_refused_as_such_whatever_its_size(server: ServerProcess) -> None:
    head = b"POST /api/tasks HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n"
    chunk = b"100000\r\n" + bytes(MIB) + b"\r\n"
    for count, more in [(1, b"Connection: close\r\n\r\n"), (66, b"\r\n")]:
        assert_too_large(exchange(server, head + more + count * chunk + b"0\r\n\r\n"))
    assert server.surprises() == []


def test_an_endless_body_is_refused_before_its_end(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        connection.sendall(begin_upload(10**13))
        connection.sendall(bytes(MIB))
        assert_too_large(receive(connection))


def test_sockets_that_linger_are_few_and_end_with_the_server(
    short_folder: Path, database_url: str
) -> None:
    settings = {"TASKAPP_DATABASE_URL": database_url}
    with server_process(short_folder / "lingering", settings=settings) as server:
        server.wait_until_ready()
        address = ("127.0.0.1", int(server.address))
        clients = [socket.create_connection(address, LONG_ENOUGH) for _ in range(3 * MAX_LINGERING)]
        for client in clients:
            client.sendall(b"\0")
            assert receive(client).startswith(b"HTTP/1.1 400 ")
        assert server.end() == 0
        for client in clients:
            client.close()
        assert server.surprises() == []
        assert server.log_text.count("Warning") == 0


@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("application/x-www-form-urlencoded", "a=b&" * 101),
        ("multipart/form-data; boundary=x", "--x--\r\n"),
    ],
)
def test_forms_that_no_page_sends_are_refused_by_their_address(
    server: ServerProcess, kind: str, form: str
) -> None:
    for path, shown in [("/login", "text/html"), ("/api/tasks", "application/problem+json")]:
        connection = server.client().connected()
        connection.request("POST", path, form, {"Content-Type": kind})
        response = connection.getresponse()
        assert response.status == 400
        assert (response.headers["Content-Type"] or "").startswith(shown)
    assert server.surprises() == []


def test_a_refusal_says_nothing_of_what_was_sent(server: ServerProcess) -> None:
    for sent in [
        b"GET /canary HTTP/1.1\r\nCookie: canary\x00\r\n\r\n",
        b"canary\r\n\r\n",
        b"POST /canary HTTP/1.1\r\n" + HOST + b"Content-Length: canary\r\n\r\n",
    ]:
        assert b"canary" not in exchange(server, sent)
    assert "canary" not in server.log_text


def test_two_requests_are_never_made_of_one(server: ServerProcess) -> None:
    smuggled = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\n"
    for framing in [
        b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % len(smuggled),
        b"Content-Length: +0\r\n\r\n",
        b"Content-Length: 0x0\r\n\r\n",
    ]:
        response = exchange(server, b"POST /login HTTP/1.1\r\n" + HOST + framing + smuggled)
        assert_refused(response, 400)


# Slow clients


@pytest.fixture(scope="module")
def hasty_server(short_folder: Path, database_url: str) -> Iterator[ServerProcess]:
    settings = {"TASKAPP_DATABASE_URL": database_url}
    hasty = with_constants(IDLE_TIMEOUT=HASTY, BODY_TIMEOUT=HASTY, SENDING_TIMEOUT=HASTY)
    with server_process(short_folder / "hasty", settings=settings, launcher=hasty) as running:
        yield running.wait_until_ready()


SLOW = {
    "headers": b"GET /login HTTP/1.1\r\nX-Slow: ",
    "a body": b"POST /login HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nemail=",
    "chunks": b"POST /login HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
    "nothing at all": b"",
    "a second request": b"GET /login HTTP/1.1\r\n" + HOST + b"\r\nGET /",
}


@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW.keys())
def test_others_are_served_while_slow_clients_stay_connected(
    server: ServerProcess, beginning: bytes
) -> None:
    with slow_clients(server, beginning) as slow:
        statuses = [server.client().status("/login") for _ in range(20)]
        assert statuses == [200] * 20
        assert not any(is_closed(connection) for connection in slow)
    assert server.surprises() == []


@pytest.mark.parametrize("beginning", SLOW.values(), ids=SLOW.keys())
def test_whoever_is_slow_is_hung_up_on(hasty_server: ServerProcess, beginning: bytes) -> None:
    with slow_clients(hasty_server, beginning) as slow:
        wait_until(lambda: all(is_closed(connection) for connection in slow))
    assert hasty_server.surprises() == []


@contextmanager
def slow_clients(server: ServerProcess, beginning: bytes) -> Iterator[list[socket.socket]]:
    """Yield 100 connections that have begun a request, and go on with it slowly."""
    address = ("127.0.0.1", int(server.address))
    slow = [socket.create_connection(address, LONG_ENOUGH) for _ in range(100)]
    stopped = threading.Event()
    feeder = threading.Thread(target=feed, args=(slow, stopped, beginning != b""))
    try:
        for connection in slow:
            connection.sendall(beginning)
        feeder.start()
        yield slow
    finally:
        stopped.set()
        if feeder.ident is not None:
            feeder.join()
        for connection in slow:
            connection.close()


def test_whoever_never_reads_is_hung_up_on_and_keeps_nobody_waiting(
    hasty_server: ServerProcess,
) -> None:
    many = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n" * 300
    before = number_of_descriptors(hasty_server)
    deaf = [socket.socket() for _ in range(100)]
    try:
        for connection in deaf:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            connection.settimeout(LONG_ENOUGH)
            connection.connect(("127.0.0.1", int(hasty_server.address)))
            connection.setblocking(False)
            connection.send(many)
        wait_until(lambda: number_of_descriptors(hasty_server) >= before + len(deaf))
        took = [hasty_server.client().send("GET", "/login").seconds for _ in range(50)]
        assert max(took) < HASTY
        wait_until(lambda: number_of_descriptors(hasty_server) <= before)
        closed = [line for line in hasty_server.log if line["event"] == "connection.closed"]
        assert "sent" in {line["state"] for line in closed}
    finally:
        for connection in deaf:
            connection.close()
    assert hasty_server.surprises() == []


def number_of_descriptors(server: ServerProcess) -> int:
    return len([*Path(f"/proc/{server.pid}/fd").iterdir()])


def feed(connections: list[socket.socket], stopped: threading.Event, is_wanted: bool) -> None:
    """Send one byte on each connection every 0.2 seconds, as slow attacks do."""
    while is_wanted and not stopped.wait(0.2):
        for connection in connections:
            try:
                connection.send(b"1")
            except OSError:
                return


# Many connections


def test_a_connection_more_than_there_is_room_for_is_turned_away_with_words(
    short_folder: Path, database_url: str
) -> None:
    settings = {
        "TASKAPP_DATABASE_URL": database_url,
        "TASKAPP_PUBLIC_URL": "https://tasks.example.com",
        "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
    }
    small = with_constants(MAX_CONNECTIONS=20)
    with server_process(short_folder / "small", settings=settings, launcher=small) as server:
        server.wait_until_ready()
        clients = [server.client() for _ in range(20)]
        for client in clients:
            wait_until(partial(is_alive, client))  # the one that saw it ready may still hang on
        assert int(assert_refused(exchange(server, b""), 503)["Retry-After"]) >= 1
        assert all(is_alive(client) for client in clients)
        clients[0].close()
        wait_until(partial(is_alive, server.client()))
        assert server.surprises() == []


def test_one_client_gets_a_quarter_of_the_connections_and_others_find_room(
    short_folder: Path, database_url: str
) -> None:
    settings = {
        "TASKAPP_DATABASE_URL": database_url,
        "TASKAPP_PUBLIC_URL": "https://tasks.example.com",
    }
    small = with_constants(MAX_CONNECTIONS=80)
    with (
        server_process(short_folder / "quarter", settings=settings, launcher=small) as server,
        ExitStack() as opened,
    ):
        server.wait_until_ready()

        def connect(address: str) -> socket.socket:
            """Connect from an address, and return the connection."""
            place = ("127.0.0.1", int(server.address))
            connection = socket.create_connection(place, LONG_ENOUGH, (address, 0))
            return opened.enter_context(connection)

        def is_served(address: str) -> bool:
            connection = connect(address)
            connection.sendall(b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
            return connection.recv(16).startswith(b"HTTP/1.1 200 ")

        taken = [is_served("127.0.0.2") for _ in range(80)]
        assert taken == [True] * 20 + [False] * 60
        for other in ("127.0.0.3", "127.0.0.4"):
            assert all(is_served(other) for _ in range(20))
        assert is_alive(server.client())
        opened.close()
        wait_until(partial(is_served, "127.0.0.2"))
        assert server.surprises() == []


def is_alive(client: Client) -> bool:
    return client.status("/api/health/live") == 200


@pytest.mark.parametrize(
    ("limit", "most", "room"),
    [
        (1024, 4096, 1900),
        (1024, 1024, 1024 - 10 - OTHER_FILES),  # as many as there is room for
        (90, 90, 16),
    ],
)
def test_the_bound_fits_the_limit_of_open_files(limit: int, most: int, room: int) -> None:
    program = (
        "import resource\n"
        f"resource.setrlimit(resource.RLIMIT_NOFILE, ({limit}, {most}))\n"
        "from taskapp.runtime.listeners import room_for_connections\n"
        "print(room_for_connections(1900, 10))"
    )
    asked = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=CHECKOUT
    )
    assert int(asked.stdout) == room
