"""Runs the commands of a document in a fresh copy of the checkout."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.document_blocks import Block
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    new_data_folder,
    reserved_port,
    wait_until,
)

DONE = "===done==="
READY = "taskapp is ready at"
PARTS = (
    *("server.py", "Makefile", "pyproject.toml", "requirements.lock", "deploy"),
    *("taskapp", "handlers", "schema", "templates", "static"),
)


@dataclass
class Terminal:
    """A shell in a copy of the checkout, with another port instead of 8000."""

    folder: Path
    port: str
    replaced: dict[str, str] = field(default_factory=dict)  # placeholders, and their values
    launcher: tuple[str, ...] = ()  # a command that starts the shell in a sandbox

    def __post_init__(self) -> None:
        given = {"TASKAPP_PORT": self.port}
        inherited = {name: text for name, text in os.environ.items() if "TASKAPP" not in name}
        self._environment = inherited | given
        self._shell = subprocess.Popen(
            [*self.launcher, "bash", "-eu"],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_error: object) -> None:
        self._shell.communicate(timeout=LONG_ENOUGH)  # closes its input, which ends it

    def run(self, command: str, typed: str = "") -> str:
        """Run a command with this input, and return its output.

        Fails the test if the command fails, because then the shell exits.
        """
        assert self._shell.stdin
        assert self._shell.stdout
        response = f"{typed}\n" if typed else ""
        self._shell.stdin.write(f"{self._here(command)}\n{response}printf '\\n%s\\n' {DONE}\n")
        self._shell.stdin.flush()
        said = ""
        for line in self._shell.stdout:
            if line.rstrip() == DONE:
                return said
            said += line
        raise AssertionError(f"{command}: {said}")

    @contextmanager
    def serving(self, command: str = "make run") -> Iterator[str]:
        """Run the server in another terminal; yield its output when it is ready."""
        log = self.folder / "log"
        with (
            log.open("wb") as logged,
            subprocess.Popen(
                ["bash", "-c", self._here(command)],
                cwd=self.folder,
                env=self._environment,
                stdout=logged,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as server,
        ):
            try:
                wait_until(lambda: READY in log.read_text() or server.poll() is not None)
                yield log.read_text()
            finally:
                os.killpg(server.pid, signal.SIGINT)  # like Ctrl-C
                server.wait(LONG_ENOUGH)

    def as_written(self, said: str) -> str:
        """Return an output with the values of the document."""
        return said.replace(f":{self.port}", ":8000")

    def _here(self, command: str) -> str:
        for written, here in {":8000": f":{self.port}", **self.replaced}.items():
            command = command.replace(written, here)
        return command


@contextmanager
def terminal_in_a_copy(*launcher: str) -> Iterator[Terminal]:
    """Yield a terminal in a copy of the checkout without data."""
    with new_data_folder() as data_folder:
        folder = data_folder.parent / "taskapp"
        folder.mkdir()
        data_folder.parent.chmod(0o755)
        for name in PARTS:
            copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy2
            copy(CHECKOUT / name, folder / name)
        (folder / ".venv").symlink_to(CHECKOUT / ".venv")
        with (
            reserved_port() as port,
            Terminal(folder, str(port), launcher=launcher) as terminal,
        ):
            yield terminal


def read_commands(block: Block) -> list[tuple[str, str]]:
    """Return the commands of a block with their outputs; a `sh` block shows no output."""
    if block.language == "sh":
        return [(block.text, "")]
    commands = [part.partition("\n") for part in f"\n{block.text}".split("\n$ ")[1:]]
    return [(command, said) for command, _, said in commands]
