"""Requests are read from a connection in any pieces in which the network delivers them."""

import io
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import psycopg2
import pytest

from handlers.web.http_server import READ_SIZE
from tests.support.server_process import LONG_ENOUGH, ServerProcess, server_process

ALICE = "alice-who-pipelines@example.com"
SIZES = (1, READ_SIZE - 1, READ_SIZE, READ_SIZE + 1, 2 * READ_SIZE, 3 * READ_SIZE)


@pytest.fixture(scope="module")
def server(short_folder: Path, database_url: str) -> Iterator[ServerProcess]:
    """A server on a port of its own."""
    settings = {"TASKAPP_DATABASE_URL": database_url}
    with server_process(short_folder / "pieces", settings=settings) as running:
        yield running.wait_until_ready()


def test_pipelined_requests_are_answered_in_order(
    server: ServerProcess,
) -> None:
    names = [f"request-{number}" for number in range(40)]
    requests = [make_request(name, b"x" * number * 500) for number, name in enumerate(names)]
    assert answered(server, [b"".join(requests)], len(names)) == names


@pytest.mark.parametrize("size", SIZES)
def test_a_request_is_read_wherever_it_is_cut(server: ServerProcess, size: int) -> None:
    for length in SIZES:
        whole = make_request("cut", b"x" * length)
        pieces = [whole[begin:end] for begin, end in pairwise([0, size, 2 * size, len(whole)])]
        assert answered(server, pieces, 1) == ["cut"]


def test_what_follows_the_last_request_of_a_connection_is_not_carried_out(
    server: ServerProcess,
) -> None:
    alice = server.client()
    alice.register(ALICE)
    alice.log_in(ALICE)
    body = b'{"title":"After the end"}'
    head = (
        "POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {alice.token}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    last = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for requests in (last + (head.encode() + body) * 3, last * 2 + head.encode() + body):
        with socket.create_connection(
            ("127.0.0.1", int(server.address)), LONG_ENOUGH
        ) as connection:
            connection.sendall(requests)
            with connection.makefile("rb") as response:
                assert response.read().count(b"HTTP/1.1 200") == 1
    assert alice.send("GET", "/api/tasks").json["tasks"] == []


END = b"X-Request-ID: the-last\r\n\r\n"
LIVE = b"GET /api/health/live HTTP/1.1\r\nHost: localhost\r\n"
PAGE = LIVE.replace(b"/api/health/live", b"/login")
POST = LIVE.replace(b"GET /api/health/live", b"POST /api/auth/register")


@pytest.mark.parametrize(
    ("sent", "responses"),
    [
        (LIVE + END, 1),
        (PAGE + END, 1),
        ((PAGE + END) * 50, 50),
        (POST + b"Content-Length: 4\r\n" + END + b"null", 1),
        (POST + b"Content-Length: 4\r\n" + END + b"nul", 0),  # the end is in the middle
        (POST + b"Transfer-Encoding: chunked\r\n" + END + b"4\r\nnull", 0),
        (LIVE, 0),
        (b"", 0),
    ],
)
def test_whoever_sends_no_more_gets_the_responses_to_whole_requests_and_holds_no_place(
    server: ServerProcess, sent: bytes, responses: int
) -> None:
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with connection.makefile("rb") as response:
            content = response.read()  # until the server closes
    assert content.count(b"HTTP/1.1 ") == content.count(b": the-last") == responses


def test_whoever_sends_no_more_waits_for_the_database_like_others(
    server: ServerProcess, database_url: str
) -> None:
    alice = server.client()
    alice.register("alice-who-sends-no-more@example.com")
    alice.log_in("alice-who-sends-no-more@example.com")
    for _ in range(20):
        alice.send("POST", "/api/tasks", {"title": "Long", "description": "x" * 10_000})
    request = LIVE.replace(b"/api/health/live", b"/api/tasks") + (
        f"Authorization: Bearer {alice.token}\r\n\r\n".encode()
    )
    with (
        closing(psycopg2.connect(database_url)) as other,
        other.cursor() as cursor,
        socket.socket() as connection,
    ):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # less than the response
        connection.settimeout(LONG_ENOUGH)
        connection.connect(("127.0.0.1", int(server.address)))
        cursor.execute("LOCK TABLE tasks")
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        time.sleep(0.2)  # the server sees the end while it waits
        other.rollback()
        with connection.makefile("rb") as response:
            content = response.read()
    assert content.startswith(b"HTTP/1.1 200 ")
    assert content.count(b'"title":"Long"') == 20


def make_request(name: str, body: bytes) -> bytes:
    """Return a request that is rejected only after its whole body was read."""
    head = f"POST /api/tasks HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {name}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def answered(server: ServerProcess, pieces: list[bytes], number: int) -> list[str]:
    """Send pieces one by one, and return the names of as many requests as were answered."""
    with socket.create_connection(("127.0.0.1", int(server.address)), LONG_ENOUGH) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            connection.sendall(piece)
        with connection.makefile("rb") as response:
            return [read_name(response) for _ in range(number)]


def read_name(response: io.BufferedIOBase) -> str:
    """Read one response, and return the name of its request."""
    headers = {}
    assert response.readline() == b"HTTP/1.1 401 Unauthorized\r\n"
    while (line := response.readline()) != b"\r\n":
        name, _, value = line.decode().partition(": ")
        headers[name] = value.strip()
    response.read(int(headers["Content-Length"]))
    return headers["X-Request-Id"]
