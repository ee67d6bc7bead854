"""One cluster for all tests of this folder, and the table of what they saw."""

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests.cluster.load import Load, Result, under_load
from tests.faults.checker import Findings
from tests.faults.conftest import chance, nothing_measured
from tests.support.cluster import Cluster, installed_patroni, running_cluster

__all__ = ["chance", "nothing_measured"]

HEAD = (
    "| fault | s without a write | s without a read | acknowledged | refused | unknown | statuses"
    " | slowest response, s | lost | s of local writes beside |"
)
RESULTS: list[Result] = []

Experiment = Callable[[str], AbstractContextManager[Load]]


@pytest.fixture(scope="session")
def patroni() -> Iterator[Path]:
    with installed_patroni() as program:
        yield program


@pytest.fixture(scope="session")
def cluster(patroni: Path) -> Iterator[Cluster]:
    with running_cluster(patroni) as running:
        yield running


@pytest.fixture
def experiment(cluster: Cluster, chance: random.Random) -> Experiment:
    """Return a context manager: load runs in the block, and afterwards nothing is lost."""
    return partial(observed, cluster, chance)


@contextmanager
def observed(cluster: Cluster, chance: random.Random, fault: str) -> Iterator[Load]:
    with under_load(cluster, chance) as load:
        yield load
    findings = load.check()
    lost = load.lost_probes()
    RESULTS.append(Result(fault, load, len(findings.lost) + len(lost)))
    assert findings == Findings()
    assert lost == []
    assert load.two_primaries() == []
    assert load.surprises() == []
    load.ledger.settle()
    assert load.check() == Findings()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if RESULTS:
        terminalreporter.write_line(f"\n{HEAD}\n{'|---' * 10}|")
        for result in RESULTS:
            terminalreporter.write_line(str(result))
