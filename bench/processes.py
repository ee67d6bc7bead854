"""CPU time, memory and core usage of a server, from /proc (Linux)."""

import os
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_TIMEOUT = 20.0  # seconds
_DATABASE = "postgres"

ALL_CORES = tuple(sorted(os.sched_getaffinity(0)))
SERVER_CORES = ALL_CORES[:1]
LOAD_CORES = ALL_CORES[1:2] or ALL_CORES  # of wrk and PostgreSQL


def on_cores(cores: Sequence[int], program: Sequence[str]) -> list[str]:
    """Return the command that runs a program on these cores."""
    return ["taskset", "-c", ",".join(map(str, cores)), *program]


def move_database(pid: int, cores: Sequence[int]) -> None:
    """Move a server's PostgreSQL to these cores; processes that it forks later inherit them."""
    for process in _descendants(pid):
        if process.name == _DATABASE:
            with suppress(ProcessLookupError):
                os.sched_setaffinity(process.pid, cores)


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds that a server has used, without its PostgreSQL."""
    return sum(process.ticks for process in _server(pid)) / _TICKS


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a server in 10^6 bytes, without its PostgreSQL."""
    return sum(_resident_bytes(process.pid) for process in _server(pid)) / 1e6


def busy_seconds(cores: Sequence[int]) -> float:
    """Return the seconds that these cores were busy since boot."""
    names = {f"cpu{core}" for core in cores}
    busy = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *numbers = line.split()
        if name in names:
            user, nice, system, _idle, _waiting, interrupts, soft, steal, *_ = map(int, numbers)
            busy += user + nice + system + interrupts + soft + steal
    return busy / _TICKS


def end(process: subprocess.Popen[bytes]) -> None:
    """Terminate a child process; kill it after a timeout."""
    process.terminate()
    try:
        process.wait(_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    name: str
    ticks: int


def _server(pid: int) -> list[_Process]:
    return [process for process in _descendants(pid) if process.name != _DATABASE]


def _descendants(pid: int) -> Iterator[_Process]:
    """Yield a process and all its descendants."""
    children = defaultdict(list)
    waiting = []
    for process in _all_processes():
        children[process.parent].append(process)
        if process.pid == pid:
            waiting.append(process)
    while waiting:
        process = waiting.pop()
        yield process
        waiting += children[process.pid]


def _all_processes() -> Iterator[_Process]:
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            before, _, after = path.read_text(encoding="utf-8", errors="replace").rpartition(")")
            pid, _, name = before.partition(" (")
            numbers = after.split()
            yield _Process(int(pid), int(numbers[1]), name, int(numbers[11]) + int(numbers[12]))


def _resident_bytes(pid: int) -> int:
    with suppress(OSError):
        pages = Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")
    return 0
