"""deploy/delivery/deploy.py replaces two taskapps behind HAProxy, and brings the last image back.

An image is a folder with a program here, and a container a process.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest

from taskapp.db.migrations import HEAD
from tests.deploy.haproxy import CONFIGURATION, running_haproxy
from tests.deploy.proxy import HOST, Proxy
from tests.deploy.versions import NEXT, add_migration, copy_program
from tests.support.database_fixtures import execute, new_database
from tests.support.environment import CHEAP_AND_UNLIMITED, SECRET_KEY, inherited_environment
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, Client, reserved_port, wait_until

DELIVERY = CHECKOUT / "deploy" / "delivery"
SERVERS = ("taskapp1", "taskapp2")
MANY = 20  # requests
EXPANDING = "ALTER TABLE tasks ADD COLUMN due_on date"
RENAMING = "ALTER TABLE tasks RENAME COLUMN title TO name"
FAILING = "SELECT 1 / 0"
# `start` fails when the process ends before it is ready, as `systemctl start` does.
COMMANDS = """
haproxy = "{folder}/admin.sock"
live = "{folder}/live"
timeout = {timeout}

[commands]
fetch = 'cp -r "{folder}/registry/$IMAGE" "{folder}/machine/"'
migrate = '{python} "{folder}/machine/$IMAGE/server.py" migrate --only-compatible'
stop = '''
cd {folder}
test ! -e $SERVER.pid && exit
kill "$(cat $SERVER.pid)" 2>/dev/null || true
while grep -qs "^State:.[^Z]" "/proc/$(cat $SERVER.pid)/status"; do sleep 0.1; done
'''
start = '''
cd {folder}
TASKAPP_PORT=$PORT TASKAPP_DATA_DIR={folder}/$SERVER setsid {python} "machine/$IMAGE/server.py" \
    </dev/null >$SERVER.log 2>&1 &
echo $! >$SERVER.pid
until curl --silent --fail "http://127.0.0.1:$PORT/api/health/ready" >/dev/null; do
    grep -qs "^State:.[^Z]" "/proc/$!/status" || {{ cat $SERVER.log; exit 1; }}
    sleep 0.1
done
'''
"""


@dataclass
class Site:
    """HAProxy, what the script replaces behind it, and Alice."""

    folder: Path
    database: str
    ports: dict[str, int]
    proxy: Proxy = field(init=False)
    alice: Client = field(init=False)

    def image(self, name: str) -> Path:
        """Make an image of this version, and return its `server.py`."""
        return copy_program(self.folder / "registry" / name)

    def start_deploying(self, image: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, DELIVERY / "deploy.py", self.folder / "delivery.toml", image],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def deploy(self, image: str, code: int) -> str:
        """Run the script, and return what it says."""
        with self.start_deploying(image) as script:
            said, _ = script.communicate(timeout=LONG_ENOUGH)
        assert script.returncode == code, said
        return said

    @property
    def environment(self) -> dict[str, str]:
        return inherited_environment() | {
            **CHEAP_AND_UNLIMITED,
            "SSL_CERT_FILE": str(self.folder / "authority.pem"),
            "TASKAPP_DATABASE_URL": self.database,
            "TASKAPP_PUBLIC_URL": f"https://{HOST}",
            "TASKAPP_SECRET_KEY": SECRET_KEY,
            "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
        }

    def running(self) -> list[str]:
        """Return the image that each server runs."""
        return [self._image_of(server) for server in SERVERS]

    def _image_of(self, server: str) -> str:
        pid = (self.folder / f"{server}.pid").read_text().strip()
        command = Path(f"/proc/{pid}/cmdline").read_text()
        found = re.search("machine/(.+)/server.py", command)
        return found[1] if found else ""

    def live(self) -> str:
        return (self.folder / "live").read_text().strip()

    def revision(self) -> str:
        [[revision]] = execute(self.database, "SELECT version_num FROM alembic_version")
        return str(revision)


@contextmanager
def empty_site(database_url: str) -> Iterator[Site]:
    """Yield HAProxy without a server, which the first deployment starts."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp")))
        (folder / "machine").mkdir()
        ports = {server: stack.enter_context(reserved_port()) for server in SERVERS}
        moved = {port: stack.enter_context(reserved_port()) for port in (80, 443, 8404)}
        site = Site(folder, stack.enter_context(new_database(database_url)), ports)
        stack.callback(end_servers, folder)
        moved |= dict(zip((8001, 8002), ports.values(), strict=True))
        site.proxy = stack.enter_context(running_haproxy(folder, moved))
        servers = [f'{name} = "http://127.0.0.1:{port}"' for name, port in ports.items()]
        (folder / "delivery.toml").write_text(
            f'site = "https://{HOST}"\nconnect = "127.0.0.1:{moved[443]}"\n'
            + COMMANDS.format(folder=folder, python=sys.executable, timeout=LONG_ENOUGH)
            + "\n".join(["[servers]", *servers, ""])
        )
        yield site


def end_servers(folder: Path) -> None:
    for path in folder.glob("*.pid"):
        with suppress(ProcessLookupError):
            os.kill(int(path.read_text()), signal.SIGKILL)


@pytest.fixture(scope="module")
def site(database_url: str) -> Iterator[Site]:
    with empty_site(database_url) as prepared:
        prepared.image("1.0")
        said = prepared.deploy("1.0", code=0)
        assert said.splitlines()[-1] == "live: 1.0"
        assert prepared.running() == ["1.0", "1.0"]
        prepared.alice = Client(str(prepared.ports["taskapp1"])).sign_up("alice@example.com")
        prepared.alice.close()
        yield prepared


@contextmanager
def used_all_the_time(site: Site) -> Iterator[None]:
    """Add and list tasks while the block runs, and then; no request fails, and no task is lost."""
    stopped = threading.Event()
    statuses: Counter[int] = Counter()
    titles: list[str] = []
    headers = {
        "Authorization": f"Bearer {site.alice.token}",
        "Content-Type": "application/json",
    }

    def work() -> None:
        with site.proxy.connected() as connection:

            def send(method: str, body: str | None) -> bytes:
                connection.request(method, "/api/tasks", body, headers)
                response = connection.getresponse()
                statuses[response.status] += 1
                return response.read()

            while not stopped.is_set():
                titles.append(uuid4().hex)
                send("POST", json.dumps({"title": titles[-1]}))  # without a key: never sent twice
                assert titles[-1].encode() in send("GET", None)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        wait_until(lambda: len(titles) > MANY or not worker.is_alive())
        yield
        seen = len(titles)
        wait_until(lambda: len(titles) > seen + MANY or not worker.is_alive())
        assert worker.is_alive(), statuses
    finally:
        stopped.set()
        worker.join()
    assert set(statuses) == {200, 201}, statuses


def test_a_good_version_goes_live_without_a_failed_request(site: Site) -> None:
    site.image("2.0")
    with used_all_the_time(site):
        said = site.deploy("2.0", code=0)
    assert said.splitlines()[-1] == "live: 2.0"
    assert (site.live(), site.running()) == ("2.0", ["2.0", "2.0"])


def answers_500(program: Path) -> None:
    """Break what adds a task; the server starts, and is ready."""
    with (program.parent / "taskapp" / "operations" / "tasks.py").open("a") as module:
        module.write("\n\nasync def create_task(*_, **__):\n    raise RuntimeError('broken')\n")


def migrates_and_does_not_start(program: Path) -> None:
    """Break the server, and no command."""
    add_migration(program, oldest_program=HEAD, statement=EXPANDING)
    (program.parent / "handlers" / "serve.py").write_text("raise SystemExit('broken')")


def cannot_migrate(program: Path) -> None:
    add_migration(program, oldest_program=HEAD, statement=FAILING)


def shuts_the_last_out(program: Path) -> None:
    add_migration(program, oldest_program=NEXT, statement=RENAMING)


@pytest.mark.parametrize(
    ("breaking", "reason"),
    [
        (cannot_migrate, "division by zero"),
        (shuts_the_last_out, "Stop every one, and migrate without --only-compatible"),
        (answers_500, "smoke test of http://127.0.0.1:.*: POST /api/tasks: 500"),
        (migrates_and_does_not_start, "start taskapp1 .*: exit code 1"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_broken_version_is_rolled_back_by_itself_and_says_so(
    site: Site, breaking: Callable[[Path], None], reason: str
) -> None:
    last, revision = site.live(), site.revision()
    breaking(site.image(breaking.__name__))
    with used_all_the_time(site):
        said = site.deploy(breaking.__name__, code=1)
    assert re.search(f"^failed: .*{reason}", said, re.MULTILINE | re.DOTALL), said
    assert said.splitlines()[-1] == f"rolled back: {last} is live"
    assert (site.live(), site.running()) == (last, [last, last])
    assert site.revision() == (NEXT if breaking is migrates_and_does_not_start else revision)


def test_a_deployment_that_is_stopped_in_its_middle_is_rolled_back(site: Site) -> None:
    last = site.live()
    site.image("3.0")
    with site.start_deploying("3.0") as script:
        assert script.stdout
        for line in script.stdout:
            if line.startswith("done: start taskapp1"):
                script.send_signal(signal.SIGHUP)  # as when the connection of a workflow is lost
                break
        said = script.stdout.read()
    assert script.returncode == 1
    assert "failed: stopped by SIGHUP" in said
    assert (site.live(), site.running()) == (last, [last, last])


def test_a_proxy_without_the_servers_is_noticed_before_anything_is_changed(site: Site) -> None:
    last = site.live()
    settings = site.folder / "delivery.toml"
    right = settings.read_text()
    settings.write_text(right.replace("taskapp2 =", "taskapp3 ="))
    try:
        said = site.deploy("4.0", code=1)
    finally:
        settings.write_text(right)
    assert "failed: HAProxy has no server taskapp3" in said
    assert (site.live(), site.running()) == (last, [last, last])


def test_the_example_names_the_servers_of_haproxy_and_commands_that_a_shell_reads() -> None:
    example = tomllib.loads((DELIVERY / "delivery.toml").read_text())
    proxy = (CONFIGURATION / "haproxy.cfg").read_text()
    for name, url in example["servers"].items():
        assert f"server {name} {url.removeprefix('http://')} check" in proxy
    assert f"stats socket {example['haproxy']} " in proxy
    assert {*example["commands"]} == {"fetch", "migrate", "stop", "start"}
    for command in example["commands"].values():
        subprocess.run(["/bin/sh", "-nc", command], check=True)
