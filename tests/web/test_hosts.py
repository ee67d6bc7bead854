"""Only requests for a name of this site are answered: DNS rebinding reads nothing."""

import socket
from base64 import b64encode
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers.web.application import METHODS
from tests.support.api_tools import with_settings
from tests.support.clients import ApiClient
from tests.support.server_process import LONG_ENOUGH
from tests.web.test_safe_headers import addresses

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

OWN = (
    *("localhost", "LOCALHOST", "localhost.", "tasks.localhost", "127.0.0.1", "127.0.0.2"),
    *("[::1]", "192.0.2.7", "[2001:db8::7]", socket.gethostname()),
)
FOREIGN = (
    *("evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "evil-localhost"),
    *("xlocalhost", "tasks.example.com", "1.2.3.4.5", "[evil.example]", "localhost:evil", ""),
    *(f"{socket.gethostname()}.evil.example", "127.0.0.1:80:80", "%6cocalhost", "metadata"),
    *("user@localhost", "evil.example@127.0.0.1", "localhost..", "127.0.0.1..", "evil.example."),
    *(
        "evil.example/.localhost",
        "evil.example#.localhost",
        "evil example.localhost",
        "*.localhost",
    ),
    *("[127.0.0.1]", "[127.0.0.1", "127.0.0.1]", "::1", "::1:8000", "[::1", "[[::1]]", "[::1].lan"),
    *("[::1%25lo]", "[fe80::1%evil.example]", "[v1.lan]", "2130706433", "0x7f.0.0.1", "127.1"),
    *(
        "localhost,evil.example",
        "evil.example, localhost",
        "localhost evil.example",
        "lo\xe9calhost",
    ),
)


async def status_for(host: str, api: ApiClient, path: str = "/api/health") -> int:
    return (await api.get(path, headers={"Host": host})).status


async def test_every_route_refuses_every_method_for_another_host(api: ApiClient) -> None:
    for path, _ in addresses():
        for method in METHODS:
            response = await api.send(method, path, headers={"Host": "evil.example:8000"}, raw=b"")
            assert response.status == 421, (method, path)


@pytest.mark.parametrize("host", OWN)
async def test_a_name_of_this_machine_and_an_address_are_accepted(
    api: ApiClient, host: str
) -> None:
    for port in ("", ":", ":80", ":8000"):
        assert await status_for(host + port, api) == 200


@pytest.mark.parametrize("host", FOREIGN)
async def test_no_other_name_is_accepted(api: ApiClient, io_loop: Any, host: str) -> None:
    for port in ("", ":8000"):
        response = await io_loop.run_in_executor(None, exchange, api.base_url, host + port)
        assert response.split(b" ")[1] in {b"421", b"400"}, response


def exchange(base_url: str, host: str) -> bytes:
    address = urlsplit(base_url)
    with socket.create_connection((address.hostname, address.port), LONG_ENOUGH) as connection:
        connection.sendall(
            f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode()
        )
        with connection.makefile("rb") as response:
            return response.read()


@with_settings(PUBLIC_URL="https://tasks.example.com:8443", ALLOWED_HOSTS="nas.lan, Taskapp-1")
async def test_the_public_name_and_those_of_the_settings_are_accepted(api: ApiClient) -> None:
    for host in ("tasks.example.com", "Tasks.Example.com:8443", "nas.lan:8000", "taskapp-1:8000"):
        assert await status_for(host, api) == 200
    for host in ("example.com", "www.tasks.example.com", "nas.lan.evil.example", "taskapp-2"):
        assert await status_for(host, api) == 421


@with_settings(PUBLIC_URL="https://tasks.example.com.")
async def test_a_public_name_may_end_with_the_dot_of_the_root(api: ApiClient) -> None:
    for host in ("tasks.example.com", "tasks.example.com."):
        assert await status_for(host, api) == 200


async def test_a_page_and_the_api_say_what_the_administrator_can_do(api: ApiClient) -> None:
    for path in ("/login", "/nothing", "/api/tasks", "/api/nothing"):
        response = await api.get(path, headers={"Host": "evil.example"})
        assert response.status == 421
        assert b"TASKAPP_ALLOWED_HOSTS" in response.body
        assert b"evil" not in response.body


def basic(text: str) -> dict[str, str]:
    return {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}


@with_settings(METRICS_PASSWORD="pass:word ä")
async def test_the_metrics_may_have_a_password(api: ApiClient) -> None:
    for sent in (basic("prometheus:pass:word ä"), basic(":pass:word ä")):
        assert (await api.get("/metrics", headers=sent)).status == 200
    for sent in (
        *({}, basic("x:pass"), basic("pass:word ä"), basic(""), basic("x:")),
        *({"Authorization": "Basic é"}, {"Authorization": "Bearer pass:word"}),
    ):
        response = await api.get("/metrics", headers=sent)
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Basic ")
        assert b"taskapp_" not in response.body
    assert (await api.get("/api/health")).status == 200


@with_settings(METRICS_PASSWORD="secret", METRICS_ALLOW="192.0.2.1")
async def test_with_the_password_the_metrics_still_do_not_exist_for_strangers(
    api: ApiClient,
) -> None:
    assert (await api.get("/metrics", headers=basic("x:secret"))).status == 404
