"""A data folder that several tests of the embedded server share."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapp.postgres.server import embedded_postgres
from tests.support.server_process import new_data_folder


async def start_and_stop(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass


@pytest.fixture(scope="module")
def used_folder() -> Iterator[Path]:
    """A data folder that was in use before, which is quicker than initdb."""
    with new_data_folder() as folder:
        asyncio.run(start_and_stop(folder))
        yield folder
