"""Starts the results of `make binary` and `make wheel` without the checkout."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    SETTINGS,
    ServerProcess,
    server_process,
)

DIST = CHECKOUT / "dist"
OUTSIDE = ["/usr/bin/env", "-u", "PYTHONPATH"]
NO_PATH = [*OUTSIDE, "PATH="]
# Hides this checkout and its Python's library from one process and its children.
HIDDEN = ["/usr/bin/unshare", "--mount", "/bin/sh", "-c"]
HIDE = 'mount -t tmpfs none {0} && mount -t tmpfs none {1} && exec "$@"'


def make(target: str, *variables: str) -> None:
    done = subprocess.run(
        ["make", "-C", CHECKOUT, target, *variables], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


class OneFile:
    """A copy of dist/taskapp with a data folder, run by root or by an ordinary user."""

    def __init__(self, data: Path, user: dict[str, Any]) -> None:
        self.path = data.parent / "taskapp"
        self.data = data
        self._user = user
        data.parent.chmod(0o755)
        shutil.copy(DIST / "taskapp", self.path)
        self.launcher = NO_PATH
        if not user and os.geteuid() == 0:
            script = HIDE.format(CHECKOUT, Path(os.__file__).parent)
            self.launcher = [*HIDDEN, script, "sh", *NO_PATH]

    @property
    def programs(self) -> list[Path]:
        """Return the folders of unpacked programs."""
        return sorted(self.data.glob("program-*"))

    def start(self, *arguments: str, **more: Any) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self.launcher, self.path, *arguments],
            env=SETTINGS | {"TASKAPP_DATA_DIR": str(self.data)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **{"cwd": "/"} | self._user | more,
        )

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run a command to its end; return the exit code and the output."""
        process = self.start(*arguments)
        said, _ = process.communicate(timeout=LONG_ENOUGH)
        return process.returncode, said

    @contextmanager
    def serving(self, *arguments: str, **settings: str) -> Iterator[ServerProcess]:
        """Serve while the block runs, and stop with SIGTERM."""
        with server_process(
            self.data,
            *arguments,
            settings=settings,
            launcher=self.launcher,
            program=self.path,
            **self._user,
        ) as server:
            server.wait_until_ready()
            yield server
            assert server.end() == 0, server.log_text
            assert server.surprises() == []


@contextmanager
def installed_wheel() -> Iterator[Path]:
    """Install the wheel like pipx, but on top of the installed packages; yield the command."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = Path(folder, "bin", "python")
        (wheel,) = DIST.glob("taskapp-*.whl")
        install = ["install", "--quiet", "--no-index", "--no-deps", str(wheel)]
        subprocess.run([sys.executable, "-m", "pip", "--python", str(python), *install], check=True)
        (packages,) = Path(folder, "lib").glob("python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        yield python.with_name("taskapp")
