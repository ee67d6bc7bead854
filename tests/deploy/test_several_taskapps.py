"""Several taskapps, started like deploy/taskapp@.service, on one PostgreSQL behind nginx."""

import json
import socket
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.auth.test_rate_limits import redis_server
from tests.deploy.postgres import running_postgres
from tests.deploy.proxy import HOST, Proxy, running_proxy
from tests.deploy.unit_files import NONE_PASSED, read_environment, read_unit
from tests.support.server_process import (
    CHECKOUT,
    PROGRAM,
    ServerProcess,
    new_data_folder,
    ordinary_user,
    reserved_port,
    server_process,
    wait_until,
)

DEPLOY = CHECKOUT / "deploy"
UNIT = DEPLOY / "taskapp@.service"
UNIT_OF_ONE = DEPLOY / "taskapp.service"
OWN_POSTGRESQL = DEPLOY / "taskapp-own-postgresql.conf"
LOGIN_LIMIT = 5  # wrong passwords of one address, the default
TIMEOUT = 20  # seconds
READERS = 4
BETWEEN = 0.03  # seconds between two requests of a reader: nginx allows 50 a second from an address
MALLORY = "127.0.0.66"
JSON = ("-H", "Content-Type: application/json")


def lines_of(path: Path) -> set[str]:
    text = path.read_text(encoding="utf-8")
    return {line for line in text.splitlines() if "=" in line and not line.startswith("#")}


def test_the_unit_of_several_differs_from_that_of_one_by_these_lines_alone() -> None:
    several, one, own = lines_of(UNIT), lines_of(UNIT_OF_ONE), lines_of(OWN_POSTGRESQL)
    assert own <= several
    assert several - one - own == {
        "Description=taskapp task tracker on port %i",
        "After=network-online.target postgresql.service redis-server.service",
        "Environment=TASKAPP_PORT=%i",
        "Environment=TASKAPP_LIMIT_STORAGE=redis://127.0.0.1:6379/0",
        "Slice=taskapp.slice",
    }
    assert one - several == {
        "Description=taskapp task tracker",
        "Requires=taskapp.socket",
        "After=taskapp.socket network-online.target postgresql.service redis-server.service",
        "MemoryHigh=70%",  # of all instances: in the slice
        "MemoryMax=80%",
    }


class Machine:
    """What the instances on a machine share: PostgreSQL, Redis, data, secrets, settings."""

    def __init__(self, folder: Path, data_folder: Path, user: dict[str, Any]) -> None:
        self.folder = folder
        self.data_folder = data_folder
        self._user = user
        self._notify: dict[str, socket.socket] = {}
        self._settings: dict[str, str] = {}

    def prepare(self, stack: ExitStack) -> None:
        for name in ("pg", "credentials"):
            (self.folder / name).mkdir()
        postgres = stack.enter_context(running_postgres(self.folder / "pg"))
        postgres.add_roles(DEPLOY / "postgresql-roles.sql")
        stack.enter_context(redis_server(self.folder))
        secrets = {"database-url": postgres.url("taskapp"), "secret-key": "a-key-of-both" * 4}
        for name, text in secrets.items():
            (self.folder / "credentials" / name).write_text(text)
        self._settings = {  # the content of /etc/taskapp/settings
            "TASKAPP_DATA_DIR": str(self.data_folder),
            "TASKAPP_LIMIT_STORAGE": f"redis+unix://{self.folder}/redis.sock",
            "TASKAPP_LOGIN_LIMIT": f"{LOGIN_LIMIT}/15minute",
            "TASKAPP_MIGRATION_DATABASE_URL": postgres.url("taskapp_owner"),
            "TASKAPP_PUBLIC_URL": f"https://{HOST}",
            "TASKAPP_TRUSTED_PROXIES": "127.0.0.1",
        }
        (self.folder / "redis.sock").chmod(0o666)

    @contextmanager
    def started(self, port: str) -> Iterator[ServerProcess]:
        """Start an instance like its unit, and wait until it notifies that it is ready."""
        python, program = read_unit(UNIT)["ExecStart"][0].split()
        assert (python, program) == ("/opt/taskapp/.venv/bin/python", "/opt/taskapp/server.py")
        environment = read_environment(UNIT, port, self.folder / "credentials")
        assert environment["TASKAPP_DATA_DIR"] == f"/var/lib/{read_unit(UNIT)['StateDirectory'][0]}"
        path = self.folder / f"notify-{port}"
        path.unlink(missing_ok=True)
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify,
            server_process(
                self.data_folder,
                settings=environment | self._settings | {"NOTIFY_SOCKET": str(path)},
                launcher=[
                    *(sys.executable, str(Path(__file__).with_name("unit_files.py"))),
                    *(str(UNIT), NONE_PASSED, sys.executable, "-W", "error"),
                ],
                program=PROGRAM,
                **self._user,
            ) as server,
        ):
            notify.bind(str(path))
            path.chmod(0o666)
            notify.settimeout(TIMEOUT)
            self._notify[port] = notify
            assert self.hear(server) == "READY=1", server.log_text
            yield server

    def hear(self, server: ServerProcess) -> str:
        return self._notify[server.address].recv(4096).decode()

    def stop(self, server: ServerProcess) -> None:
        """Stop an instance like systemd, and assert that it ends cleanly."""
        assert server.end() == 0
        assert self.hear(server) == "STOPPING=1"
        assert server.surprises() == []
        assert server.log[-1]["event"] == "server.stopped"


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with (
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name,
        new_data_folder() as data_folder,
        ordinary_user(data_folder) as user,
        ExitStack() as stack,
    ):
        folder = Path(name)
        folder.chmod(0o755)  # neither nginx's workers nor taskapp are root
        machine = Machine(folder, data_folder, user)
        machine.prepare(stack)
        yield machine


@contextmanager
def two_behind_nginx(machine: Machine) -> Iterator[tuple[Proxy, list[ServerProcess]]]:
    with ExitStack() as stack:
        ports = [str(stack.enter_context(reserved_port())) for _ in range(2)]
        servers = [stack.enter_context(machine.started(port)) for port in ports]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=machine.folder)))
        folder.chmod(0o755)
        yield stack.enter_context(running_proxy(folder, ports)), servers


def test_they_are_one_site(machine: Machine) -> None:
    with two_behind_nginx(machine) as (proxy, [one, other]):
        alice = one.client().sign_up("alice@example.com")
        assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
        alice.moved_to(other.address)
        assert alice.titles() == ["Buy milk"]
        assert alice.send("POST", "/api/auth/logout").status == 200
        assert alice.moved_to(one.address).send("GET", "/api/tasks").status == 401
        wrong = json.dumps({"email": "alice@example.com", "password": "wrong"})
        statuses = [  # nginx alternates between them, and they count together
            proxy.curl("/api/auth/login", *JSON, "-d", wrong, come_from=MALLORY).status
            for _ in range(LOGIN_LIMIT + 1)
        ]
        assert statuses == [401] * LOGIN_LIMIT + [429]
        for server in (one, other):
            assert served(server, "/api/auth/login") > 1
            machine.stop(server)


def served(server: ServerProcess, route: str) -> int:
    lines = [line for line in server.log if line["event"] == "request.completed"]
    return [line["route"] for line in lines].count(route)


def use_until(
    stopped: threading.Event, proxy: Proxy, number: int, token: str, results: "Counter[int]"
) -> None:
    """Read and complete tasks as one client, on keep-alive connections to nginx."""
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with proxy.connected(f"127.0.0.{number + 10}") as connection:

        def send(method: str, path: str, body: str | None = None) -> Any:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            text = response.read()
            results[response.status] += 1
            return json.loads(text)

        path = f"/api/tasks/{send('GET', '/api/tasks')['tasks'][0]['id']}"
        while not stopped.wait(BETWEEN):
            send("GET", path)
            send("PUT", path, '{"status": "completed"}')


@contextmanager
def in_use(proxy: Proxy, token: str) -> Iterator["Counter[int]"]:
    """Use the site from several addresses; return the number of responses by status."""
    stopped = threading.Event()
    results: Counter[int] = Counter()
    users = [
        threading.Thread(target=use_until, args=(stopped, proxy, number, token, results))
        for number in range(READERS)
    ]
    for user in users:
        user.start()
    try:
        yield results
    finally:
        stopped.set()
        for user in users:
            user.join()


def test_one_that_is_killed_and_one_that_is_stopped_fail_no_request_that_can_be_repeated(
    machine: Machine,
) -> None:
    with two_behind_nginx(machine) as (proxy, [killed, stopped]), ExitStack() as again:
        bob = stopped.client().sign_up("bob@example.com")
        assert bob.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201

        def is_asked_on(count: int) -> bool:
            return results.total() > count

        with in_use(proxy, bob.token) as results:
            wait_until(lambda: is_asked_on(100))
            killed.process.kill()
            seen = results.total()
            wait_until(lambda: is_asked_on(seen + 200))
            killed.process.wait()
            replaced = again.enter_context(machine.started(killed.address))  # like systemd
            wait_until(lambda: served(replaced, "/api/tasks/:id") > 10)
            machine.stop(stopped)
            seen = results.total()
            wait_until(lambda: is_asked_on(seen + 200))
        assert set(results) == {200}
        machine.stop(replaced)
        assert [*machine.data_folder.iterdir()] == []  # they store everything in the database
