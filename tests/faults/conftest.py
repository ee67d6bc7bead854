"""Fixtures of the fault experiments: repeatable random schedules, and folders."""

import os
import random
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.environment import MEASURED
from tests.support.server_process import new_data_folder


@pytest.fixture(autouse=True)
def nothing_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure coverage: it slows processes down, and killed ones write none."""
    monkeypatch.delenv(MEASURED, raising=False)


@pytest.fixture
def chance() -> random.Random:
    """Return the random generator of a test; a failure shows its seed (FAULT_SEED repeats it)."""
    seed = int(os.environ.get("FAULT_SEED", secrets.randbits(32)))
    print(f"FAULT_SEED={seed} draws the same again")  # noqa: T201  # pytest shows it with a failure
    return random.Random(seed)  # noqa: S311  # for no secret


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield the path of a new data folder."""
    with new_data_folder() as path:
        yield path
