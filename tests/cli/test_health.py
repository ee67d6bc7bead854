"""`health` asks the server at every address that TASKAPP_HOST may name, whatever proxy there is."""

import asyncio
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from handlers.web.application import Application
from handlers.web_server import make_server
from taskapp.config.settings import Settings, load_settings
from taskapp.runtime.listeners import listening_sockets
from taskapp.runtime.local_client import NoResponse, request_local_server
from tests.conftest import TEST_SETTINGS
from tests.support.environment import inherited_environment
from tests.support.server_process import (
    PROGRAM,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
)

ANY = "0.0.0.0"  # noqa: S104  # what is tried
BASE_PATH = "/tasks-of-mine"
PROXIES = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")


@contextmanager
def serving(app: Application, settings: Settings) -> Iterator[None]:
    server = make_server(app)
    server.add_sockets(listening_sockets(settings))
    try:
        yield
    finally:
        server.stop()


@pytest.fixture
def setting_changes() -> dict[str, str]:
    return {"TASKAPP_BASE_PATH": BASE_PATH}


@pytest.mark.gen_test
@pytest.mark.parametrize("host", [ANY, "127.0.0.1", "127.0.0.2", "localhost", "::1", "::"])
async def test_it_is_asked_at_the_address_where_it_listens(
    app: Application, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    for name, value in PROXIES.items():
        monkeypatch.setenv(name, value)
    with reserved_port() as port:
        named = {"TASKAPP_HOST": host, "TASKAPP_PORT": str(port), "TASKAPP_BASE_PATH": BASE_PATH}
        settings = load_settings(TEST_SETTINGS | named)
        with serving(app, settings):
            answer = await asyncio.to_thread(request_local_server, settings, "/api/health/live", 20)
    assert answer == (200, b'{"status":"live"}')


@pytest.mark.gen_test
async def test_it_is_asked_at_its_unix_socket(app: Application, short_folder: Path) -> None:
    host = f"unix:{short_folder}/health.sock"
    named = {"TASKAPP_HOST": host, "TASKAPP_BASE_PATH": BASE_PATH}
    settings = load_settings(TEST_SETTINGS | named)
    with serving(app, settings):
        answer = await asyncio.to_thread(request_local_server, settings, "/api/health/live", 20)
    assert answer == (200, b'{"status":"live"}')


@pytest.mark.parametrize(
    "named",
    [
        {"TASKAPP_HOST": "127.0.0.1"},
        {"TASKAPP_HOST": "unix:/nowhere/taskapp.sock"},
        {"TASKAPP_HOST": "no..name"},
        {"TASKAPP_HOST": "name.invalid"},
    ],
    ids=lambda named: named["TASKAPP_HOST"],
)
def test_where_nobody_listens_there_is_no_answer(named: dict[str, str]) -> None:
    with reserved_port() as port:
        settings = load_settings({"TASKAPP_PORT": str(port)} | named)
        with pytest.raises(NoResponse, match="taskapp does not answer at"):
            request_local_server(settings, "/api/health", 20)


def test_a_server_that_is_silent_does_not_answer() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        settings = load_settings({"TASKAPP_PORT": str(silent.getsockname()[1])})
        with pytest.raises(NoResponse, match="timed out"):
            request_local_server(settings, "/api/health", 0.1)


# The command


def health(port: int, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), "health", *options],
        env=inherited_environment(measured=True) | PROXIES | {"TASKAPP_PORT": str(port)},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with new_data_folder() as folder, server_process(folder) as process:
        yield process.wait_until_ready()


def test_a_healthy_server_is_said_to_be_so(server: ServerProcess) -> None:
    asked = health(int(server.address))
    assert (asked.returncode, asked.stderr) == (0, "")
    assert asked.stdout == "status: healthy, database: connected, backup: none\n"
    asked = health(int(server.address), "--json")
    assert asked.returncode == 0
    assert json.loads(asked.stdout)["status"] == "healthy"


def test_it_imports_neither_the_server_nor_the_database() -> None:
    """A container asks each 10 seconds: importing everything takes four times as long as this."""
    asked = subprocess.run(
        [sys.executable, "-X", "importtime", str(PROGRAM), "health"],
        env=inherited_environment() | {"TASKAPP_HOST": "unix:/nowhere/taskapp.sock"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    imported = {line.rpartition("|")[2].strip() for line in asked.stderr.splitlines()}
    assert "taskapp.runtime.local_client" in imported
    heavy = {"aiopg", "alembic", "bcrypt", "jinja2", "msgspec", "psycopg2", "sqlalchemy", "tornado"}
    assert imported & heavy == set()


def test_a_server_that_is_away_is_a_failure() -> None:
    with reserved_port() as port:
        asked = health(port)
        said = f"taskapp does not answer at 127.0.0.1, port {port}: Connection refused."
        assert (asked.returncode, asked.stdout, asked.stderr) == (1, "", f"{said}\n")
        asked = health(port, "--json")
        assert (asked.returncode, asked.stderr) == (1, "")
        assert json.loads(asked.stdout) == {"status": "unreachable", "problem": said}


def test_another_server_is_a_failure(server: ServerProcess) -> None:
    asked = subprocess.run(
        [sys.executable, str(PROGRAM), "health"],
        env=inherited_environment(measured=True)
        | {"TASKAPP_PORT": server.address, "TASKAPP_BASE_PATH": "/elsewhere"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert asked.returncode == 1
    assert asked.stderr == "What answers at the address of these settings is not taskapp.\n"
