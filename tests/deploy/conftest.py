"""Fixtures of the tests of deploy/."""

import os
from collections.abc import Iterator

import pytest

from tests.deploy.containers import DOCKERFILE, Engine, running_engine
from tests.deploy.image import Image, built_image


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Run podman, with the image of the Dockerfile; the first time takes some minutes."""
    if os.geteuid() != 0:
        pytest.fail("containers with limits need root: run `make test-deploy` as root")
    with running_engine() as started:
        started.build_taskapp()
        yield started


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Build the Dockerfile without an engine; it takes a minute."""
    if os.geteuid() != 0:
        pytest.fail("the steps of a Dockerfile need root: run `make test-deploy` as root")
    with built_image(DOCKERFILE) as built:
        yield built
