"""Runs several machines on this one: namespaces of Linux, each with systemd, sshd and a disk.

A machine sees nothing of this one but its programs, which it may change without changing them here.
It is reached by ssh at its address in a network of its own; the network leads nowhere else.
"""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.support.server_process import wait_until

BOOT = Path(__file__).with_name("boot_machine.sh")
CONTROL_GROUPS = Path("/sys/fs/cgroup")
NETWORKS = range(1, 255)
NAMESPACES = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
# Enters a control group, then becomes what boots; it ends with whoever started it.
ENTER = 'mkdir -p $1 && echo $$ >$1/cgroup.procs && shift && exec "$@"'


class CannotRun(Exception):
    """Says why this machine cannot run others."""


def run(*command: str | Path) -> str:
    """Run a command to its end, and return what it prints; its errors are shown."""
    done = subprocess.run([*map(str, command)], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def check_rights() -> None:
    """Raise CannotRun unless namespaces can be made here."""
    if os.geteuid() != 0:
        raise CannotRun(
            "machines in namespaces need root: run this as root, or in a virtual machine"
        )
    made = subprocess.run(
        ["unshare", *NAMESPACES, "--fork", "mount", "--make-rprivate", "/"],
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode != 0:
        raise CannotRun(f"machines need namespaces, which are refused here: {made.stderr.strip()}")


class Machine:
    """A machine that can be started, and lose its power or its disk."""

    def __init__(self, network: "Network", name: str, number: int, shared: Path) -> None:
        self.name = name
        self.address = f"{network.prefix}.{number}"
        self.folder = network.folder / name
        self._network = network
        self._shared = shared
        self._link = f"{network.bridge}-{number}"
        self._process: subprocess.Popen[bytes] | None = None
        systemd = CONTROL_GROUPS / "systemd"  # which has a hierarchy of its own before version 2
        parent = systemd if systemd.is_dir() else CONTROL_GROUPS
        self._group = parent / f"{network.bridge}-{name}"

    @property
    def pid(self) -> int:
        """Return the process id of its systemd; 0 if there is none."""
        assert self._process is not None
        unshare = self._process.pid
        children = ""
        with suppress(OSError):
            children = Path(f"/proc/{unshare}/task/{unshare}/children").read_text()
        outside = {namespace_of("self"), ""}
        inside = (int(child) for child in children.split() if namespace_of(child) not in outside)
        return next(inside, 0)

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Turn it on; `ssh` works some seconds later."""
        self.kill()  # what is left of one that has turned itself off
        self.folder.mkdir(exist_ok=True)
        enter = ["setpriv", "--pdeathsig", "KILL", "sh", "-c", ENTER, "sh", self._group]
        become = ["unshare", *NAMESPACES, "--fork", "--kill-child", "sh", BOOT, self.name]
        place = [f"{self.address}/24", self.folder, self._shared]
        with Path(f"{self.folder}.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*map(str, [*enter, *become, *place])],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until(lambda: self.pid != 0)
        run("ip", "link", "add", self._link, "type", "veth", "peer", "eth0", "netns", str(self.pid))
        run("ip", "link", "set", self._link, "master", self._network.bridge, "up")
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.close()

    def wait_for_ssh(self) -> None:
        wait_until(lambda: self.attempt("systemctl", "is-active", "ssh").returncode == 0)

    def kill(self) -> None:
        """Cut its power: all its processes end at once, and its disk stays."""
        if self._process is None:
            return
        if pid := self.pid:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        else:
            self._process.kill()
        self._process.wait()
        self._process = None
        subprocess.run(["ip", "link", "delete", self._link], check=False, capture_output=True)
        remove_control_group(self._group)

    def execute(self, *command: str | Path) -> str:
        """Run a command on it, and return what it prints."""
        return run("nsenter", "--all", "--target", str(self.pid), "--", *command)

    def attempt(self, *command: str | Path) -> "subprocess.CompletedProcess[str]":
        """Run a command on it that may fail."""
        return subprocess.run(
            ["nsenter", "--all", "--target", str(self.pid), "--", *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
        )

    def write(self, path: str, content: str) -> None:
        """Write a file on it."""
        command = ["nsenter", "--all", "--target", str(self.pid), "--", "tee", path]
        subprocess.run(command, input=content, text=True, check=True, stdout=subprocess.DEVNULL)

    def copy(self, source: Path, target: str) -> None:
        """Copy a folder of this machine to it."""
        packed = subprocess.run(["tar", "-C", source, "-c", "."], check=True, capture_output=True)
        self.execute("mkdir", "-p", target)
        command = ["nsenter", "--all", "--target", str(self.pid), "--", "tar", "-C", target, "-x"]
        subprocess.run(command, input=packed.stdout, check=True)

    def wipe(self) -> None:
        """Put an empty disk into it, while it is off."""
        assert not self.is_on
        run("rm", "-rf", self.folder)  # many files, which would keep other threads waiting

    def log(self) -> str:
        """Return the end of its journal."""
        return self.attempt(
            "journalctl", "--no-pager", "--lines=60", "--output=short-monotonic"
        ).stdout


def namespace_of(pid: str) -> str:
    """Return the namespace of process ids in which a process is; empty if it has ended."""
    with suppress(OSError):
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    return ""


def remove_control_group(group: Path) -> None:
    """Remove a control group of processes that have ended."""
    for folder in sorted(group.rglob("*/"), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):
        group.rmdir()


class Network:
    """A switch with machines; this machine is at .1 of it."""

    def __init__(self, folder: Path, number: int) -> None:
        self.folder = folder
        self.bridge = f"tasknet{number}"
        self.prefix = f"10.77.{number}"
        self.machines: list[Machine] = []

    def add(self, name: str, number: int, shared: Path) -> Machine:
        """Add a machine, which is off, with the last part of its address."""
        machine = Machine(self, name, number, shared)
        self.machines.append(machine)
        return machine

    @property
    def key(self) -> Path:
        """Return the file of the key with which ssh logs in to each machine as root."""
        return self.folder / "key"


def free_network() -> int:
    """Create a switch whose network nobody uses, and return its number."""
    for number in NETWORKS:
        command = ["ip", "link", "add", f"tasknet{number}", "type", "bridge"]
        if subprocess.run(command, check=False, capture_output=True).returncode == 0:
            return number
    raise CannotRun("all networks from 10.77.1.0/24 on are in use")


@contextmanager
def running_network() -> Iterator[Network]:
    """Run a switch; at the end its machines are off and gone.

    Raises CannotRun.
    """
    check_rights()
    folder = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))
    network = Network(folder, free_network())
    try:
        folder.chmod(0o755)
        run("ip", "address", "add", f"{network.prefix}.1/24", "dev", network.bridge)
        run("ip", "link", "set", network.bridge, "up")
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", network.key)
        yield network
    finally:
        for machine in network.machines:
            machine.kill()
        run("ip", "link", "delete", network.bridge)
        # The sockets of ssh's connections vanish by themselves at this moment.
        shutil.rmtree(folder, ignore_errors=True)
