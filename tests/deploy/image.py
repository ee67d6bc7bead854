"""Executes a Dockerfile step by step, and runs the image, without a container engine.

Without a registry there is no base image: a stage begins with this machine's /usr and /etc under an
overlay, and with this Python at /usr/local, as in Docker's Python images (and at its own path,
where it finds its library). All of it is on a tmpfs of a mount namespace, and disappears with it.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.server_process import wait_until

PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
# Variables of this machine with which pip reaches its index; an engine has them in its settings.
PASSED = (*PROXIES, "SSL_CERT_FILE", "PIP_CERT", "PIP_INDEX_URL")
BASE = """
mkdir -p {root}/usr {root}/etc {stage}/upper-usr {stage}/work-usr {stage}/upper-etc {stage}/work-etc
mkdir -p {root}/proc {root}/dev {root}/tmp {root}/var/lib {root}/run {root}/root
mount -t overlay -o lowerdir=/usr,upperdir={stage}/upper-usr,workdir={stage}/work-usr o {root}/usr
mount -t overlay -o lowerdir=/etc,upperdir={stage}/upper-etc,workdir={stage}/work-etc o {root}/etc
mount --bind {python} {root}/usr/local
mkdir -p {root}{python}
mount --bind {python} {root}{python}
for name in bin sbin lib lib64; do ln -s usr/$name {root}/$name; done
mount --rbind /dev {root}/dev
mount -t proc proc {root}/proc
chmod 1777 {root}/tmp
# A base image has no user of ours; this machine may.
for file in passwd shadow group gshadow; do sed -i /^taskapp:/d {root}/etc/$file; done
"""
# Like `read_only: true` with the volume and a tmpfs.
RUN = """
mount --rbind {root} {root}
mount --bind {root}{volume} {root}{volume}
mount -t proc proc {root}/proc
mount -t tmpfs -o mode=1777 tmpfs {root}/tmp
for part in "" /usr /etc; do mount -o remount,bind,ro {root}$part; done
"""


@dataclass
class Stage:
    """A stage of the build: its file system, and the instructions so far."""

    root: str
    workdir: str = "/"
    user: str = "root"
    environment: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )
    said: dict[str, str] = field(default_factory=dict)  # other instructions by name


@dataclass(frozen=True)
class Image:
    """The result of a build; its files are visible only inside `enter`."""

    stage: Stage
    enter: list[str]  # the command that enters the namespace of the build

    def command(self, words: list[str], environment: dict[str, str]) -> list[str]:
        """Return the command that runs words like a container: as process 1, without privileges."""
        stage = self.stage
        shown = stage.environment | {"HOME": "/var/lib/taskapp"} | environment
        variables = [f"{name}={value}" for name, value in shown.items()]
        user, _, group = stage.user.partition(":")
        start = RUN.format(root=stage.root, volume=stage.said["VOLUME"]) + (
            f"exec chroot {stage.root} env -i -C {stage.workdir} {shlex.join(variables)}"
            f" setpriv --reuid={user} --regid={group} --clear-groups --no-new-privs"
            f" --inh-caps=-all --bounding-set=-all {shlex.join(words)}"
        )
        return [
            *self.enter,
            "unshare",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            start,
        ]


def read_instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions with their arguments; continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    pairs = [line.partition(" ") for line in lines if line.strip()]
    return [(name, argument.strip()) for name, _, argument in pairs]


@contextmanager
def built_image(dockerfile: Path) -> Iterator[Image]:
    """Build an image from the Dockerfile's folder; a failing step raises."""
    holder = subprocess.Popen(["unshare", "--mount", "--propagation=private", "sleep", "infinity"])
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        try:
            own = Path("/proc/self/ns/mnt").readlink()
            wait_until(lambda: Path(f"/proc/{holder.pid}/ns/mnt").readlink() != own)
            enter = ["nsenter", f"--target={holder.pid}", "--mount"]
            builder = _Builder(enter, name, dockerfile.parent)
            for instruction, argument in read_instructions(dockerfile):
                builder.do(instruction, argument)
            yield Image(builder.stage, enter)
        finally:
            holder.kill()
            holder.wait()


class _Builder:
    def __init__(self, enter: list[str], folder: str, context: Path) -> None:
        self._enter, self._folder, self._context = enter, folder, context
        self._stages: dict[str, Stage] = {}
        self.stage = Stage("")
        self._run(f"mount -t tmpfs -o size=2g tmpfs {folder}")

    def do(self, instruction: str, argument: str) -> None:
        """Execute one instruction."""
        work = getattr(self, f"_do_{instruction.lower()}", None)
        if work:
            work(argument)
        else:
            self.stage.said[instruction] = argument

    def _run(self, script: str) -> None:
        done = subprocess.run(
            [*self._enter, "sh", "-euc", script], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"

    def _do_from(self, argument: str) -> None:
        name = argument.partition(" AS ")[2] or str(len(self._stages))
        folder = f"{self._folder}/{name}"
        self.stage = self._stages[name] = Stage(f"{folder}/root")
        python = sys.base_prefix
        self._run(BASE.format(root=self.stage.root, stage=folder, python=python))

    def _do_workdir(self, argument: str) -> None:
        self.stage.workdir = argument
        self._run(f"mkdir -p {self.stage.root}{argument}")

    def _do_user(self, argument: str) -> None:
        self.stage.user = argument

    def _do_env(self, argument: str) -> None:
        for name, value in (word.split("=", 1) for word in shlex.split(argument)):
            self.stage.environment[name] = value.replace("$PATH", self.stage.environment["PATH"])

    def _do_copy(self, argument: str) -> None:
        source, options = str(self._context), [w for w in argument.split() if w.startswith("--")]
        if options:
            [option] = options
            source = self._stages[option.removeprefix("--from=")].root
        *names, target = [word for word in argument.split() if not word.startswith("--")]
        into = f"{self.stage.root}{self.stage.workdir}/{target}"
        for name in names:  # COPY copies the content of a folder, not the folder
            path = f"{source}/{name.lstrip('/')}"
            self._run(
                f"if [ -d {path} ]; then mkdir -p {into}; cp -a {path}/. {into};"
                f" else cp -a {path} {into}; fi"
            )
        self._run(f"chown -R 0:0 {into}")

    def _do_run(self, argument: str) -> None:
        shown = self.stage.environment | {n: os.environ[n] for n in PASSED if n in os.environ}
        variables = shlex.join(f"{name}={value}" for name, value in shown.items())
        self._run(
            f"chroot {self.stage.root} env -i -C {self.stage.workdir} {variables}"
            f" sh -c {shlex.quote(argument)}"
        )


def first_process_of(container: "subprocess.Popen[bytes]") -> int:
    """Return the pid of a container's process 1, seen from outside."""
    children = Path(f"/proc/{container.pid}/task/{container.pid}/children")
    return int(children.read_text().split()[0])


def exec_form(argument: str) -> list[str]:
    """Return the words of a CMD in exec form."""
    words: list[str] = json.loads(argument[argument.index("[") :])
    return words
