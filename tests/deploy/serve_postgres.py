"""Runs a command with TASKAPP_TEST_DATABASE_URL; without one, it names Debian's PostgreSQL."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.deploy.postgres import running_postgres

VARIABLE = "TASKAPP_TEST_DATABASE_URL"


def main(command: list[str]) -> int:
    """Run the command, and return its exit code."""
    if VARIABLE in os.environ:
        return subprocess.run(command, check=False).returncode
    with (
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as folder,
        running_postgres(Path(folder)) as server,
    ):
        environment = os.environ | {VARIABLE: server.administrator()}
        return subprocess.run(command, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
