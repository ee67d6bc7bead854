#!/usr/bin/env python3
"""Brings an image of taskapp live behind HAProxy: `deploy.py CONFIGURATION IMAGE`.

Fetches the image, migrates the tables, then replaces one server after the other. HAProxy sends a
server nothing while it is replaced, and uses it again after a smoke test; the last smoke test goes
through the site. Whatever fails brings the last image back, by itself. Needs nothing but Python.

Exit codes: 0, the image is live; 1, it is not, and the last one is; 2, a server is out of use.
"""

import argparse
import csv
import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from smoke_test import SmokeTestError, smoke_test

BACKEND = "api"  # of haproxy.cfg; `pages` tracks its servers
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)


class DeploymentError(Exception):
    """A step failed; the message says which and why."""


@dataclass(frozen=True)
class Configuration:
    """A site; delivery.toml describes each field."""

    site: str
    connect: str
    haproxy: Path
    live: Path
    timeout: float  # seconds
    servers: dict[str, str]
    commands: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> "Configuration":
        """Read a file; raises OSError, KeyError, TypeError or ValueError."""
        found = tomllib.loads(path.read_text(encoding="utf-8"))
        paths = {name: Path(found[name]) for name in ("haproxy", "live")}
        return cls(**found | paths)

    def live_image(self) -> str:
        """Return the image that is live; empty before the first deployment."""
        return self.live.read_text(encoding="utf-8").strip() if self.live.exists() else ""

    def record_live(self, image: str) -> None:
        """Write which image is live."""
        new = self.live.with_suffix(".new")
        new.write_text(f"{image}\n", encoding="utf-8")
        new.replace(self.live)


class Deployment:
    """One image on its way to all servers."""

    def __init__(self, configuration: Configuration, image: str) -> None:
        self._configuration = configuration
        self._image = image
        self._replaced: list[str] = []  # servers

    def run(self) -> int:
        """Bring the image live, or the last one back, and return the exit code."""
        last = self._configuration.live_image()
        try:
            self._deploy()
            ignore_signals()
            self._configuration.record_live(self._image)
        except Exception as error:  # whatever it is, the site has to work
            ignore_signals()
            say(f"failed: {error}")
            return self._roll_back(last)
        say(f"live: {self._image}")
        return 0

    def _deploy(self) -> None:
        if unknown := self._configuration.servers.keys() - {row["svname"] for row in self._rows()}:
            raise DeploymentError(f"HAProxy has no server {' or '.join(sorted(unknown))}")
        self._run_command("fetch", self._image)
        self._run_command("migrate", self._image)
        for server in self._configuration.servers:
            self._replaced.append(server)
            self._replace(server, self._image)
        self._smoke_test(self._configuration.site, self._configuration.connect)

    def _roll_back(self, last: str) -> int:
        """Bring the last image back to every server that may have the new one."""
        if self._replaced and not last:
            say("not rolled back: no image was live before")
            return 2
        failed = [server for server in self._replaced if not self._is_rolled_back(server, last)]
        if failed:
            say(f"not rolled back: {' and '.join(failed)}, which HAProxy does not use")
            return 2
        say(f"rolled back: {last or 'nothing'} is live")
        return 1

    def _is_rolled_back(self, server: str, last: str) -> bool:
        try:
            self._replace(server, last)
        except Exception as error:  # the other servers still have to be rolled back
            say(f"failed: {error}")
            return False
        return True

    def _replace(self, server: str, image: str) -> None:
        address = self._configuration.servers[server]
        self._set_state(server, "maint")
        self._wait(f"{server} has no request", lambda: self._count_sessions(server) == 0)
        self._run_command("stop", image, server)
        self._run_command("start", image, server)
        self._wait(f"{server} is ready", lambda: is_ready(address))
        self._smoke_test(address)
        self._set_state(server, "ready")

    def _run_command(self, name: str, image: str, server: str = "") -> None:
        """Run a command of the configuration; what it prints is shown if it fails."""
        port = str(urlsplit(self._configuration.servers[server]).port) if server else ""
        done = subprocess.run(  # noqa: S603  # the operator's own commands
            ["/bin/sh", "-euc", self._configuration.commands[name]],
            env=os.environ | {"IMAGE": image, "SERVER": server, "PORT": port},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        what = " ".join(filter(None, (name, server, image)))
        if done.returncode != 0:
            raise DeploymentError(f"{what}: exit code {done.returncode}\n{done.stdout.rstrip()}")
        say(f"done: {what}")

    def _smoke_test(self, url: str, connect: str = "") -> None:
        try:
            smoke_test(url, connect)
        except SmokeTestError as error:
            raise DeploymentError(f"smoke test of {url}: {error}") from error
        say(f"done: smoke test of {url}")

    def _wait(self, what: str, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self._configuration.timeout
        while not condition():
            if time.monotonic() > deadline:
                raise DeploymentError(f"not within {self._configuration.timeout:g} s: {what}")
            time.sleep(0.1)
        say(f"done: {what}")

    def _set_state(self, server: str, state: str) -> None:
        if refusal := self._ask_haproxy(f"set server {BACKEND}/{server} state {state}").strip():
            raise DeploymentError(f"HAProxy: {refusal}")

    def _count_sessions(self, server: str) -> int:
        """Return how many requests a server has, in all backends."""
        return sum(int(row["scur"]) for row in self._rows() if row["svname"] == server)

    def _rows(self) -> list[dict[str, str]]:
        """Return the statistics of HAProxy, a row for each server of each backend."""
        return [*csv.DictReader(self._ask_haproxy("show stat").lstrip("# ").splitlines())]

    def _ask_haproxy(self, command: str) -> str:
        """Send a command to HAProxy's socket, and return what it answers."""
        path = self._configuration.haproxy
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._configuration.timeout)
                connection.connect(str(path))
                connection.sendall(f"{command}\n".encode())
                with connection.makefile(encoding="utf-8") as answer:
                    return answer.read()
        except OSError as error:
            raise DeploymentError(f"HAProxy's socket {path}: {error}") from error


def is_ready(address: str) -> bool:
    """Return whether a server answers that it is ready."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=5)
    try:
        connection.request("GET", "/api/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def say(line: str) -> None:
    """Print a line; nobody may read any more, as when the connection of a workflow is lost."""
    with suppress(OSError):
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()


def ignore_signals() -> None:
    """Let nothing interrupt what brings all servers to one image."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def stop(number: int, _frame: FrameType | None) -> NoReturn:
    """End the deployment where it is, as if that step had failed."""
    ignore_signals()
    raise DeploymentError(f"stopped by {signal.Signals(number).name}")


def main() -> int:
    """Deploy, and return the exit code."""
    parser = argparse.ArgumentParser(description="Brings an image of taskapp live behind HAProxy.")
    parser.add_argument("configuration", type=Path)
    parser.add_argument("image")
    options = parser.parse_args()
    configuration = Configuration.read(options.configuration)
    for number in SIGNALS:
        signal.signal(number, stop)
    with configuration.live.with_suffix(".lock").open("a") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        return Deployment(configuration, options.image).run()


if __name__ == "__main__":
    sys.exit(main())
