"""Runs the linters of deploy/ from their own environment."""

import os
import subprocess
from pathlib import Path

from tests.support.server_process import CHECKOUT

BIN = CHECKOUT / ".venv" / "deploy" / "bin"  # created by `make test-deploy`


def run_tool(name: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}"},
        cwd=CHECKOUT,
    )
