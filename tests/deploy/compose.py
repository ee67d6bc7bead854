"""Runs the services of a compose file with podman, from its parsed text.

Debian's Compose is too old for the file. `podman-compose` does not know `configs`, nor, with
Debian's podman, the condition `service_healthy`.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.containers import SERVICES, Engine
from tests.support.server_process import wait_until

Service = dict[str, Any]
# An image is built beforehand, and a service that ends has failed.
WITHOUT_EFFECT = {"build", "image", "logging", "restart"}
FLAGS = {
    "cap_add": "--cap-add",
    "cap_drop": "--cap-drop",
    "ports": "--publish",
    "security_opt": "--security-opt",
    "tmpfs": "--tmpfs",
}
TEXTS = {
    "shm_size": "--shm-size",
    "stop_signal": "--stop-signal",
    "user": "--user",
}
POOLS = {"subnet": "--subnet", "ip_range": "--ip-range"}


class Project:
    """The services of a file, beside copies of the files that an operator adds."""

    def __init__(self, engine: Engine, file: Path, own: Path, variables: dict[str, str]) -> None:
        """`own` has the operator's `secrets` and `tls`; `variables` are those of .env."""
        self._engine, self._beside, self._own = engine, file.parent, own

        def interpolated(found: re.Match[str]) -> str:
            return variables[found[1]] if found[1] else "$"

        text = re.sub(r"\$(?:\$|\{(\w+)(?::\?[^}]*)?\})", interpolated, file.read_text())
        self._file: dict[str, Any] = yaml.safe_load(text)
        self.services: dict[str, Service] = self._file["services"]
        self._started: set[str] = set()

    def create_networks(self) -> None:
        for name, network in self._file["networks"].items():
            pools = network.get("ipam", {}).get("config", [])
            options = [f"{POOLS[key]}={text}" for pool in pools for key, text in pool.items()]
            options += ["--internal"] if network.get("internal") else []
            self._engine.run("network", "create", *options, name)

    def up(self) -> None:
        """Start all services."""
        self.create_networks()
        for name in self.services:
            self.start(name)

    def down(self) -> None:
        """Remove all services, their volumes and networks."""
        self._engine.remove_all()
        self._engine.run("network", "rm", "--force", *self._file["networks"])

    def address(self, name: str) -> str:
        """Return the address of a service in its first network."""
        [address, *_] = self._engine.run(
            "inspect", "--format={{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}", name
        ).split()
        return address

    def start(self, name: str) -> None:
        """Start a service as soon as those that it depends on are as it wants them."""
        if name in self._started:
            return
        self._started.add(name)
        service = self.services[name]
        needed = service.get("depends_on", {})
        for other in needed:
            self.start(other)
        for other, wanted in needed.items():
            self._wait(other, wanted["condition"])
        words = service.get("command", [])
        options = self._options(name, service)
        self._engine.run("run", "--detach", f"--name={name}", *options, image_of(service), *words)

    def run(self, name: str, *words: str) -> str:
        """Run a command as `compose run --rm` does, and return what it prints."""
        service = self.services[name]
        options = self._options(name, service)
        return self._engine.run("run", "--rm", *options, image_of(service), *words)

    def _wait(self, name: str, condition: str) -> None:
        if condition == "service_completed_successfully":
            assert self._engine.exit_code(name) == 0, self.log(name)
        else:
            assert condition == "service_healthy"
            self.wait_until_healthy(name)

    def wait_until_healthy(self, name: str) -> None:
        """Ask a service how it is, as an engine's timer does; that of podman needs systemd."""
        health = ("healthcheck", "run", name)
        wait_until(
            lambda: self._engine.try_to_run(*health).returncode == 0 or self._has_failed(name)
        )

    def _has_failed(self, name: str) -> bool:
        """Fail the test if a service runs no more."""
        state = self._engine.run("inspect", "--format={{.State.Running}}", name)
        assert state == "true", self.log(name)
        return False

    def log(self, name: str) -> str:
        done = self._engine.try_to_run("logs", name)
        return done.stdout + done.stderr

    def _options(self, name: str, service: Service) -> list[str]:
        """Return what `podman run` is told; a key that is not known fails the test."""
        rest = {key: value for key, value in service.items() if key not in WITHOUT_EFFECT}
        for key in ("command", "depends_on"):
            rest.pop(key, None)
        options = [f"{TEXTS[key]}={rest.pop(key)}" for key in TEXTS if key in rest]
        options += [f"{FLAGS[key]}={each}" for key in FLAGS for each in rest.pop(key, [])]
        options += [f"--network={each}" for each in networks_of(rest.pop("networks"))]
        options += [f"--env={key}={text}" for key, text in rest.pop("environment", {}).items()]
        options += [f"--volume={self._volume(each)}" for each in rest.pop("volumes", [])]
        for secret in rest.pop("secrets", []):
            path = self._path(self._file["secrets"][secret]["file"])
            options.append(f"--volume={path}:/run/secrets/{secret}:ro")
        for config in rest.pop("configs", []):
            path = self._own / config["source"]
            path.write_text(self._file["configs"][config["source"]]["content"])
            options.append(f"--volume={path}:{config['target']}:ro")
        if health := rest.pop("healthcheck", None):
            kind, *command = health["test"]
            assert kind == "CMD"
            options.append(f"--health-cmd={json.dumps(command)}")
        if seconds := rest.pop("stop_grace_period", ""):
            options.append(f"--stop-timeout={seconds.removesuffix('s')}")
        assert rest.pop("read_only") is True
        assert rest == {}, f"the service {name} has keys that are not tried"
        return ["--read-only", *options]

    def _volume(self, text: str) -> str:
        source, _, rest = text.partition(":")
        return f"{self._path(source) if source.startswith('.') else source}:{rest}"

    def _path(self, text: str) -> Path:
        own = text.startswith(("./secrets", "./tls"))
        return (self._own if own else self._beside) / text


@contextmanager
def running_project(
    engine: Engine, file: Path, own: Path, variables: dict[str, str]
) -> Iterator[Project]:
    """Run all services of a file."""
    project = Project(engine, file, own, variables)
    try:
        project.up()
        yield project
    finally:
        project.down()


def networks_of(names: list[str] | dict[str, dict[str, str]]) -> Iterator[str]:
    """Yield the networks of a service, each with the address that is the service's own."""
    for name in names:
        address = names[name]["ipv4_address"] if isinstance(names, dict) else ""
        yield f"{name}:ip={address}" if address else name


def image_of(service: Service) -> str:
    image: str = service["image"]
    return image if image == "taskapp" else SERVICES
