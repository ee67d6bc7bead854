"""docs/how-to/first-ten-problems.md: each problem is created; the page shows its real output."""

import html
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from taskapp.backups.identity import find_embedded_database
from tests.faults.own_postgres import own_postgres
from tests.faults.test_clock import fake_clock
from tests.faults.test_exhausted import namespaces
from tests.support.backup_tools import make_backup_folder
from tests.support.database_fixtures import execute
from tests.support.document_blocks import read_blocks, read_sections, shows
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    PROGRAM,
    ServerProcess,
    new_data_folder,
    ordinary_user,
    reserved_port,
    server_process,
    wait_until,
)

PAGE = CHECKOUT / "docs" / "how-to" / "first-ten-problems.md"
SECTIONS = {
    heading: [block.text for block in read_blocks(text) if block.language == "text"]
    for heading, text in read_sections(PAGE.read_text(encoding="utf-8")).items()
}
PUBLIC = {"TASKAPP_PUBLIC_URL": "https://tasks.example.com"}
# Enough for an empty database, but not for its writes.
ON_A_SMALL_DISK = (
    'mount -t tmpfs -o size=100m,mode=0700 small "$0" && "$@" migrate && "$@" doctor; exec "$@"'
)


def run(
    folder: Path, *arguments: str, settings: dict[str, str] | None = None, **how: object
) -> str:
    """Run `server.py` until it ends, and return its output with the names of the page."""
    given = {"TASKAPP_DATA_DIR": str(folder), "TASKAPP_PORT": "0"} | (settings or {})
    inherited = {name: text for name, text in os.environ.items() if "TASKAPP" not in name}
    environment = inherited | {"PYTHONPATH": str(CHECKOUT)} | given
    options: dict[str, Any] = {"cwd": folder.parent, "env": environment} | how
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        **options,
        capture_output=True,
        text=True,
        check=False,
        timeout=LONG_ENOUGH,
    )
    return as_on_the_page(done.stdout + done.stderr, folder, given["TASKAPP_PORT"])


def as_on_the_page(said: str, folder: Path, port: str) -> str:
    named = said.replace(str(folder.parent / "backups"), "/srv/backups")
    named = named.replace(str(folder), "/srv/taskapp")
    return named.replace(f"port {port}", "port 8000")


@pytest.fixture(scope="module")
def site() -> Iterator[ServerProcess]:
    """A server behind an HTTPS proxy, with an account."""
    with new_data_folder() as folder, server_process(folder, settings=PUBLIC) as server:
        server.wait_until_ready().client().register("alice@example.com")
        yield server


@pytest.fixture
def folder() -> Iterator[Path]:
    with new_data_folder() as folder:
        yield folder


def port_taken(folder: Path, _site: ServerProcess) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments in ((), ("doctor",)):
            yield run(folder, *arguments, settings={"TASKAPP_PORT": port})


def folder_of_another(folder: Path, _site: ServerProcess) -> Iterator[str]:
    with ordinary_user(folder) as how:
        folder.mkdir(exist_ok=True)
        if how:
            os.chown(folder, 0, 0)
        folder.chmod(0o700 if how else 0)
        how.pop("cwd", None)
        yield run(folder, **how)
        yield run(folder, "doctor", **how)
    folder.chmod(0o700)


def key_cut_off(folder: Path, _site: ServerProcess) -> Iterator[str]:
    folder.mkdir(mode=0o700)
    (folder / "secret-key").write_text("short\n")
    yield run(folder)
    yield run(folder, "doctor")


def disk_full(folder: Path, _site: ServerProcess) -> Iterator[str]:
    folder.mkdir()
    inside = ["unshare", *namespaces(), "sh", "-c", ON_A_SMALL_DISK, str(folder)]
    with server_process(folder, launcher=[*inside, sys.executable]) as server:
        wait_until(lambda: "availability.changed" in server.log_text)
        yield server.log_text
        yield as_on_the_page(server.said, folder, server.address)
        server.end()


def database_away(folder: Path, _site: ServerProcess) -> Iterator[str]:
    with reserved_port() as port:
        away = {"TASKAPP_DATABASE_URL": f"postgresql://taskapp@127.0.0.1:{port}/taskapp"}
        with server_process(folder, settings=away) as server:
            wait_until(lambda: "database.waiting" in server.log_text)
            yield server.log_text
        yield run(folder, "doctor", settings=away)
    with own_postgres() as postgres:
        rules = postgres.folder / "postgres" / "pg_hba.conf"
        rules.write_text(f"local all tasks scram-sha-256\n{rules.read_text()}")
        execute(postgres.url, "SELECT pg_reload_conf()")
        url = postgres.url.replace("taskapp@", "tasks:wrong@")
        wait_until(lambda: not is_let_in(url))  # a reload takes a while
        yield run(folder, "doctor", settings={"TASKAPP_DATABASE_URL": url})


def is_let_in(url: str) -> bool:
    try:
        execute(url, "SELECT 1")
    except psycopg2.OperationalError as error:
        return "password" not in str(error)
    return True


def newer_database(folder: Path, site: ServerProcess) -> Iterator[str]:
    url = f"postgresql://taskapp@/postgres?host={site.data_folder / 'socket'}"
    [[revision]] = execute(url, "SELECT version_num FROM alembic_version")
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    try:
        yield run(folder, settings={"TASKAPP_DATABASE_URL": url})
        yield run(site.data_folder, "doctor")
    finally:
        execute(url, "UPDATE alembic_version SET version_num = %s", revision)


def no_way_in(folder: Path, site: ServerProcess) -> Iterator[str]:
    yield log_in(site, cookie="")
    yield run(site.data_folder, "doctor", settings=PUBLIC)
    yield log_in(site, Origin="http://192.0.2.10:8080")
    wait_until(lambda: "form.refused" in site.log_text)
    yield site.log_text
    yield run(site.data_folder, "doctor")
    with fake_clock() as clock:
        clock.jump("@2001-01-01 00:00:00")
        yield run(folder, "doctor", settings=clock.environment)


def proxy_not_believed(_folder: Path, site: ServerProcess) -> Iterator[str]:
    site.client().send("GET", "/login", X_Forwarded_For="192.0.2.7", X_Forwarded_Proto="https")
    wait_until(lambda: '"route":"/login"' in site.log_text)
    yield site.log_text
    yield run(site.data_folder, "doctor", settings=PUBLIC)


def password_forgotten(_folder: Path, site: ServerProcess) -> Iterator[str]:
    yield log_in(site)
    yield run(site.data_folder, "doctor")


def backups_failing(folder: Path, site: ServerProcess) -> Iterator[str]:
    elsewhere = site.data_folder.parent / "backups"
    elsewhere.touch()
    settings = {"TASKAPP_BACKUP_DIR": str(elsewhere)}
    yield run(site.data_folder, "backup", settings=settings)
    run(folder, "migrate")
    make_backup_folder(folder, find_embedded_database(folder) or "", age=3)
    yield run(folder, "doctor")
    yield run(site.data_folder, "doctor", settings=settings)


def log_in(site: ServerProcess, cookie: str | None = None, **headers: str) -> str:
    """Send the login form with a wrong password, and return the text of the page."""
    client = site.client()
    form = client.send("GET", "/login")
    [proof] = set(re.findall(r'name="csrf_token" value="([^"]+)"', form.body.decode()))
    kept = form.headers["Set-Cookie"].partition(";")[0] if cookie is None else cookie
    fields = f"csrf_token={proof}&email=alice%40example.com&password=forgotten-1"
    page = client.send_form("POST", "/login", fields, Cookie=kept, **headers).body.decode()
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", page)).split())


PROBLEMS: list[Callable[[Path, ServerProcess], Iterator[str]]] = [
    port_taken,
    folder_of_another,
    key_cut_off,
    disk_full,
    database_away,
    newer_database,
    no_way_in,
    proxy_not_believed,
    password_forgotten,
    backups_failing,
]


@pytest.mark.parametrize(
    ("heading", "problem"), [*zip(SECTIONS, PROBLEMS, strict=True)], ids=SECTIONS
)
def test_a_problem_is_seen_and_said_as_the_page_shows_it(
    heading: str,
    problem: Callable[[Path, ServerProcess], Iterator[str]],
    folder: Path,
    site: ServerProcess,
) -> None:
    for shown, said in zip(SECTIONS[heading], problem(folder, site), strict=True):
        assert shows(shown, said), said
