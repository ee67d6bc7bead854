"""Point 5, continued: memory of the process, idle and after a mix of all requests."""

import click

from bench.load_generator import Load, LoadGenerator
from bench.processes import resident_megabytes
from bench.scenarios import OPERATIONS, PAGE
from bench.targets import Taskapp
from bench.verdicts import Verdict, limited

_IDLE, _LOADED = 90, 140  # MB
_MIXED = (*OPERATIONS, PAGE)
_CONNECTIONS = 8  # of each scenario


def measure_memory(
    generator: LoadGenerator, taskapp: Taskapp, accounts: int, minutes: float
) -> list[Verdict]:
    """Measure the memory of a new server, and again after `minutes` of load."""
    taskapp.log_in(accounts)  # in an earlier process, so that the measured one is idle
    with taskapp.running(accounts) as target:
        idle = resident_megabytes(target.pid)
        click.echo(f"# idle: {idle:.1f} MB; a mix of requests follows, {minutes:g} minutes long")
        mixed = taskapp.with_readers(target)
        loads = [Load(mixed, scenario, _CONNECTIONS) for scenario in _MIXED]
        generator.run_together(loads, max(1, round(minutes * 60)))
        loaded = resident_megabytes(target.pid)
        target.tidy()
    what = f"memory, after {minutes:g} minutes of a mix"
    return [
        limited(5, "memory, idle", idle, "at most", _IDLE, "MB"),
        limited(5, what, loaded, "at most", _LOADED, "MB"),
    ]
