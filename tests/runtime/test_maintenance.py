"""An operator closes the site for a while: nobody's request is served, and nothing is lost."""

import asyncio
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from handlers.api.base import ApiHandler
from handlers.routes import ROUTES
from handlers.web.application import Application
from server import cli
from taskapp.core.errors import UnderMaintenance
from taskapp.doctor.check_results import Level
from taskapp.jobs.housekeeping import HOUSEKEEPING, run_housekeeping
from taskapp.maintenance_mode import MAX_MESSAGE_LENGTH, MaintenanceWindow, disable, enable
from taskapp.operations.accounts import purge_sessions
from taskapp.services import Services
from tests.support.api_tools import NO_TASK, assert_problem
from tests.support.clients import ApiClient
from tests.support.database_fixtures import add_session, add_user, execute
from tests.support.environment import inherited_environment
from tests.support.page_client import PageClient, titles
from tests.support.server_process import (
    LONG_ENOUGH,
    PROGRAM,
    Client,
    ServerProcess,
    Stopwatch,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

pytest_plugins = ["tests.support.page_fixtures"]

CLOSED = MaintenanceWindow("2026-02-02T10:00:00Z", "")
# What tells how the site is, and the files with which a page says so.
OPEN = {
    "/status": 503,
    "/metrics": 200,
    "/robots.txt": 200,
    "/static/:path": 200,
    "/api/health": 200,
    "/api/health/live": 200,
    "/api/health/ready": 503,
    "/api/:path": 404,
}

# What health and metrics ask the database.
READING = {
    *("server.ping", "server.statistics"),
    *("sessions.count_live", "tasks.estimate", "users.count_active"),
}


@pytest.fixture
def closed(services: Services) -> Services:
    services.maintenance.window = CLOSED
    return services


def path_of(route: str) -> str:
    return route.replace(":id", NO_TASK).replace(":path", "style.css")


# What people and programs meet


@pytest.mark.gen_test
async def test_every_route_but_those_that_tell_how_it_is_answers_503_and_nothing_is_written(
    mine: PageClient, alice: ApiClient, app: Application, services: Services
) -> None:
    await app.drain(LONG_ENOUGH)
    before = statements(services)
    services.maintenance.window = CLOSED
    for route, handler in ROUTES:
        for method in {*handler.allowed_methods()} - {"OPTIONS", "HEAD"}:
            path = path_of(route)
            if issubclass(handler, ApiHandler):
                body = None if method == "GET" else b"{}"
                response = await alice.send(method, path, raw=body)
                status, headers = response.status, response.headers
                if route not in OPEN:
                    assert_problem(response, 503)
            else:
                page = await mine.fetch(method, path, None if method == "GET" else {})
                status, headers = page.status, page.headers
                if route not in OPEN:
                    assert UnderMaintenance.detail in page.text
            assert status == OPEN.get(route, 503), (method, route)
            assert route in OPEN or headers["Retry-After"] == "60"
    await app.drain(LONG_ENOUGH)
    ran = {name for name, count in statements(services).items() if count != before.get(name)}
    assert ran <= READING


def statements(services: Services) -> dict[str, float]:
    """Return how often each statement ran."""
    return {
        sample.labels["statement"]: sample.value
        for family in services.metrics.statements.collect()
        for sample in family.samples
        if sample.name.endswith("_count")
    }


@pytest.mark.gen_test
async def test_what_was_typed_is_kept_and_can_be_sent_when_it_is_over(
    mine: PageClient, alice: ApiClient, services: Services
) -> None:
    await mine.open("/tasks")
    services.maintenance.window = MaintenanceWindow(CLOSED.since, "New disks until 10:30, <Alice>")
    page = await mine.send("Add", title="Typed in the wrong moment")
    assert page.status == 503
    for words in (
        "Down for maintenance",
        "New disks until 10:30, <Alice>",
        "Try again in 60 seconds",
    ):
        assert words in page.text
    services.maintenance.window = None
    assert (await mine.send("Send again")).status == 303
    assert await titles(alice) == ["Typed in the wrong moment"]


@pytest.mark.gen_test
async def test_the_status_page_says_so_and_since_when_also_without_a_database(
    visitor: PageClient, closed: Services
) -> None:
    await closed.database.close()
    page = await visitor.open("/status")
    await closed.database.open(closed.settings.database_url)
    for words in (
        "taskapp is down for maintenance",
        UnderMaintenance.detail,
        "Since 2 February 2026, 10:00 UTC",
    ):
        assert words in page.text
    closed.maintenance.window = MaintenanceWindow(CLOSED.since, "New disks")
    assert "New disks" in (await visitor.open("/status")).text


@pytest.mark.gen_test
async def test_the_upkeep_rests_meanwhile(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = services.settings.database_url
    add_session(url, add_user(url, "alice"), "-1 hour")
    monkeypatch.setitem(HOUSEKEEPING, purge_sessions, 0.02)
    services.maintenance.window = CLOSED
    async with run_housekeeping(services):
        await asyncio.sleep(0.3)  # many of its pauses
        assert execute(url, "SELECT count(*) FROM sessions") == [(1,)]
        services.maintenance.window = None
        await asyncio.to_thread(
            wait_until, lambda: execute(url, "SELECT count(*) FROM sessions") == [(0,)]
        )


# The operator, with a real server


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with new_data_folder() as path:
        path.mkdir(mode=0o700, exist_ok=True)
        yield path


def operate(folder: Path, *arguments: str, code: int = 0, flag: Path | None = None) -> str:
    """Run a command of an operator, and return what it says."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=inherited_environment(measured=True)
        | {"TASKAPP_DATA_DIR": str(folder), "TASKAPP_MAINTENANCE_FLAG": str(flag or "")},
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout + done.stderr


def assert_noticed_in_time(server: ServerProcess, event: str, said: str) -> None:
    """Assert that a server logs an event within the seconds that a command has just named."""
    named = re.search(r"within (\d+) seconds", said)
    assert named
    stopwatch = Stopwatch(server.pid)
    wait_until(lambda: event in [line["event"] for line in server.log])
    assert stopwatch.seconds < int(named[1])


def visitors_meet(server: ServerProcess, status: int) -> bool:
    with Client(server.address) as client:
        return client.status("/login") == status


def test_it_begins_and_ends_without_a_restart_in_the_seconds_that_the_command_names(
    folder: Path,
) -> None:
    with server_process(folder) as server:
        server.wait_until_ready()
        alice = server.client().sign_up("alice@example.com")
        assert_noticed_in_time(
            server, "maintenance.began", operate(folder, "maintenance", "on", "--message", "Back!")
        )
        assert visitors_meet(server, 503)
        assert alice.send("POST", "/api/tasks", {"title": "no"}).json["detail"] == "Back!"
        ready = alice.send("GET", "/api/health/ready")
        assert (ready.status, ready.json) == (503, {"status": "maintenance"})
        assert_noticed_in_time(server, "maintenance.ended", operate(folder, "maintenance", "off"))
        assert visitors_meet(server, 200)
        assert alice.send("POST", "/api/tasks", {"title": "yes"}).status == 201
        assert alice.titles() == ["yes"]
        events = [line["event"] for line in server.log if "maintenance" in line["event"]]
        assert events == ["maintenance.began", "maintenance.ended"]
        assert server.end() == 0


def test_servers_that_share_the_file_close_and_open_together(
    folder: Path, database_url: str
) -> None:
    flag = folder.parent / "closed"
    shared = {"TASKAPP_DATABASE_URL": database_url, "TASKAPP_MAINTENANCE_FLAG": str(flag)}
    with (
        server_process(folder / "one", settings=shared) as one,
        server_process(folder / "other", settings=shared) as other,
    ):
        both = (one.wait_until_ready(), other.wait_until_ready())
        operate(folder, "maintenance", "on", flag=flag)
        wait_until(lambda: all(visitors_meet(server, 503) for server in both))
        operate(folder, "maintenance", "off", flag=flag)
        wait_until(lambda: all(visitors_meet(server, 200) for server in both))


def without_database(port: int) -> dict[str, str]:
    return {"TASKAPP_DATABASE_URL": f"postgresql://taskapp@127.0.0.1:{port}/taskapp"}


def test_a_server_that_starts_meanwhile_says_so_at_once_also_while_its_database_is_away(
    folder: Path,
) -> None:
    enable(folder / "maintenance", "")
    with reserved_port() as port, server_process(folder, settings=without_database(port)) as server:
        client = server.client()
        wait_until(lambda: client.status("/api/health/live") == 200)
        response = client.send("GET", "/tasks")
        assert response.status == 503
        assert b"Down for maintenance" in response.body
        disable(folder / "maintenance")
        wait_until(lambda: b"maintenance" not in client.send("GET", "/tasks").body)


def test_the_command_and_the_doctor_say_whether_it_is_on(folder: Path) -> None:
    enable(folder / "maintenance", "")
    year = datetime.now(UTC).year
    assert f"Maintenance is on since {year}" in operate(folder, "maintenance")
    report = operate(folder, "doctor")
    assert f"{Level.WARNING.value}  maintenance   on since {year}" in report
    assert "Run `python server.py maintenance off` to end it." in report
    operate(folder, "maintenance", "off")
    assert operate(folder, "maintenance", "off") == "Maintenance is already off.\n"


@pytest.mark.parametrize("message", ["x" * (MAX_MESSAGE_LENGTH + 1), "two\nlines", "\x1b[31mred"])
def test_a_message_that_is_not_one_short_line_is_refused(message: str) -> None:
    result = CliRunner().invoke(cli, ["maintenance", "on", "--message", message])
    assert result.exit_code == 2
    assert f"one line of at most {MAX_MESSAGE_LENGTH} characters" in result.stderr


def test_a_flag_that_cannot_be_made_is_a_plain_sentence(folder: Path) -> None:
    flag = folder / "nowhere" / "maintenance"
    said = operate(folder, "maintenance", "on", code=1, flag=flag)
    assert said == f"Cannot change {flag}: No such file or directory\n"
