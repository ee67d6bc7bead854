"""While some log in without pause, the others log in too; who hangs up is not waited for."""

import asyncio
import json
import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient

from handlers.web.base import PROBE_INTERVAL
from taskapp.config.settings import Settings
from taskapp.core.waiting import wait_until
from tests.support.api_tools import Running, at_once, running
from tests.support.clients import ApiClient, Response
from tests.support.page_client import PASSWORD
from tests.support.server_process import LONG_ENOUGH

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

WRONG = "not " + PASSWORD
LOGIN = "/api/auth/login"
CONNECTIONS = 32  # of those who flood
LOGINS = 100  # of others
AT_ONCE = 10
USERS = 10
SERVER = {"TASKAPP_TRUSTED_PROXIES": "127.0.0.1", "TASKAPP_BCRYPT_ROUNDS": "6"}
DEFAULT_LIMITS = {
    "TASKAPP_LOGIN_LIMIT": "5/15minute",
    "TASKAPP_ACCOUNT_LOGIN_LIMIT": "20/hour",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "60/hour",
}


def user(number: int) -> dict[str, str]:
    return {"email": f"user{number}@example.com", "password": PASSWORD}


async def log_in(client: ApiClient, address: str, sent: dict[str, str]) -> Response:
    return await client.post(LOGIN, sent, headers={"X-Forwarded-For": address})


@asynccontextmanager
async def flood(
    server: Running, addresses: int, sent: dict[str, str]
) -> AsyncIterator[Counter[int]]:
    """Log in without pause from so many addresses; yield the statuses of the responses."""
    statuses: Counter[int] = Counter()
    http_client = AsyncHTTPClient(force_instance=True, max_clients=CONNECTIONS)
    client = ApiClient(http_client, server.client.base_url)
    is_over = False

    async def insist(address: str) -> None:
        while not is_over:
            statuses[(await log_in(client, address, sent)).status] += 1

    tasks = [
        asyncio.create_task(insist(f"203.0.113.{number % addresses}"))
        for number in range(CONNECTIONS)
    ]
    try:
        assert await wait_until(lambda: statuses.total() >= CONNECTIONS, LONG_ENOUGH, interval=0.01)
        yield statuses
    finally:
        is_over = True
        await asyncio.gather(*tasks)
        http_client.close()


@pytest.mark.parametrize(
    ("addresses", "password", "limits"),
    [
        (1, WRONG, {}),
        (10, PASSWORD, {}),
        (1, PASSWORD, DEFAULT_LIMITS),
        (10, WRONG, DEFAULT_LIMITS),
    ],
)
async def test_beside_a_flood_of_logins_all_logins_of_others_succeed(
    settings: Settings, addresses: int, password: str, limits: dict[str, str]
) -> None:
    async with running(settings, **SERVER, **limits) as server:
        for number in range(USERS + 1):
            assert (await server.client.post("/api/auth/register", user(number))).status == 201
        mallory = user(USERS) | {"password": password}
        async with flood(server, addresses, mallory) as flooding:
            before = Counter(flooding)
            responses: list[Response] = []
            for first in range(0, LOGINS, AT_ONCE):
                responses += await at_once(
                    log_in(server.client, f"198.51.100.{number}", user(number % USERS))
                    for number in range(first, first + AT_ONCE)
                )
            meanwhile = flooding - before
    assert {response.status for response in responses} == {200}
    # Nobody waits for more than a turn of each address that is flooding.
    turns = meanwhile[200] + meanwhile[401]
    assert turns <= (addresses + 2) * LOGINS


@asynccontextmanager
async def every_turn_taken(server: Running) -> AsyncIterator[None]:
    """Let nobody else begin a turn in the queue for passwords within the block."""
    is_over = asyncio.Event()

    async def hold(number: int) -> None:
        queue = server.services.passwords.queue
        async with queue.turn(f"client {number}", f"account {number}", is_known=False):
            await is_over.wait()

    tasks = [asyncio.create_task(hold(number)) for number in range(len(os.sched_getaffinity(0)))]
    try:
        yield
    finally:
        is_over.set()
        await asyncio.gather(*tasks)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_client_that_only_sends_no_more_waits_for_its_turn_and_gets_its_response(
    settings: Settings, version: str
) -> None:
    async with running(settings, TASKAPP_BCRYPT_ROUNDS="10") as server:
        await server.client.post("/api/auth/register", user(0))
        parts = urlsplit(server.client.base_url)
        body = json.dumps(user(0)).encode()
        request = (
            f"POST /api/auth/login HTTP/{version}\r\nHost: localhost\r\nConnection: close\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        async with every_turn_taken(server):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(request.encode() + body)
            writer.write_eof()
            queue = server.services.passwords.queue
            assert await wait_until(
                lambda: any(map(queue.is_waiting, asyncio.all_tasks())), LONG_ENOUGH, interval=0.01
            )
            if version == "1.1":
                assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            await asyncio.sleep(3 * PROBE_INTERVAL)
        response = await reader.read()
        assert response.startswith(b"HTTP/1.1 200 OK\r\n"), response
        assert b'"token"' in response
        writer.close()


async def test_whoever_hangs_up_gives_up_the_place_in_the_queue(settings: Settings) -> None:
    async with running(settings, TASKAPP_BCRYPT_ROUNDS="12") as server:
        await server.client.post("/api/auth/register", user(0))
        passwords = server.services.passwords
        asked: list[str] = []
        matches = passwords.matches

        async def record(password: str, password_hash: str | None) -> bool:
            asked.append(password)
            return await matches(password, password_hash)

        passwords.matches = record  # type: ignore[method-assign]  # the real one runs as well
        parts = urlsplit(server.client.base_url)
        streams = [await asyncio.open_connection(parts.hostname, parts.port) for _ in range(30)]
        for number, (_, writer) in enumerate(streams):
            body = b'{"email": "user0@example.com", "password": "wrong %d"}' % number
            writer.write(
                b"POST /api/auth/login HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
        assert await wait_until(
            lambda: server.application.in_flight == 30, LONG_ENOUGH, interval=0.01
        )
        for _, writer in streams:
            writer.close()
        assert (await server.client.post(LOGIN, user(0))).status == 200
        assert await wait_until(
            lambda: not server.application.in_flight, LONG_ENOUGH, interval=0.01
        )
    assert asked[-1] == PASSWORD
    assert len(asked) < 20  # those whose turn had begun
