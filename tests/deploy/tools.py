"""The programs that look at files of deploy/, from an environment of their own."""

import os
import subprocess
from pathlib import Path

from tests.support.server_process import CHECKOUT

BIN = CHECKOUT / ".venv" / "deploy" / "bin"  # `make test-deploy` makes it


def run_tool(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run a program of that environment."""
    return subprocess.run(
        [str(BIN / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        cwd=CHECKOUT,
    )
