"""What the fault experiments share: seeds that repeat a schedule, and folders."""

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
    """Let the processes run at their own speed; those that are killed would tell nothing."""
    monkeypatch.delenv(MEASURED, raising=False)


@pytest.fixture
def chance() -> random.Random:
    """Return the source of all that is drawn by lot; a failure shows the seed that repeats it."""
    seed = int(os.environ.get("FAULT_SEED", secrets.randbits(32)))
    print(f"FAULT_SEED={seed} draws the same again")  # noqa: T201  # pytest shows it with a failure
    return random.Random(seed)  # noqa: S311  # for no secret


@pytest.fixture
def folder() -> Iterator[Path]:
    """Name a data folder that is not there yet."""
    with new_data_folder() as path:
        yield path
