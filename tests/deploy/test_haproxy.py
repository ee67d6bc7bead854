"""HAProxy with deploy/haproxy/haproxy.cfg, in front of two taskapps on one PostgreSQL."""

import http.client
import json
import resource
import signal
import socket
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psycopg2
import pytest

from handlers.web.safe_headers import HSTS
from tests.deploy.haproxy import CONFIGURATION, running_haproxy
from tests.deploy.proxy import HOST, Proxy, Reply
from tests.support.database_fixtures import count_waiting, execute, locked_tasks, locked_users
from tests.support.server_process import (
    Client,
    ServerProcess,
    reserved_port,
    server_process,
    wait_until,
)

ERRORS = sorted((CONFIGURATION / "errors").iterdir())
KEY = "only-for-tests-0123456789-abcdefghijklmnop"
WRITERS = 4
MANY = 50  # tasks
INSERTING = (
    "SELECT 1 FROM pg_locks"
    " WHERE relation = 'tasks'::regclass AND mode = 'RowExclusiveLock' AND NOT granted"
)
ADDED = "SELECT task_count FROM users WHERE email = %s"
JSON = ("-H", "Content-Type: application/json")


@dataclass
class Site:
    """HAProxy, the taskapps behind it, and Alice."""

    proxy: Proxy
    servers: list[ServerProcess]
    alice: Client
    metrics_port: int

    def curl(self, path: str, *options: str) -> Reply:
        return self.proxy.curl(path, "-H", f"Authorization: Bearer {self.alice.token}", *options)


@pytest.fixture
def site(database_url: str) -> Iterator[Site]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp")))
        settings = {
            "TASKAPP_DATABASE_URL": database_url,
            "TASKAPP_SECRET_KEY": KEY,
            "TASKAPP_PUBLIC_URL": f"https://{HOST}",
            "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
            "TASKAPP_API_LIMIT": "100000/15minute",
        }
        servers = [
            stack.enter_context(server_process(folder / f"data{number}", settings=settings))
            for number in (1, 2)
        ]
        for server in servers:
            server.wait_until_ready()
        alice = stack.enter_context(servers[0].client()).sign_up(f"{uuid4().hex}@example.com")
        ports = {port: stack.enter_context(reserved_port()) for port in (80, 443, 8404)}
        behind = dict(zip((8001, 8002), (int(server.address) for server in servers), strict=True))
        proxy = stack.enter_context(running_haproxy(folder, ports | behind))
        yield Site(proxy, servers, alice, ports[8404])


def test_one_client_gets_a_quarter_of_the_connections(site: Site) -> None:
    most = 1000
    with raised_limit_of_files(3 * most), ExitStack() as stack:
        for _ in range(most + 50):
            client = stack.enter_context(socket.socket())
            client.bind(("127.0.0.66", 0))
            client.connect(("127.0.0.1", site.proxy.https))
        wait_until(lambda: count_denied(site) > 0)
        assert site.curl("/api/tasks").status == 200


def count_denied(site: Site) -> float:
    """Return how many connections HAProxy has refused, by its metrics."""
    with closing(http.client.HTTPConnection("127.0.0.1", site.metrics_port)) as connection:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    [line] = [
        line
        for line in text.splitlines()
        if line.startswith('haproxy_frontend_denied_connections_total{proxy="site"}')
    ]
    return float(line.rpartition(" ")[2])


@contextmanager
def raised_limit_of_files(number: int) -> Iterator[None]:
    """Let this process have at least so many open files within the block."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, number), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Results:
    """The statuses of responses, and the titles of acknowledged tasks."""

    stopped: threading.Event = field(default_factory=threading.Event)
    statuses: "Counter[int]" = field(default_factory=Counter)
    titles: list[str] = field(default_factory=list)


def work(site: Site, results: Results) -> None:
    """Add tasks with a key and read lists, on one keep-alive connection."""
    headers = {
        "Authorization": f"Bearer {site.alice.token}",
        "Content-Type": "application/json",
    }
    with site.proxy.connected() as connection:

        def send(method: str, body: str | None, **more: str) -> int:
            connection.request(method, "/api/tasks", body, headers | more)
            response = connection.getresponse()
            response.read()
            results.statuses[response.status] += 1
            return response.status

        while not results.stopped.is_set():
            title = uuid4().hex
            more = {"Idempotency-Key": title}
            if send("POST", json.dumps({"title": title}), **more) == 201:
                results.titles.append(title)
            send("GET", None)


def test_a_taskapp_that_is_killed_fails_no_request_that_may_be_repeated(site: Site) -> None:
    results = Results()
    with ThreadPoolExecutor(WRITERS) as writers:
        running = [writers.submit(work, site, results) for _ in range(WRITERS)]
        try:
            wait_until(lambda: len(results.titles) > MANY)
            site.servers[0].process.kill()
            seen = len(results.titles)
            wait_until(lambda: len(results.titles) > seen + MANY)
        finally:
            results.stopped.set()
        for one in running:
            one.result()
    assert set(results.statuses) == {200, 201}
    site.alice.moved_to(site.servers[1].address)
    assert Counter(site.alice.titles()) == Counter(results.titles)


def test_the_errors_of_haproxy_have_the_forms_of_taskapp(site: Site, database_url: str) -> None:
    with ThreadPoolExecutor() as others, locked_tasks(database_url):
        # No key: it may have been done, and is not repeated.
        sent = others.submit(site.curl, "/api/tasks", *JSON, "-d", '{"title": "x"}')
        wait_until(lambda: execute(database_url, INSERTING) != [])
        for server in site.servers:
            server.process.kill()
        assert_problem(sent.result(), 502)
    wait_until(lambda: site.curl("/api/tasks").status == 503)
    assert_problem(site.curl("/api/tasks"), 503)
    reply = site.curl("/tasks")
    assert (reply.status, reply.header("Content-Type")) == (503, "text/html; charset=utf-8")
    assert int(reply.header("Retry-After")) > 0
    assert "<h1>" in reply.body


def test_a_refusal_after_a_repetition_does_not_say_that_nothing_has_changed(
    site: Site, database_url: str
) -> None:
    def add() -> Reply:
        key = ("-H", f"Idempotency-Key: {uuid4().hex}")
        return site.curl("/api/tasks", *JSON, *key, "-d", '{"title": "x"}')

    processes = [server.process for server in site.servers]
    with ThreadPoolExecutor() as others:
        # The statements are sent, so that they succeed without those who sent them.
        with locked_users(database_url):
            sent = [others.submit(add) for _ in processes]  # one for each server
            wait_until(lambda: count_waiting(database_url) == len(processes))
            for process in processes:
                process.send_signal(signal.SIGSTOP)
        wait_until(lambda: execute(database_url, ADDED, site.alice.email) == [(2,)])
        with read_only(database_url):
            processes[0].kill()
            processes[1].send_signal(signal.SIGCONT)
            replies = [one.result() for one in sent]
            # A refusal of a request that was sent once is taskapp's own.
            wait_until(lambda: "The database is not responding" in add().body)
    assert sorted(reply.status for reply in replies) == [201, 503]
    [refusal] = [reply for reply in replies if reply.status == 503]
    assert_problem(refusal, 503)
    assert "check first whether it is saved" in refusal.body


@contextmanager
def read_only(url: str) -> Iterator[None]:
    """Let all connections but those of this block begin anew, and change nothing."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        name = connection.info.dbname
        cursor.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid != pg_backend_pid()"
        )
        try:
            yield
        finally:
            cursor.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")


def assert_problem(reply: Reply, status: int) -> None:
    assert (reply.status, reply.header("Content-Type")) == (status, "application/problem+json")
    assert int(reply.header("Retry-After")) > 0
    assert json.loads(reply.body)["status"] == status


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.name)
def test_an_error_file_is_a_whole_response(path: Path) -> None:
    head, _, body = path.read_bytes().decode().partition("\r\n\r\n")
    first, *lines = head.split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    status = int(path.name[:3])
    assert first.startswith(f"HTTP/1.1 {status} ")
    assert int(headers["Content-Length"]) == len(body)
    assert int(headers["Retry-After"]) > 0
    if "json" in path.name:
        assert json.loads(body)["status"] == status


def test_a_client_cannot_say_that_it_is_another_and_only_this_machine_has_the_metrics(
    site: Site,
) -> None:
    site.curl("/api/tasks", "-H", "X-Forwarded-For: 198.51.100.7", "-H", "X-Real-IP: 198.51.100.7")
    wait_until(lambda: addresses_of(site, "/api/tasks") == ["127.0.0.1"])
    refused = site.curl("/metrics")
    assert (refused.status, refused.header("Strict-Transport-Security")) == (404, HSTS)
    assert site.curl("/api/tasks").header("Strict-Transport-Security") == HSTS  # only once
    metrics = subprocess.run(
        ["curl", "--silent", f"http://127.0.0.1:{site.metrics_port}/metrics"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'haproxy_server_status{proxy="api",server="taskapp2",state="UP"} 1' in metrics.stdout


def test_a_client_cannot_say_which_host_it_asked_for(site: Site) -> None:
    forged = ("-H", "X-Forwarded-Host: evil.example", "-H", "Origin: https://evil.example")
    page = site.curl("/login", *forged, "-d", "email=alice@example.com")
    assert page.status == 403
    assert "Your browser sent it from https://evil.example" in page.body


def test_a_script_that_forgets_https_is_not_led_there(site: Site) -> None:
    """ASVS 4.1.2: a redirect would hide that its token went over the line unencrypted."""
    for path, status in {"/api/tasks": 403, "/api/docs/": 403, "/api/docs": 308, "/": 308}.items():
        assert site.proxy.curl(path, scheme="http").status == status, path


def addresses_of(site: Site, route: str) -> list[str]:
    lines = [
        line
        for server in site.servers
        for line in server.log
        if line["event"] == "request.completed"
    ]
    return [line["address"] for line in lines if line["route"] == route]
