"""The fixtures of the tests of pages: browsers of a stranger and of Alice, and her first task.

A test module that wants them names this one in `pytest_plugins`.
"""

from typing import Any

import pytest

from handlers.web.application import Application
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, PageClient


@pytest.fixture
def visitor(http_client: Any, base_url: str, app: Application) -> PageClient:
    """The browser of somebody who is not logged in."""
    return PageClient(http_client, base_url)


@pytest.fixture
def mine(visitor: PageClient, alice: ApiClient, io_loop: Any) -> PageClient:
    """The browser of Alice, who is logged in."""
    io_loop.run_sync(lambda: visitor.log_in(ALICE))
    return visitor


@pytest.fixture
def task(alice: ApiClient, io_loop: Any) -> dict[str, str]:
    """A task of Alice."""
    made: dict[str, str] = io_loop.run_sync(lambda: alice.add_task("Buy milk", description="Oat"))
    return made
