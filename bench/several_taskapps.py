"""Point 7: what a second taskapp on the same database adds, behind nginx."""

from dataclasses import replace

from bench.load_generator import Load, LoadGenerator
from bench.processes import ALL_CORES
from bench.results import Cell, Summary, summarize
from bench.scenarios import LIST
from bench.targets import Taskapp
from bench.verdicts import Verdict, compared

_COUNTS = (1, 2)
_MIN_USE = 0.8  # of what the cores that one taskapp leaves idle allow


def compare_taskapps(generator: LoadGenerator, taskapp: Taskapp, accounts: int) -> list[Verdict]:
    """Compare the list's rate with two taskapps and with one, all behind nginx on all cores.

    nginx, PostgreSQL and wrk use the same cores, so the bound depends on how many cores are busy
    with one taskapp.
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
    """Return the verdict on two taskapps, by the cores that one taskapp leaves idle."""
    cores = len(ALL_CORES)
    possible = max(1.0, min(2, cores / one.busy_cores))
    return compared(
        7,
        "list, two taskapps behind nginx",
        two.rate,
        "at least",
        round(_MIN_USE * possible, 2),
        ("one", one.rate),
        "req/s",
        beside=f"; one keeps {one.busy_cores:.2f} of {cores} cores busy: {possible:.2f} x possible",
    )
