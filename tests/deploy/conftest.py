"""Fixtures of the tests of deploy/."""

import os
from collections.abc import Iterator

import pytest

from tests.deploy.image import Image, built_image
from tests.support.server_process import CHECKOUT

DOCKERFILE = CHECKOUT / "Dockerfile"


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    """Build the Dockerfile; it takes a minute."""
    if os.geteuid() != 0:
        pytest.fail("the steps of a Dockerfile need root: run `make test-deploy` as root")
    with built_image(DOCKERFILE) as built:
        yield built
