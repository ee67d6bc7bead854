"""Every connection is at any moment in one of four states, each with a deadline."""

import asyncio
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit
from weakref import WeakSet

import psycopg2
import pytest

from handlers.web.application import Application
from handlers.web.connections import ConnectionState
from handlers.web.http_server import LimitedHTTPServer
from handlers.web.request_stream import RequestStream
from taskapp.core.waiting import wait_until
from tests.support.api_tools import is_closed
from tests.support.clients import ApiClient
from tests.support.server_process import LONG_ENOUGH

pytestmark = pytest.mark.gen_test

STATES = ("IDLE_TIMEOUT", "BODY_TIMEOUT", "RESPONSE_TIMEOUT", "SENDING_TIMEOUT")
TIMEOUT = 1.0  # seconds in each state
MAX_UNSENT = 1_500_000  # bytes
GET = b"GET /login HTTP/1.1\r\nHost: localhost\r\n\r\n"
BODY_TO_COME = b"POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\nemail="
SENT: dict[str, bytes] = {
    "a request": GET,
    "half of the headers": GET[:20],
    "the other half": GET[20:],
    "half of a body": BODY_TO_COME,
    "the other half of the body": b"x" * 44,
    "a hundred requests": GET * 100,
    "a request that asks first": BODY_TO_COME.replace(
        b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n"
    ),
    "the last request": GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"),
    "nonsense": b"\0\r\n\r\n",
    "too many headers": b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000,
    "too large a body": BODY_TO_COME.replace(b"50", b"400000") + b"x" * 400_000,
    "nothing": b"",
}


@pytest.fixture
def timeout() -> float:
    """Return the seconds that a connection may stay in a state; a test may set others."""
    return TIMEOUT


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch, timeout: float) -> None:
    """Close connections sooner than the real server; what is made of the application reads it."""
    for name in STATES:
        monkeypatch.setattr(f"handlers.web.connections.{name}", timeout)
    monkeypatch.setattr("handlers.web.connections.MAX_UNSENT", MAX_UNSENT)


@pytest.fixture(autouse=True)
def streams(monkeypatch: pytest.MonkeyPatch) -> "WeakSet[RequestStream]":
    """Note every stream that the server opens."""
    opened: WeakSet[RequestStream] = WeakSet()

    class NotedStream(RequestStream):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            opened.add(self)

    monkeypatch.setattr("handlers.web.http_server.RequestStream", NotedStream)
    return opened


@pytest.fixture
def connect(
    http_server: LimitedHTTPServer, base_url: str
) -> Iterator[Callable[..., socket.socket]]:
    """Return a function that connects a client with little room for what it does not read."""
    opened = []

    def new(address: str = "127.0.0.1") -> socket.socket:
        client = socket.socket()
        client.bind((address, 0))
        opened.append(client)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(("127.0.0.1", urlsplit(base_url).port))
        return client

    yield new
    for client in opened:
        client.close()


async def happens(condition: Callable[[], object]) -> None:
    assert await wait_until(condition, LONG_ENOUGH, interval=0.01)


def assert_each_has_a_deadline(app: Application, streams: "WeakSet[RequestStream]") -> None:
    connections = app.connections
    still_open = {stream for stream in streams if not stream.closed()}
    assert set(connections.states) == still_open
    assert set(connections.deadlines) == still_open
    latest = asyncio.get_running_loop().time() + TIMEOUT
    assert all(deadline <= latest for deadline in connections.deadlines.values())
    assert 0 <= connections.unsent <= MAX_UNSENT


def send(client: socket.socket, content: bytes) -> None:
    with suppress(OSError):
        client.send(content)


def read(client: socket.socket) -> None:
    with suppress(OSError):
        while client.recv(65536):
            pass


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_clients_do_every_connection_has_a_state_and_a_deadline(
    app: Application, streams: "WeakSet[RequestStream]", connect: Any, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311  # the same steps each time
    clients: list[socket.socket] = []
    for _ in range(150):
        if len(clients) < 3 or chance.random() < 0.2:
            clients.append(connect())
        client = chance.choice(clients)
        action = chance.choice([*SENT, "read", "hang up", "send no more"])
        if action == "read":
            read(client)
        elif action == "hang up":
            client.close()
            clients.remove(client)
        elif action == "send no more":
            with suppress(OSError):
                client.shutdown(socket.SHUT_WR)
        else:
            send(client, SENT[action])
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
            assert_each_has_a_deadline(app, streams)
    deaf = connect()
    send(deaf, SENT["a hundred requests"])
    await happens(lambda: ConnectionState.SENT in app.connections.states.values())
    assert_each_has_a_deadline(app, streams)
    # From here on nobody sends or reads anything.
    await happens(lambda: not app.connections.states)
    assert_each_has_a_deadline(app, streams)
    assert app.connections.unsent == 0


@pytest.mark.parametrize(
    ("sent", "state"),
    [
        (b"", ConnectionState.AWAITED),
        (GET[:20], ConnectionState.AWAITED),
        (BODY_TO_COME, ConnectionState.RECEIVED),
        (GET * 100, ConnectionState.SENT),
    ],
)
async def test_a_connection_that_stays_in_its_state_is_closed(
    app: Application, connect: Any, sent: bytes, state: ConnectionState
) -> None:
    client = connect()
    await happens(lambda: app.connections.states)
    send(client, sent)
    await happens(lambda: state in app.connections.states.values())
    await happens(lambda: not app.connections.states)
    await happens(lambda: is_closed(client))


async def test_a_response_that_takes_too_long_is_not_waited_for(
    app: Application, alice: ApiClient, connect: Any, database_url: str
) -> None:
    await happens(lambda: not app.connections.states)
    authorization = f"Authorization: Bearer {alice.headers['Authorization'].split()[1]}\r\n\r\n"
    request = f"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\n{authorization}".encode()
    with psycopg2.connect(database_url) as other, other.cursor() as cursor:
        cursor.execute("LOCK TABLE tasks")
        client = connect()
        await happens(lambda: app.connections.states)
        send(client, request)
        await happens(lambda: ConnectionState.ANSWERED in app.connections.states.values())
        await happens(lambda: not app.connections.states)
        assert is_closed(client)
        other.rollback()
    other.close()
    await happens(lambda: app.in_flight == 0)


async def test_responses_that_are_not_read_are_limited_for_all_together(
    app: Application, alice: ApiClient, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        await alice.add_task(f"Task {number}", description="x" * 10_000)
    authorization = f"Authorization: {alice.headers['Authorization']}\r\n\r\n"
    request = f"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\n{authorization}".encode()
    deaf = [connect() for _ in range(10)]
    for client in deaf:
        await asyncio.sleep(0.01)
        send(client, request)
    most = 0
    while app.connections.states:
        most = max(most, app.connections.unsent)
        assert app.connections.unsent <= MAX_UNSENT
        await asyncio.sleep(0)
    assert most > MAX_UNSENT / 2
    # Whoever reads gets the whole response while there is room for it.
    for client in [connect() for _ in range(2)]:
        send(client, request)
    response = await alice.get("/api/tasks")
    assert len(response.json["tasks"]) == 50


@pytest.mark.parametrize("timeout", [10 * LONG_ENOUGH])
async def test_who_leaves_most_of_the_responses_loses_connections_before_others_do(
    app: Application, alice: ApiClient, connect: Any, streams: "WeakSet[RequestStream]"
) -> None:
    """Bob, on a slow line, has waited the longest when one address leaves all responses unread."""
    for number in range(50):
        await alice.add_task(f"Task {number}", description="x" * 10_000)
    await happens(lambda: not app.connections.states)
    authorization = f"Authorization: {alice.headers['Authorization']}\r\n\r\n"
    request = f"GET /api/tasks HTTP/1.1\r\nHost: localhost\r\n{authorization}".encode()
    bob = connect("127.0.0.2")
    await happens(lambda: app.connections.states)
    [bobs] = [stream for stream in streams if not stream.closed()]
    send(bob, request)
    await happens(lambda: ConnectionState.SENT in app.connections.states.values())
    # No deadline closes a connection: what does is that too much is not taken.
    left = app.connections.deadlines[bobs] - asyncio.get_running_loop().time()
    assert left > LONG_ENOUGH
    deaf = [connect() for _ in range(10)]
    for client in deaf:
        await asyncio.sleep(0.01)
        send(client, request)
    await happens(lambda: any(is_closed(client) for client in deaf))
    assert not bobs.closed()
    assert app.connections.unsent <= MAX_UNSENT
