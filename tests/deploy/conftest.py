"""Fixtures of the tests of deploy/."""

import os
from collections.abc import Iterator

import pytest

from tests.deploy.containers import Engine, running_engine


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Run podman, with the image of the Dockerfile; the first time takes some minutes."""
    if os.geteuid() != 0:
        pytest.fail("containers with limits need root: run `make test-deploy` as root")
    with running_engine() as started:
        started.build_taskapp()
        yield started
