"""The fixtures of the tests of pages: browsers of strangers, Alice and Bob, and Alice's first task.

A test module that uses them names this one in `pytest_plugins`.
"""

from typing import Any

import pytest

from handlers.web.application import Application
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, PageClient


@pytest.fixture
def visitor(http_client: Any, base_url: str, app: Application) -> PageClient:
    """Return a browser that is not logged in."""
    return PageClient(http_client, base_url)


@pytest.fixture
def mine(visitor: PageClient, alice: ApiClient, io_loop: Any) -> PageClient:
    """Return the browser of Alice, who is logged in."""
    io_loop.run_sync(lambda: visitor.log_in(ALICE))
    return visitor


@pytest.fixture
def other(http_client: Any, base_url: str, app: Application) -> PageClient:
    """Return another browser that is not logged in."""
    return PageClient(http_client, base_url)


@pytest.fixture
def bobs(http_client: Any, base_url: str, bob: ApiClient, io_loop: Any) -> PageClient:
    """Return the browser of Bob, who is logged in."""
    browser = PageClient(http_client, base_url)
    io_loop.run_sync(lambda: browser.log_in(BOB))
    return browser


@pytest.fixture
def task(alice: ApiClient, io_loop: Any) -> dict[str, str]:
    """Return a task of Alice."""
    made: dict[str, str] = io_loop.run_sync(lambda: alice.add_task("Buy milk", description="Oat"))
    return made
