"""Puts load on servers with wrk, alternating between them, and repeats disturbed cells.

wrk is a closed loop: a connection sends its next request after the response to the last one.
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.processes import (
    ALL_CORES,
    LOAD_CORES,
    SERVER_CORES,
    busy_seconds,
    on_cores,
)
from bench.results import Cell, Results
from bench.scenarios import LOGIN, Scenario
from bench.targets import Target
from taskapp.cli.common import CliError

_SCRIPT = Path(__file__).with_name("wrk.lua")
_LOGIN_CONNECTIONS = 4
_LOGIN_LEAD = 1.0  # seconds by which the logins start before the load
_MAX_DISTURBANCE = 10.0  # percent of the server's core; above, the cell is measured again
_SETTLE_TIMEOUT = 15.0  # seconds
_IDLE = 0.02  # CPU seconds in a quarter of a second


@dataclass(frozen=True)
class Load:
    """A scenario on a server from a number of connections, with or without logins beside it."""

    target: Target
    scenario: Scenario
    connections: int = 32
    beside_logins: bool = False

    @property
    def name(self) -> str:
        """Return the name that the table shows."""
        return f"{self.scenario.name} beside logins" if self.beside_logins else self.scenario.name


@dataclass(frozen=True)
class LoadGenerator:
    """Runs wrk. `seconds` and `warm_up` are whole seconds for each cell."""

    results: Results
    seconds: int
    repetitions: int
    warm_up: int
    attempts: int = 3  # for a cell that other processes disturb
    server_cores: Sequence[int] = SERVER_CORES
    load_cores: Sequence[int] = LOAD_CORES

    def measure(self, point: int, loads: Sequence[Load]) -> None:
        """Measure the loads alternately, `repetitions` times each, and store the cells."""
        if self.warm_up:
            for load in loads:
                self._run_wrk(load.target, load.scenario, load.connections, self.warm_up)
        for _ in range(self.repetitions):
            for load in loads:
                cell = self._measure_quietly(point, load, [other.target for other in loads])
                self.results.add(cell)
                click.echo(
                    f"# {time.strftime('%H:%M:%S')} {cell.scenario}, {cell.connections} "
                    f"connections, {cell.target}: {cell.rate:,.1f} req/s, p95 {cell.p95:.1f} ms, "
                    f"{cell.cpu_per_request:.3f} CPU ms, others {cell.other:.0f} %, "
                    f"errors {cell.errors}"
                )

    def run_together(self, loads: Sequence[Load], seconds: int) -> None:
        """Run several loads at once, without measuring."""
        with ThreadPoolExecutor(len(loads)) as pool:
            running = [
                pool.submit(self._run_wrk, load.target, load.scenario, load.connections, seconds)
                for load in loads
            ]
        for one in running:
            one.result()  # raises the load's exception

    def _measure_quietly(self, point: int, load: Load, targets: Sequence[Target]) -> Cell:
        """Measure again while other processes use the server's core; return the quietest cell."""
        cells: list[Cell] = []
        while len(cells) < self.attempts and (not cells or cells[-1].other > _MAX_DISTURBANCE):
            _settle(targets)
            cells.append(self._measure_once(point, load))
        return min(cells, key=lambda cell: cell.other)

    def _measure_once(self, point: int, load: Load) -> Cell:
        with self._logins(load) as logins:
            started = time.perf_counter()
            busy, cpu = busy_seconds(self.server_cores), load.target.cpu_seconds()
            machine = busy_seconds(ALL_CORES)
            found = self._run_wrk(load.target, load.scenario, load.connections, self.seconds)
            cpu = load.target.cpu_seconds() - cpu
            busy = busy_seconds(self.server_cores) - busy
            machine = busy_seconds(ALL_CORES) - machine
            elapsed = time.perf_counter() - started
        successful = found["requests"] - found["refused"]
        return Cell(
            point=point,
            target=load.target.name,
            scenario=load.name,
            connections=load.connections,
            rate=successful / found["seconds"],
            size=found["bytes"] / max(1, successful),
            p50=found["p50"],
            p95=found["p95"],
            p99=found["p99"],
            errors=found["refused"] + found["lost"],
            cpu=cpu / elapsed * 100,
            cpu_per_request=cpu * 1000 / max(1, successful),
            other=max(0.0, (busy - cpu) / elapsed * 100) if self._has_own_cores() else 0.0,
            busy_cores=machine / elapsed,
            logins=logins.get("rate"),
        )

    def _has_own_cores(self) -> bool:
        """Return whether server and load run on separate cores."""
        return not {*self.server_cores} & {*self.load_cores}

    @contextmanager
    def _logins(self, load: Load) -> Iterator[dict[str, float]]:
        """Log in without pause while the block runs; the dictionary gets the rate at its end."""
        found: dict[str, float] = {}
        if not load.beside_logins:
            yield found
            return
        command = self._command(load.target, LOGIN, _LOGIN_CONNECTIONS, self.seconds + 2)
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as wrk:
            time.sleep(_LOGIN_LEAD)
            yield found
            output, _ = wrk.communicate()
        counts = _read(output)
        found["rate"] = (counts["requests"] - counts["refused"]) / counts["seconds"]

    def _run_wrk(
        self, target: Target, scenario: Scenario, connections: int, seconds: int
    ) -> Mapping[str, Any]:
        command = self._command(target, scenario, connections, seconds)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return _read(done.stdout + done.stderr)

    def _command(
        self, target: Target, scenario: Scenario, connections: int, seconds: int
    ) -> list[str]:
        body = json.dumps(scenario.body) if scenario.body else ""
        wrk = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s"]
        wrk += ["-s", str(_SCRIPT), f"http://127.0.0.1:{target.port}", "--"]
        wrk += [str(target.accounts[scenario.kind]), scenario.method, scenario.path, body]
        return on_cores(self.load_cores, [*wrk, str(time.monotonic_ns() % 1_000_000)])


def require_wrk() -> None:
    """Check that wrk is installed.

    Raises:
        CliError: it is not installed.
    """
    if not shutil.which("wrk"):
        raise CliError("The load comes from wrk, which is missing; on Debian: apt install wrk")


def _read(output: str) -> Mapping[str, Any]:
    for line in output.splitlines():
        if line.startswith("RESULT "):
            counts: Mapping[str, Any] = json.loads(line.removeprefix("RESULT "))
            return counts
    raise CliError(f"wrk did not measure anything:\n{output[-2000:]}")


def _settle(targets: Sequence[Target]) -> None:
    """Wait until no server works on requests that wrk has abandoned."""
    deadline = time.monotonic() + _SETTLE_TIMEOUT
    while time.monotonic() < deadline:
        before = sum(target.cpu_seconds() for target in targets)
        time.sleep(0.25)
        if sum(target.cpu_seconds() for target in targets) - before <= _IDLE:
            return
