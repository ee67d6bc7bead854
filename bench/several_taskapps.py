"""Point 7: what a second taskapp on the same database brings, behind nginx."""

from dataclasses import replace

from bench.load_generator import Load, LoadGenerator
from bench.processes import ALL_CORES
from bench.results import Cell, Summary, summarize
from bench.scenarios import LIST
from bench.targets import Taskapp
from bench.verdicts import Verdict, compared

_COUNTS = (1, 2)
_USED = 0.8  # of what the cores that were idle beside one process allow


def compare_taskapps(generator: LoadGenerator, taskapp: Taskapp, accounts: int) -> list[Verdict]:
    """Compare the list's rate of two taskapps with that of one, all behind nginx on all cores.

    nginx, PostgreSQL and wrk need the cores, too: with one taskapp, so many of them are busy, and
    no more than all can be.
    """
    everywhere = replace(generator, repetitions=1, server_cores=ALL_CORES, load_cores=ALL_CORES)
    cells: dict[int, list[Cell]] = {count: [] for count in _COUNTS}
    for _ in range(generator.repetitions):
        for count, found in cells.items():
            with taskapp.several(count, accounts) as target:
                everywhere.measure(7, [Load(target, LIST)])
                found.append(generator.results.cells[-1])
    one, two = (summarize(found) for found in cells.values())
    return [judge_two(two, one)]


def judge_two(two: Summary, one: Summary) -> Verdict:
    """Judge two taskapps by what the cores that are idle beside one of them allow."""
    cores = len(ALL_CORES)
    possible = max(1.0, min(2, cores / one.busy_cores))
    return compared(
        7,
        "list, two taskapps behind nginx",
        two.rate,
        "at least",
        round(_USED * possible, 2),
        ("one", one.rate),
        "req/s",
        beside=f"; one keeps {one.busy_cores:.2f} of {cores} cores busy: {possible:.2f} x possible",
    )
