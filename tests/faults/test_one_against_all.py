"""While one client attacks, the ordinary requests of others are answered, none by an error."""

import asyncio
import json
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from statistics import quantiles

import pytest

from taskapp.runtime.listeners import allow_many_connections
from tests.support.server_process import (
    LONG_ENOUGH,
    PASSWORD,
    Client,
    ServerProcess,
    new_data_folder,
    server_process,
    wait_until,
)

ROUNDS = 15  # of ordinary requests during each attack
DEFAULT_LIMITS = {
    "TASKAPP_LOGIN_LIMIT": "5/15minute",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "1000/hour",
}
MALLORY = "mallory@example.com"


def write_request(method: str, path: str, body: str = "", token: str = "") -> bytes:
    content = body.encode()
    return (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {token}\r\nContent-Length: {len(content)}\r\n\r\n"
    ).encode() + content


def log_in_with(email: str, password: str = PASSWORD) -> bytes:
    body = json.dumps({"email": email, "password": password}, ensure_ascii=False)
    return write_request("POST", "/api/auth/login", body)


class Attacker:
    """A client with an address of its own, which does one thing without pause."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.ended_token = ""
        self.done = 0  # responses, or 1 when all connections that read none are open
        self.is_over = False

    async def connect(self, room: int | None = None) -> socket.socket:
        connection = socket.socket()
        connection.setblocking(False)
        if room:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        connection.bind(("127.0.0.2", 0))
        await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", self.port))
        return connection

    async def insist(self, request: bytes, connections: int) -> None:
        """Send a request again and again on so many connections."""
        await asyncio.gather(*(self._insist(request) for _ in range(connections)))

    async def _insist(self, request: bytes) -> None:
        while not self.is_over:
            reader, writer = await asyncio.open_connection(sock=await self.connect())
            with suppress(OSError, asyncio.IncompleteReadError):
                while not self.is_over:
                    writer.write(request)
                    head = await reader.readuntil(b"\r\n\r\n")
                    (length,) = (
                        int(line.partition(b":")[2])
                        for line in head.splitlines()
                        if line.lower().startswith(b"content-length:")
                    )
                    await reader.readexactly(length)
                    self.done += 1
            writer.close()

    async def hold(self, connections: int, request: bytes, room: int | None = None) -> None:
        """Open connections, send a request on each, and read nothing."""
        held = []
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            held.append(await self.connect(room))
            with suppress(OSError):
                await asyncio.wait_for(loop.sock_sendall(held[-1], request), 0.05)
        self.done = 1
        while not self.is_over:  # noqa: ASYNC110  # the test sets it in another thread
            await asyncio.sleep(0.05)
        for connection in held:
            connection.close()


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "an email address of 250 KB": lambda one: one.insist(
        log_in_with("a" + "\u0301\u0316" * 62_000 + "@b.cc"), 2
    ),
    "a password of 250 KB": lambda one: one.insist(log_in_with("a@b.cc", "\u0301" * 125_000), 2),
    "a JSON object of 30,000 names": lambda one: one.insist(
        write_request("POST", "/api/auth/login", json.dumps(dict.fromkeys(range(30_000), 0))), 2
    ),
    "long addresses": lambda one: one.insist(
        write_request("GET", "/tasks?" + "a" * 6_000, token="x"), 4
    ),
    "requests whose responses are not read": lambda one: one.hold(
        60, write_request("GET", "/login") * 300, room=2048
    ),
    "two thousand connections": lambda one: one.hold(2_000, b"GET / HTTP/1.1\r\n"),
    "right passwords": lambda one: one.insist(log_in_with(MALLORY), 32),
    "wrong passwords": lambda one: one.insist(log_in_with(MALLORY, "not it"), 32),
    "passwords of accounts that do not exist": lambda one: one.insist(
        log_in_with("nobody@example.com"), 32
    ),
    "the token of an ended session": lambda one: one.insist(
        write_request("GET", "/api/tasks", token=one.ended_token), 8
    ),
}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with new_data_folder() as folder, server_process(folder, settings=DEFAULT_LIMITS) as process:
        yield process.wait_until_ready()
        assert process.surprises() == []


@pytest.fixture(scope="module")
def alice(server: ServerProcess) -> Client:
    return server.client().sign_up("alice@example.com")


@pytest.fixture(scope="module")
def ended_token(server: ServerProcess) -> str:
    with server.client().sign_up(MALLORY) as client:
        assert client.send("POST", "/api/auth/logout").status == 200
        return client.token


@contextmanager
def attack(attacker: Attacker, name: str) -> Iterator[None]:
    """Attack while the block runs."""

    async def run() -> None:
        await ATTACKS[name](attacker)

    thread = threading.Thread(target=asyncio.run, args=[run()])
    thread.start()
    try:
        wait_until(lambda: attacker.done > 0)
        yield
    finally:
        attacker.is_over = True
        thread.join(LONG_ENOUGH)


@pytest.mark.parametrize("name", ATTACKS)
def test_during_an_attack_the_requests_of_others_succeed(
    server: ServerProcess, alice: Client, ended_token: str, name: str
) -> None:
    allow_many_connections()
    attacker = Attacker(int(server.address))
    attacker.ended_token = ended_token
    seconds: list[float] = []
    with attack(attacker, name):
        before = attacker.done
        for number in range(ROUNDS):
            with server.client() as visitor:
                responses = [
                    alice.send("GET", "/api/tasks?limit=10"),
                    alice.send("POST", "/api/tasks", {"title": f"{name}, {number}"}),
                    visitor.send("GET", "/login"),
                    visitor.send("GET", "/api/health/live"),
                ]
                if number % 5 == 0:
                    visitor.log_in("alice@example.com")
            assert [response.status for response in responses] == [200, 201, 200, 200]
            seconds += [response.seconds for response in responses]
        assert attacker.done > before or name.startswith(("requests whose", "two thousand"))
    p95 = quantiles(seconds, n=20)[-1]
    print(f"{name}: p95 {p95 * 1000:.0f} ms")  # noqa: T201  # with pytest -s
    assert {f"{name}, {number}" for number in range(ROUNDS)} <= {*alice.titles()}
