"""Point 6: the time from start to the first response."""

import shutil
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import median

import click

from bench.servers import START_TIMEOUT, health_status, starting_server
from bench.verdicts import Verdict, limited
from taskapp.cli.common import CliError

_EXISTING, _EMPTY = "existing embedded database", "empty folder"
_READY = {_EXISTING: 1.2, _EMPTY: 2.5}  # seconds
_FIRST_RESPONSE = 0.6  # seconds


def measure_starts(repetitions: int) -> list[Verdict]:
    """Measure starts on an existing database and on an empty folder, alternating."""
    folder = Path(tempfile.mkdtemp(prefix="ta-bench-"))
    responses: dict[str, list[float]] = defaultdict(list)
    ready: dict[str, list[float]] = defaultdict(list)
    try:
        _time_start(folder / "existing")
        for number in range(repetitions):
            for kind, name in {_EXISTING: "existing", _EMPTY: f"empty{number}"}.items():
                first_response, first_success = _time_start(folder / name)
                responses[kind].append(first_response)
                ready[kind].append(first_success)
                click.echo(f"# start, {kind}: {first_response:.2f} s, ready {first_success:.2f} s")
    finally:
        shutil.rmtree(folder)
    return [
        limited(
            6,
            f"start, {kind}, {what} (median of {repetitions})",
            median(times),
            "at most",
            bound,
            "s",
        )
        for kind in (_EXISTING, _EMPTY)
        for what, times, bound in (
            ("the first 200", ready[kind], _READY[kind]),
            ("the port answers", responses[kind], _FIRST_RESPONSE),
        )
    ]


def _time_start(data_folder: Path) -> tuple[float, float]:
    """Start and stop a server; return the seconds to the first response and to the first 200."""
    started = time.perf_counter()
    first_response = 0.0
    with starting_server(data_folder, {}) as server:
        while (status := health_status(server.port)) != 200:
            waited = time.perf_counter() - started
            if waited > START_TIMEOUT:
                raise CliError(f"server.py did not start within {waited:.0f} s.")
            if status and not first_response:
                first_response = waited
            time.sleep(0.002)
        first_success = time.perf_counter() - started
    return first_response or first_success, first_success
