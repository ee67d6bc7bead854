"""Helpers of the tests of the API: problem responses, more servers, raw requests."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient
from tornado.testing import bind_unused_port

from handlers.routes import make_application
from handlers.web.application import Application
from handlers.web_server import make_server
from taskapp.config.settings import Settings, load_settings
from taskapp.observability.metrics import Metrics
from taskapp.runtime.tracing import start_tracing
from taskapp.services import Services, make_services
from tests.support.clients import ApiClient, Response
from tests.support.server_process import LONG_ENOUGH

PROBLEM_MEMBERS = {"type", "title", "status", "detail", "requestId"}
NO_TASK = "01900000-0000-7000-8000-000000000000"  # not the id of any task
# Requests that need a session, and so the database.
NEED_SESSION = [
    ("GET", "/api/tasks"),
    ("POST", "/api/tasks"),
    ("GET", f"/api/tasks/{NO_TASK}"),
    ("PUT", f"/api/tasks/{NO_TASK}"),
    ("PATCH", f"/api/tasks/{NO_TASK}"),
    ("DELETE", f"/api/tasks/{NO_TASK}"),
    ("POST", "/api/auth/logout"),
]


def with_settings(**settings: str) -> pytest.MarkDecorator:
    """Change settings for a test that uses the fixture `app`."""
    changes = {f"TASKAPP_{name}": value for name, value in settings.items()}
    return pytest.mark.parametrize("setting_changes", [changes], ids=["changed"])


def assert_problem(response: Response, status: int) -> dict[str, Any]:
    """Assert that a response is a problem (RFC 9457), and return its JSON."""
    assert response.status == status, response.body
    assert response.headers["Content-Type"] == "application/problem+json"
    problem: dict[str, Any] = response.json
    members = set(problem)
    assert PROBLEM_MEMBERS <= members <= PROBLEM_MEMBERS | {"errors"}
    assert problem["type"] == "about:blank"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["requestId"] == response.headers["X-Request-ID"]
    for error in problem.get("errors", []):
        assert set(error) == {"field", "message"}
        assert error["message"]
    return problem


def wrong_fields(response: Response) -> set[str]:
    """Assert that a response is a 400 that names fields, and return their names."""
    return {error["field"] for error in assert_problem(response, 400)["errors"]}


def changed(settings: Settings, changes: dict[str, str]) -> Settings:
    return load_settings({**settings.texts, **changes})


class Running:
    """Another application with its server and a client, like another process."""

    def __init__(self, services: Services, application: Application, client: ApiClient) -> None:
        self.services = services
        self.application = application
        self.client = client

    def as_user(self, user: ApiClient) -> ApiClient:
        """Return a client of this server that sends the token of another server's client."""
        return ApiClient(
            self.client.http_client, self.client.base_url, user.headers, user.email, user.user_id
        )


@asynccontextmanager
async def running(settings: Settings, **changes: str) -> AsyncIterator[Running]:
    """Run another application on the same database, with changed settings.

    Its client opens as many connections as a test needs.
    """
    settings = changed(settings, changes)
    services = make_services(settings, start_tracing(settings))
    await services.database.open(settings.database_url)
    application = make_application(services)
    application.state = "ready"
    server = make_server(application)
    listener, port = bind_unused_port()
    server.add_sockets([listener])
    http_client = AsyncHTTPClient(force_instance=True, max_clients=60)
    base_url = f"http://127.0.0.1:{port}{services.settings.base_path}"
    try:
        yield Running(services, application, ApiClient(http_client, base_url))
        assert await application.drain(10)
    finally:
        http_client.close()
        server.stop()
        await server.close_all_connections()
        await services.database.close()
        services.passwords.close()
        if services.tracing:
            await services.tracing.stop()


async def at_once(requests: Iterable[Any]) -> list[Response]:
    """Send requests concurrently, and return their responses in the same order."""
    responses: list[Response] = await asyncio.gather(*requests)
    return responses


async def send_raw(base_url: str, request: bytes) -> bytes:
    """Send these bytes, and return all bytes received until the server closes the connection."""
    parts = urlsplit(base_url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.read(), LONG_ENOUGH)
    finally:
        writer.close()
        await writer.wait_closed()


def is_closed(client: socket.socket) -> bool:
    """Return whether the server has closed the connection; discard what it sent."""
    client.setblocking(False)
    try:
        while client.recv(65536):
            pass
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


async def log_in_as_browser(
    api: ApiClient, email: str, password: str
) -> tuple[dict[str, str], str]:
    """Log in by the form; return the cookies and the session's CSRF token."""
    cookies: dict[str, str] = {}

    async def send(method: str, path: str, raw: bytes | None = None) -> Response:
        sent = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        if raw is not None:
            sent["Content-Type"] = "application/x-www-form-urlencoded"
        response = await api.send(method, path, raw=raw, headers=sent)
        for cookie in response.headers.get_list("Set-Cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            cookies[name] = value
        return response

    csrf_token = csrf_token_in(await send("GET", "/login"))
    form = urlencode({"csrf_token": csrf_token, "email": email, "password": password})
    assert (await send("POST", "/login", form.encode())).status == 303
    return cookies, csrf_token_in(await send("GET", "/tasks"))


def csrf_token_in(response: Response) -> str:
    """Return the CSRF token in the forms of a page."""
    match = re.search(r'name="csrf_token" value="([^"]+)"', response.body.decode())
    assert match
    return match[1]


def statement_counts(metrics: Metrics) -> dict[str, int]:
    """Return the number of executed statements by name."""
    return {
        sample.labels["statement"]: int(sample.value)
        for family in metrics.statements.collect()
        for sample in family.samples
        if sample.name.endswith("_count")
    }
