"""A taskapp with users, scraped by a real Prometheus with the configuration of deploy/."""

import json
import math
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

CONFIGURATION = CHECKOUT / "deploy" / "prometheus"
RATE_INTERVAL = "10s"  # several scrapes, which are a second apart here
SETTINGS = {
    "TASKAPP_API_LIMIT": "300/minute",  # one of the users below reaches it
    "TASKAPP_BACKUP_EVERY": "10s",
}


@dataclass(frozen=True)
class Prometheus:
    """A client of Prometheus."""

    address: str

    def ask(self, path: str, **parameters: Any) -> Any:
        """Return the data of a response of its API."""
        address = f"{self.address}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(  # noqa: S310  # an address of our own
            address, timeout=LONG_ENOUGH
        ) as response:
            return json.load(response)["data"]

    def query(self, expression: str, shown: str = "5m") -> list[tuple[dict[str, str], float]]:
        """Return each series of a panel's query with its current value; omit those without one."""
        result = self.ask("query", query=_filled_in(expression, shown))["result"]
        series = [(one["metric"], float(one["value"][1])) for one in result]
        return [(labels, value) for labels, value in series if math.isfinite(value)]

    def query_range(
        self, expression: str, seconds: float, points: int = 90
    ) -> list[tuple[dict[str, str], list[tuple[float, float]]]]:
        """Return each series of a panel's query with its timestamps and values until now."""
        now = time.time()
        result = self.ask(
            "query_range",
            query=_filled_in(expression, f"{int(seconds)}s"),
            start=now - seconds,
            end=now,
            step=max(1.0, seconds / points),
        )["result"]
        return [
            (one["metric"], [(at, float(text)) for at, text in one["values"]]) for one in result
        ]


def _filled_in(expression: str, shown: str) -> str:
    return expression.replace("$__rate_interval", RATE_INTERVAL).replace("$__range", shown)


@contextmanager
def monitored_server() -> Iterator[tuple[ServerProcess, Prometheus]]:
    """Run taskapp, both exporters, and Prometheus, which scrapes them every second."""
    with (
        new_data_folder() as folder,
        server_process(folder, settings=SETTINGS) as server,
        _exporter_of_the_machine() as machine,
    ):
        server.wait_until_ready()
        with (
            _exporter_of_postgres(folder) as postgres,
            _prometheus(folder.parent / "prometheus", int(server.address), machine, postgres) as it,
        ):
            yield server, it
        server.end()


@contextmanager
def _exporter_of_the_machine() -> Iterator[int]:
    with (
        reserved_port() as port,
        running_program("prometheus-node-exporter", f"--web.listen-address=127.0.0.1:{port}"),
    ):
        yield port


@contextmanager
def _exporter_of_postgres(data_folder: Path) -> Iterator[int]:
    url = f"postgresql://taskapp@/postgres?host={data_folder / 'socket'}&sslmode=disable"
    with (
        reserved_port() as port,
        running_program(
            "prometheus-postgres-exporter",
            f"--web.listen-address=127.0.0.1:{port}",
            f"--extend.query-path={CONFIGURATION / 'postgres_exporter.yml'}",
            DATA_SOURCE_NAME=url,
        ),
    ):
        yield port


@contextmanager
def _prometheus(folder: Path, taskapp: int, machine: int, postgres: int) -> Iterator[Prometheus]:
    shutil.copytree(CONFIGURATION, folder)
    file = folder / "prometheus.yml"
    configuration = file.read_text()
    with reserved_port() as nobody, reserved_port() as port:
        for old, new in (
            ("127.0.0.1:8000", f"127.0.0.1:{taskapp}"),
            ("127.0.0.1:9100", f"127.0.0.1:{machine}"),
            ("127.0.0.1:9187", f"127.0.0.1:{postgres}"),
            ("127.0.0.1:9093", f"127.0.0.1:{nobody}"),  # who would be called
            ("_interval: 15s", "_interval: 1s"),
        ):
            assert old in configuration
            configuration = configuration.replace(old, new)
        file.write_text(configuration)
        with running_program(
            "prometheus",
            f"--config.file={file}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--log.level=error",
        ):
            it = Prometheus(f"http://127.0.0.1:{port}")
            wait_until(lambda: _all_are_scraped(it))
            yield it


def _all_are_scraped(prometheus: Prometheus) -> bool:
    with suppress(URLError, ConnectionError):
        targets = prometheus.ask("targets")["activeTargets"]
        return bool(targets) and all(target["health"] == "up" for target in targets)
    return False


@contextmanager
def running_program(program: str, *arguments: str, **environment: str) -> Iterator[None]:
    """Run a program while the block runs, with its output in a file."""
    process = subprocess.Popen(
        [program, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"} | environment,
    )
    try:
        yield
        assert process.poll() is None, f"{program} ended by itself"
    finally:
        process.terminate()
        try:
            process.wait(LONG_ENOUGH)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class People:
    """Users who do everything that the dashboards show."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._numbers = count(1)
        self._users = [server.client().sign_up(f"user-{n}@example.com") for n in range(5)]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Let them work for as long as the block lasts."""
        stopped = threading.Event()
        work = threading.Thread(target=self._work, args=[stopped])
        work.start()
        try:
            yield
        finally:
            stopped.set()
            work.join()

    def _work(self, stopped: threading.Event) -> None:
        """Work in rounds, with a quarter of a second between two."""
        self._exceed_a_limit()
        while not stopped.wait(0.25):
            number = next(self._numbers)
            self._keep_tasks(number)
            if number % 4 == 0:
                self._come_and_go(number)

    def _exceed_a_limit(self) -> None:
        bob = self._server.client().sign_up("bob@example.com")
        while bob.send("GET", "/api/tasks").status != 429:
            pass

    def _keep_tasks(self, number: int) -> None:
        user = self._users[number % len(self._users)]
        made = user.send("POST", "/api/tasks", {"title": f"Task {number}"})
        path = f"/api/tasks/{made.json['id']}"
        user.send("PUT", path, {"status": "completed"})
        if number % 3 == 0:
            user.send("DELETE", path)
        for _ in range(1 + number % 3):
            user.send("GET", "/api/tasks")

    def _come_and_go(self, number: int) -> None:
        email = f"person-{number}@example.com"
        stranger = self._server.client()
        stranger.register(email)
        for password in ("something else", ""):
            body = {"email": email, "password": password}
            stranger.send("POST", "/api/auth/login", body)
        stranger.log_in(email)
        stranger.send("GET", "/api/tasks")
        stranger.send("POST", "/api/tasks", {"title": ""})
        stranger.send("GET", "/api/tasks/1")
        if number % 8 == 0:
            stranger.send("POST", "/api/auth/logout")
            stranger.send("GET", "/api/tasks")
        stranger.token = "nonsense"
        stranger.send("GET", "/api/tasks")
        stranger.send("GET", "/login")
        stranger.close()
