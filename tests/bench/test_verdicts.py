"""A verdict is "met" exactly when the number is within its bound."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bench.compare_peers import main
from bench.processes import ALL_CORES
from bench.request_points import judge_rates
from bench.results import Cell, Results, summarize, table
from bench.scenarios import CREATE, GET, LIST, UPDATE, Scenario
from bench.several_taskapps import judge_two
from bench.verdicts import Verdict, compared, limited


def cell(rate: float, **changes: float) -> Cell:
    values = {"p50": 10.0, "p95": 20.0, "p99": 30.0, "errors": 0, "cpu": 99.0, "other": 1.0}
    values |= {"cpu_per_request": 0.5, "size": 19_000, "busy_cores": 1.5, "connections": 32}
    return Cell(point=1, target="taskapp", scenario="list", rate=rate, **(values | changes))  # type: ignore[arg-type]  # mypy takes each for the type of all


@pytest.mark.parametrize(
    ("rule", "value", "base", "bound", "is_met"),
    [
        ("at least", 2500, 1000, 2.5, True),
        ("at least", 2499, 1000, 2.5, False),
        ("at least", 900, 1000, 0.9, True),
        ("at least", 899, 1000, 0.9, False),
        ("at most", 160, 100, 1.6, True),
        ("at most", 161, 100, 1.6, False),
        ("at most", 100, 300, 1 / 3, True),
        ("at most", 101, 300, 1 / 3, False),
        ("at least", 100, 0, 1.0, False),  # a peer without a response is not a peer
        ("at most", 100, 0, 1.0, False),
    ],
)
def test_a_ratio_is_met_up_to_its_very_border(
    rule: str, value: float, base: float, bound: float, is_met: bool
) -> None:
    verdict = compared(1, "list", value, rule, bound, ("express", base), "req/s")
    assert verdict.is_met is is_met
    assert ("| met |" in verdict.row()) is is_met
    assert ("| NOT MET |" in verdict.row()) is not is_met


@pytest.mark.parametrize(
    ("rule", "value", "bound", "is_met"),
    [
        ("at most", 90.0, 90, True),
        ("at most", 90.1, 90, False),
        ("at most", 0, 0, True),
        ("at most", 1, 0, False),
        ("more than", 0.1, 0, True),
        ("more than", 0, 0, False),
    ],
)
def test_a_number_is_met_up_to_its_very_border(
    rule: str, value: float, bound: float, is_met: bool
) -> None:
    assert limited(5, "memory, idle", value, rule, bound, "MB").is_met is is_met


def test_a_row_says_what_was_asked_what_was_measured_and_the_ratio() -> None:
    verdict = compared(1, "list", 1790, "at least", 2.5, ("express", 716), "req/s")
    assert verdict.row() == (
        "| 1 | list: at least 2.5 x express | 1,790 to 716 req/s | 2.50 | met |"
    )


@pytest.mark.parametrize(
    ("value", "said"),
    [(1200, "met (stretch 1.2: reached)"), (1199, "met (stretch 1.2: not reached)")],
)
def test_the_stretch_is_shown_and_not_asked(value: float, said: str) -> None:
    verdict = compared(1, "list", value, "at least", 1.0, ("bare", 1000), "req/s", 1.2)
    assert verdict.row().endswith(f"| {said} |")
    assert verdict.is_met


@pytest.mark.parametrize(
    ("scenario", "bare"), [(LIST, 1.0), (GET, 1.0), (CREATE, 0.9), (UPDATE, 0.9)]
)
def test_each_peer_that_is_there_has_its_bound(scenario: Scenario, bare: float) -> None:
    found = {name: summarize([cell(1000)]) for name in ("taskapp", "express", "aiopg_fair")}
    verdicts = judge_rates(scenario, 32, found)
    assert [(verdict.unit, verdict.bound) for verdict in verdicts] == [
        ("x express", 2.5),
        ("x aiopg_fair", bare),
    ]
    found = {"taskapp": summarize([cell(3000)]), "fastapi": summarize([cell(1000)])}
    (verdict,) = judge_rates(scenario, 32, found)
    assert verdict.is_met
    assert verdict.row().endswith("| 3,000 to 1,000 req/s, CPU 0.500 to 0.500 ms | 3.00 | met |")


@pytest.mark.parametrize(
    ("busy", "least"),
    [
        (len(ALL_CORES) / 2, 1.6),  # half of the cores idle
        (len(ALL_CORES) / 4, 1.6),  # more than two servers can use
        (len(ALL_CORES) / 1.25, 1.0),
        (len(ALL_CORES), 0.8),  # no core idle
    ],
)
def test_two_taskapps_are_judged_by_the_cores_that_were_idle(busy: float, least: float) -> None:
    one = summarize([cell(1000, busy_cores=busy)])
    assert judge_two(summarize([cell(1000 * least)]), one).is_met
    assert not judge_two(summarize([cell(1000 * least - 1)]), one).is_met


def test_repetitions_become_medians_and_their_errors_a_sum() -> None:
    cells = [cell(100, errors=1), cell(300, p95=90.0), cell(200, p95=40.0, errors=2)]
    found = summarize(cells)
    assert (found.rate, found.slowest, found.fastest) == (200, 100, 300)
    assert (found.p95, found.errors, found.repetitions) == (40.0, 3, 3)
    assert "| 1 | list | 32 | taskapp | 3 | 200.0 | 100.0 to 300.0 |" in table(cells)


@pytest.mark.parametrize(("memory", "exit_code"), [(90.0, 0), (91.0, 1)])
def test_the_last_run_is_shown_again_and_judged_again(
    tmp_path: Path, memory: float, exit_code: int
) -> None:
    path = tmp_path / "compare_peers.jsonl"
    Results(path, "2026-01-01").keep("verdict", verdict_of(1000.0))
    last = Results(path, "2026-01-02")
    last.keep("machine", {"text": "two cores"})
    last.add(cell(1234))
    last.keep("verdict", verdict_of(memory))
    shown = CliRunner().invoke(main, ["--last", "--work", str(tmp_path)])
    assert shown.exit_code == exit_code, shown.output
    assert "two cores" in shown.output
    assert "| 1,234.0 |" in shown.output
    assert f"{1 - exit_code} of 1 verdicts are met." in shown.output


def verdict_of(memory: float) -> dict[str, object]:
    verdict = limited(5, "memory, idle", memory, "at most", 90, "MB")
    kept: dict[str, object] = json.loads(json.dumps(vars(verdict)))
    assert Verdict(**kept) == verdict  # type: ignore[arg-type]  # untyped, from the file
    return kept


def test_without_a_run_there_is_nothing_to_show(tmp_path: Path) -> None:
    shown = CliRunner().invoke(main, ["--last", "--work", str(tmp_path)])
    assert shown.exit_code == 1
    assert "Nothing was measured yet" in shown.output


def test_only_points_that_there_are_can_be_chosen(tmp_path: Path) -> None:
    for wrong in ("9", "1,x", ""):
        refused = CliRunner().invoke(main, ["--only", wrong, "--work", str(tmp_path)])
        assert refused.exit_code == 2
        assert "Must be some of 1,2,3,4,5,6,7,8, separated by commas." in refused.output
