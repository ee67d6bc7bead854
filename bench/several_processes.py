"""Point 7: what more processes of one server bring."""

from dataclasses import replace

from bench.load_generator import Load, LoadGenerator
from bench.processes import ALL_CORES
from bench.results import Cell, Summary, summarize
from bench.scenarios import LIST
from bench.targets import Taskapp
from bench.verdicts import Verdict, compared

_COUNTS = (1, 2, 4)
_USED = 0.8  # of what the cores that were idle beside one process allow


def compare_processes(generator: LoadGenerator, taskapp: Taskapp, accounts: int) -> list[Verdict]:
    """Compare the list's rate of several processes with that of one, all on all cores.

    PostgreSQL and wrk need the cores, too: with one process, so many of them are busy, and no more
    than all can be.
    """
    everywhere = replace(generator, repetitions=1, server_cores=ALL_CORES, load_cores=ALL_CORES)
    cells: dict[int, list[Cell]] = {count: [] for count in _COUNTS}
    for _ in range(generator.repetitions):
        for count, found in cells.items():
            with taskapp.running(
                accounts,
                cores=ALL_CORES,
                database_cores=ALL_CORES,
                arguments=["serve", f"--processes={count}"],
            ) as target:
                named = replace(target, name=f"{target.name}, processes: {count}")
                everywhere.measure(7, [Load(named, LIST)])
                found.append(generator.results.cells[-1])
    one = summarize(cells[1])
    return [
        judge_processes(count, summarize(found), one) for count, found in cells.items() if count > 1
    ]


def judge_processes(count: int, found: Summary, one: Summary) -> Verdict:
    """Judge so many processes by what the cores that are idle beside one process allow."""
    cores = len(ALL_CORES)
    possible = max(1.0, min(count, cores / one.busy_cores))
    return compared(
        7,
        f"list, {count} processes",
        found.rate,
        "at least",
        round(_USED * possible, 2),
        ("one process", one.rate),
        "req/s",
        beside=f"; one keeps {one.busy_cores:.2f} of {cores} cores busy: {possible:.2f} x possible",
    )
