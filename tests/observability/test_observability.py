"""What can be seen of a running server: its log, its metrics and its health."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tornado.httpclient import AsyncHTTPClient

from handlers.api.health import HOUR
from handlers.routes import ROUTES
from handlers.web.application import Application
from taskapp.config.settings import Settings
from taskapp.jobs.health_check import TIMEOUT
from taskapp.services import Services
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
from tests.support.database_fixtures import execute
from tests.support.metrics_reader import Metrics, read_metrics
from tests.support.server_process import ServerProcess, server_process

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
REQUEST_MEMBERS = {
    *("time", "level", "event", "requestId"),
    *("method", "route", "status", "ms", "userId", "address"),
}


class Log:
    """The lines of the log since one looked last."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._capsys.readouterr().err.splitlines()]

    def line(self, event: str) -> dict[str, Any]:
        """Return the only line about an event."""
        (line,) = [line for line in self.lines() if line["event"] == event]
        return line


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Log:
    return Log(capsys)


# The log


@pytest.mark.parametrize(
    ("method", "path", "route", "status", "level"),
    [
        ("GET", "/api/tasks?status=pending", "/api/tasks", 200, "info"),
        ("POST", "/api/tasks", "/api/tasks", 415, "info"),
        ("GET", f"/api/tasks/{NO_TASK}", "/api/tasks/:id", 404, "info"),
        ("DELETE", f"/api/tasks/{NO_TASK}", "/api/tasks/:id", 404, "info"),
        ("GET", "/api/nothing/at/all", "/api/:path", 404, "info"),
        ("GET", "/nothing", "(none)", 404, "info"),
        ("PUT", "/api/tasks", "/api/tasks", 405, "info"),
    ],
)
async def test_every_request_is_one_line(
    alice: ApiClient, log: Log, method: str, path: str, route: str, status: int, level: str
) -> None:
    log.lines()
    response = await alice.send(method, path)
    line = log.line("request.completed")
    assert set(line) == REQUEST_MEMBERS
    assert TIMESTAMP.fullmatch(line["time"])
    assert line["level"] == level
    assert line["requestId"] == response.headers["X-Request-ID"]
    assert (line["method"], line["route"], line["status"]) == (method, route, status)
    assert 0 < line["ms"] < 10_000
    assert line["userId"] == (alice.user_id if path.startswith("/api/tasks") else None)
    assert line["address"] in {"127.0.0.1", "::1"}


async def test_the_lines_of_requests_at_once_bear_their_own_ids(alice: ApiClient, log: Log) -> None:
    log.lines()
    names = [f"request-{number}" for number in range(10)]
    responses = await asyncio.gather(
        *(
            alice.post("/api/tasks", {"title": name}, headers={"X-Request-ID": name})
            for name in names
        )
    )
    lines = log.lines()
    for name, response in zip(names, responses, strict=True):
        mine = [line for line in lines if line["requestId"] == name]
        assert [line["event"] for line in mine] == ["task.created", "request.completed"]
        assert mine[0]["taskId"] == response.json["id"]


async def test_accounts_and_logins_are_logged(api: ApiClient, log: Log) -> None:
    sent = {"email": "carol@example.com", "password": PASSWORD}
    user_id = (await api.post("/api/auth/register", sent)).json["userId"]
    line = log.line("user.registered")
    assert (line["userId"], line["level"]) == (user_id, "info")
    for wrong, known in [({"password": "x"}, user_id), ({"email": "nobody@example.com"}, None)]:
        await api.post("/api/auth/login", sent | wrong)
        line = log.line("login.failed")
        assert (line["userId"], line["level"]) == (known, "warning")
        assert line["address"]
    user = await api.log_in(**sent)
    line = log.line("login.succeeded")
    assert (line["userId"], bool(line["address"])) == (user_id, True)
    await user.post("/api/auth/logout")
    assert log.line("user.logged_out")["userId"] == user_id


async def test_changes_of_tasks_are_logged(alice: ApiClient, bob: ApiClient, log: Log) -> None:
    log.lines()
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    for event, client, method in [
        ("task.created", alice, None),
        ("task.updated", alice, "PUT"),
        ("task.updated", alice, "PATCH"),
        ("task.refused", bob, "GET"),
        ("task.deleted", alice, "DELETE"),
    ]:
        if method:
            await client.send(method, path, None if method == "DELETE" else {"title": "x"})
        line = log.line(event)
        assert (line["userId"], line["taskId"]) == (client.user_id, task["id"])


async def test_what_was_refused_is_no_event_of_a_change(alice: ApiClient, log: Log) -> None:
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    log.lines()
    await alice.put(path, {"title": ""})
    await alice.put(path, {"title": "x"}, headers={"If-Match": '"other"'})
    await alice.delete(path, headers={"If-Match": '"other"'})
    await alice.get(path)
    assert {line["event"] for line in log.lines()} == {"request.completed"}


async def knock_everywhere(user: ApiClient, words: list[str], headers: dict[str, str]) -> None:
    """Send every method to every route, with words wherever words can be."""
    title, description, query, path, header = words
    for route, handler in ROUTES:
        if route.endswith("/logout"):
            continue  # the session is needed for the rest
        address = route.replace(":id", path).replace(":path", path)
        for method in [*handler.allowed_methods(), "BREW"]:
            await user.send(
                method,
                f"{address}?{query}={description}&next=/{path}",
                raw=json.dumps({"title": title, "email": f"{title}@x", "password": query}).encode(),
                headers=headers | {"User-Agent": header, "Referer": header, "If-Match": header},
            )


async def send_secrets(client: ApiClient) -> list[str]:
    """Use everything with texts that no log may hold, and return those."""
    words = [f"{name}-marker" for name in ["title", "description", "query", "path", "header"]]
    title, description, query, path, header = words
    email, password, wrong = "Private.Person@example.com", "my own horse battery 7", "not my horse"
    user = await client.sign_up(email, password)
    task = await user.add_task(title, description=description)
    where = f"/api/tasks/{task['id']}"
    await user.put(where, {"title": f"{title} 2", "status": "completed"})
    await user.put(where, {"title": "", "description": description})
    await user.get(f"/api/tasks?status={query}&after={query}")
    await user.get(f"/api/{path}")
    await user.get(f"/{path}?{query}")
    await user.get("/api/tasks", headers={"Idempotency-Key": header, "Origin": header})
    await user.post("/api/tasks", {title: description})
    await user.post("/api/tasks", raw=f'{{"title": "{title}'.encode())
    await user.post("/api/tasks", {"title": "x"}, headers={"Idempotency-Key": header})
    for sent in [
        {"email": email, "password": wrong},
        {"email": "Unknown.Person@example.com", "password": wrong},
        {"email": "not-an-address-marker", "password": wrong},
        {"email": email, "password": "\ud800" + wrong},
    ]:
        await client.post("/api/auth/login", sent)
        await client.post("/api/auth/register", sent)
    cookies, csrf_token = await log_in_as_browser(client, email, password)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    made: list[bytes] = []
    for content_type in ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x"]:
        form = f"csrf_token={csrf_token}&title={title}&description={description}".encode()
        headers = {"Cookie": cookie, "Content-Type": content_type}
        for path, name in {"/tasks/several": "titles", "/login": "email", "/theme": "next"}.items():
            other = form.replace(b"&title=", f"&{name}=".encode())
            await client.post(f"{path}?status={query}", raw=other, headers=headers)
        await client.post("/tasks", raw=form, headers=headers)
        for path, fields in {
            "password": f"current_password={wrong}&new_password={password}",
            "tokens": f"name={title}&expires=never&password={password}",
            "delete": f"password={wrong}",
        }.items():
            form = f"csrf_token={csrf_token}&{fields}".encode()
            page = await client.post(f"/account/{path}?{query}", raw=form, headers=headers)
            made += re.findall(rb">(taskapp_[^<]{20,})<", page.response.body)
    [personal] = [text.decode() for text in made]
    await client.post(where, headers={"Authorization": f"Bearer {personal}"})
    await user.delete(where)
    token = user.headers["Authorization"].removeprefix("Bearer ")
    for end in ["", "x"]:
        await user.get("/api/tasks", headers={"Authorization": f"Bearer {token}{end}"})
    for line in [f"Authorization: Bearer {token}\1", f"Cookie: {cookie}\1", f" {password}", email]:
        request = f"GET /api/tasks?{query} HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n"
        await send_raw(client.base_url, request.encode())
    await knock_everywhere(user, words, {"Cookie": cookie, "X-CSRF-Token": csrf_token})
    await user.post("/api/auth/logout")
    await user.get("/api/tasks")
    names = ["private.person", "unknown.person", "not-an-address"]
    return [*words, *names, password, wrong, token, personal, csrf_token, *cookies.values()]


@asynccontextmanager
async def talkative_server(
    folder: Path, url: str
) -> AsyncIterator[tuple[ServerProcess, ApiClient]]:
    """Run the real program, which logs all that it can."""
    settings = {"TASKAPP_DATABASE_URL": url, "TASKAPP_LOG_LEVEL": "debug"}
    http_client = AsyncHTTPClient(force_instance=True)
    with server_process(folder, settings=settings) as server:
        await asyncio.to_thread(server.wait_until_ready)
        yield server, ApiClient(http_client, f"http://127.0.0.1:{server.address}")
    http_client.close()


async def test_a_whole_run_logs_no_secret_and_nothing_that_somebody_wrote(
    tmp_path: Path, empty_database: str
) -> None:
    async with talkative_server(tmp_path / "data", empty_database) as (server, client):
        secrets = await send_secrets(client)
        await asyncio.to_thread(server.end, signal.SIGTERM)
        logged = server.log_text.lower()
        events = {line["event"] for line in server.log}
    assert {
        "request.completed",
        "login.succeeded",
        "login.failed",
        "task.created",
        "user.logged_out",
    } <= events
    assert {"token.created"} <= events
    found = [secret for secret in secrets if secret.lower() in logged]
    assert found == []


# Metrics


@with_settings(LOGIN_LIMIT="2/hour", API_LIMIT="6/hour")
async def test_the_metrics_count_what_happens(api: ApiClient) -> None:
    metrics = Metrics(api)
    await metrics.look()
    carol = {"email": "carol@example.com", "password": PASSWORD}
    user = await api.sign_up(**carol)
    task = await user.add_task()
    await user.add_task()
    await user.put(f"/api/tasks/{task['id']}", {"title": "x"})
    await user.delete(f"/api/tasks/{task['id']}")
    await user.get("/api/tasks/1")
    await user.get("/api/tasks")
    assert (await user.get("/api/tasks")).status == 429
    await user.get("/api/tasks", headers={"Authorization": "Bearer x"})
    for _ in range(3):
        await api.post("/api/auth/login", carol | {"password": "wrong"})
    await metrics.look()
    for expected, name, labels in [
        (1, "registrations_total", {}),
        (1, "logins_total", {"result": "ok"}),
        (2, "logins_total", {"result": "failed"}),
        (1, "logins_total", {"result": "limited"}),
        (1, "rate_limited_total", {"limit": "login"}),
        (1, "rate_limited_total", {"limit": "api"}),
        (1, "rejected_sessions_total", {}),
        (2, "task_operations_total", {"operation": "created"}),
        (1, "task_operations_total", {"operation": "updated"}),
        (1, "task_operations_total", {"operation": "deleted"}),
        (2, "statement_duration_seconds_count", {"statement": "tasks.insert"}),
        (1, "statement_duration_seconds_count", {"statement": "tasks.delete"}),
    ]:
        assert metrics.grown(name, **labels) == expected, (name, labels)
    for expected, method, route, status in [
        (1, "POST", "/api/auth/register", "201"),
        (2, "POST", "/api/tasks", "201"),
        (1, "GET", "/api/tasks", "200"),
        (1, "GET", "/api/tasks", "429"),
        (1, "GET", "/api/tasks", "401"),
        (1, "GET", "/api/tasks/:id", "404"),
    ]:
        labels = {"method": method, "route": route, "status": status}
        assert metrics.grown("request_duration_seconds_count", **labels) == expected, labels


async def test_the_gauges_show_the_state(api: ApiClient, alice: ApiClient) -> None:
    assert await api.log_in(alice.email, PASSWORD)
    metrics = Metrics(api)
    await metrics.look()
    assert metrics.value("requests_in_flight") == 1  # this one
    assert metrics.value("active_sessions") == 2
    assert metrics.value("users") == 1
    assert metrics.value("database_up") == 1
    assert metrics.value("database_pool_size") >= 1
    assert metrics.value("database_pool_used") == 0
    assert metrics.value("database_pool_waiting") == 0


async def test_unknown_addresses_and_methods_make_no_new_series(api: ApiClient) -> None:
    await api.get("/api/nothing")
    await api.get("/nothing")
    await api.send("BREW", "/api/nothing")
    before = set(await read_metrics(api))
    await read_metrics(api)
    before |= set(await read_metrics(api))
    for number in range(20):
        await api.get(f"/api/nothing/{number}")
        await api.get(f"/nothing/{number}")
        await api.send(f"BREW{number}", "/api/nothing")
    assert set(await read_metrics(api)) == before


@with_settings(METRICS_ALLOW="192.0.2.0/24")
async def test_metrics_do_not_exist_for_strangers(api: ApiClient, alice: ApiClient) -> None:
    for client in [api, alice]:
        assert_problem(await client.get("/metrics"), 404)
        headers = {"X-Forwarded-For": "192.0.2.1", "X-Real-Ip": "192.0.2.1"}
        assert_problem(await client.get("/metrics", headers=headers), 404)


async def test_metrics_stay_closed_behind_a_proxy_that_nobody_trusts(api: ApiClient) -> None:
    assert_problem(await api.get("/metrics", headers={"X-Forwarded-For": "127.0.0.1"}), 404)


@with_settings(METRICS_ALLOW="192.0.2.0/24", TRUSTED_PROXIES="127.0.0.1,::1")
async def test_metrics_are_open_to_the_networks_of_the_setting(api: ApiClient) -> None:
    for address, status in [("192.0.2.9", 200), ("198.51.100.9", 404)]:
        response = await api.get("/metrics", headers={"X-Forwarded-For": address})
        assert response.status == status


# Health


async def test_a_healthy_server_says_so(api: ApiClient) -> None:
    response = await api.get("/api/health")
    assert response.status == 200
    members = {"status", "timestamp", "uptime", "database", "limits", "backup", "backupAge"}
    assert set(response.json) == members | {"version", "backupProblems"}
    assert (response.json["status"], response.json["database"]) == ("healthy", "connected")
    assert TIMESTAMP.fullmatch(response.json["timestamp"])
    assert isinstance(response.json["uptime"], int)
    assert (response.json["backup"], response.json["backupAge"]) == ("none", None)
    for path, status in [("/api/health/live", "live"), ("/api/health/ready", "ready")]:
        response = await api.get(path)
        assert (response.status, response.json) == (200, {"status": status})


async def test_strangers_learn_in_whole_hours_for_how_long_a_process_runs(api: ApiClient) -> None:
    stranger = await api.get("/api/health", headers={"X-Forwarded-For": "198.51.100.9"})
    operator = await api.get("/api/health")
    assert 0 <= operator.json["uptime"] - stranger.json["uptime"] < 2 * HOUR
    assert stranger.json["uptime"] % HOUR == 0


async def test_without_its_database_a_server_is_unhealthy_but_alive(
    api: ApiClient, services: Services
) -> None:
    await services.database.close()
    response = await api.get("/api/health")
    assert (response.status, response.json["status"]) == (503, "unhealthy")
    assert response.json["database"] == "disconnected"
    assert (await api.get("/api/health/ready")).status == 503
    assert (await api.get("/api/health/live")).status == 200
    assert (await read_metrics(api))["taskapp_database_up", frozenset()] == 0


@pytest.mark.parametrize("state", ["starting", "stopping"])
async def test_a_server_that_starts_or_stops_is_not_ready(
    api: ApiClient, app: Application, state: str
) -> None:
    app.state = state
    response = await api.get("/api/health/ready")
    assert (response.status, response.json) == (503, {"status": state})
    assert (await api.get("/api/health/live")).status == 200


async def test_a_server_that_stops_asks_its_clients_to_hang_up(
    api: ApiClient, app: Application, base_url: str
) -> None:
    assert (await api.get("/api/health/live")).status == 200
    for state, is_asked in [("ready", False), ("stopping", True)]:
        app.state = state
        parts = urlsplit(base_url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        writer.write(b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n")
        head = await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await writer.wait_closed()
        assert (b"Connection: close" in head) == is_asked


async def test_tables_that_are_missing_are_unhealthy(api: ApiClient, empty_database: str) -> None:
    execute(empty_database, "ALTER TABLE tasks RENAME TO hidden")
    try:
        assert (await api.get("/api/health")).json["status"] == "unhealthy"
        assert (await api.get("/api/health/ready")).status == 503
    finally:
        execute(empty_database, "ALTER TABLE hidden RENAME TO tasks")
    assert (await api.get("/api/health/ready")).status == 200


async def test_health_answers_within_five_seconds_when_the_database_hangs(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = asyncio.Event()
    async with running(settings) as server:

        async def hang(*_: object, **__: object) -> None:
            try:
                await ended.wait()
            except asyncio.CancelledError:
                await ended.wait()  # cancelling waits for the server, too
                raise

        assert TIMEOUT < 5
        monkeypatch.setattr("taskapp.jobs.health_check.TIMEOUT", 0.2)
        monkeypatch.setattr(server.services.database, "fetch_one", hang)
        response = await server.client.get("/api/health")
        assert (response.status, response.json["database"]) == (503, "disconnected")
        ended.set()
