"""Hosts on one machine: network namespaces of Linux, joined by a bridge in a namespace of its own.

Needs root. Nothing is added to the network of the machine itself.
"""

import ctypes
import os
import secrets
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from tests.support.server_process import wait_until

CLONE_NEWNET = 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)


class Host:
    """A host with one address, its processes and its firewall."""

    def __init__(self, name: str, address: str, network: str) -> None:
        self.name, self.address = name, address
        self._namespace = Path("/run/netns", f"{network}-{name}")

    @property
    def launcher(self) -> list[str]:
        """Return the words before a command that run it on this host."""
        return ["nsenter", f"--net={self._namespace}"]

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [*self.launcher, *command], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Open sockets of this thread on the host while the block runs; they stay there."""
        with Path("/proc/thread-self/ns/net").open("rb") as before:
            with self._namespace.open("rb") as own:
                _set_namespace(own.fileno())
            try:
                yield
            finally:
                _set_namespace(before.fileno())

    def processes(self) -> list[int]:
        listed = subprocess.run(
            ["ip", "netns", "pids", self._namespace.name], capture_output=True, check=True
        )
        return [int(pid) for pid in listed.stdout.split() if int(pid) != os.getpid()]

    def kill_all(self) -> None:
        """Kill every process; those that it starts meanwhile too."""
        while processes := self.processes():
            for pid in processes:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda known=processes: not any(map(_is_running, known)))  # type: ignore[misc]  # mypy reads defaults of a lambda as missing arguments

    @contextmanager
    def cut_off(self, *others: "Host", ports: tuple[int, ...] = ()) -> Iterator[None]:
        """Drop packets silently while the block runs: those of some hosts and TCP ports, or all."""
        tcp = ["-p", "tcp", "-m", "multiport", "--ports", ",".join(map(str, ports))]
        rules = [
            rule
            for other in others
            for rule in (["INPUT", "-s", other.address], ["OUTPUT", "-d", other.address])
        ] or [["INPUT", "!", "-i", "lo"], ["OUTPUT", "!", "-o", "lo"]]
        rules = [[*rule, *(tcp if ports else []), "-j", "DROP"] for rule in rules]
        for rule in rules:
            self.run("iptables", "-w", "-I", *rule)
        try:
            yield
        finally:
            for rule in rules:
                self.run("iptables", "-w", "-D", *rule)

    def create(self, switch: Path) -> None:
        _ip("netns", "add", self._namespace.name)
        port = ["peer", "name", self.name, "netns", switch.name]
        _ip("link", "add", "eth0", "netns", self._namespace.name, "type", "veth", *port)
        _ip("-n", switch.name, "link", "set", self.name, "master", "bridge", "up")
        _ip("-n", self._namespace.name, "address", "add", f"{self.address}/24", "dev", "eth0")
        for link in ("lo", "eth0"):
            _ip("-n", self._namespace.name, "link", "set", link, "up")

    def delete(self) -> None:
        self.kill_all()
        _ip("netns", "delete", self._namespace.name)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _set_namespace(descriptor: int) -> None:
    if LIBC.setns(descriptor, CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"  # the end of a child is read by its parent


@contextmanager
def running_hosts(addresses: Mapping[str, str]) -> Iterator[dict[str, Host]]:
    """Create hosts by name and address, in one network of 256 addresses."""
    if os.geteuid() != 0:
        pytest.fail("network namespaces need root: run this as root")
    network = f"ta-{secrets.token_hex(4)}"
    switch = Path(f"{network}-switch")
    hosts = {name: Host(name, address, network) for name, address in addresses.items()}
    with ExitStack() as stack:
        _ip("netns", "add", switch.name)
        stack.callback(_ip, "netns", "delete", switch.name)
        _ip("-n", switch.name, "link", "add", "bridge", "type", "bridge")
        _ip("-n", switch.name, "link", "set", "bridge", "up")
        for host in hosts.values():
            host.create(switch)
            stack.callback(host.delete)
        yield hosts
