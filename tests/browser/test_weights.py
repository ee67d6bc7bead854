"""A page loads few and small files."""

import gzip
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Request

from tests.support.page_site import MANY, Site, running_site

KB = 1024
MAX_LIST_SIZE = 12 * KB  # 50 tasks, compressed
MAX_STYLESHEET_SIZE = 8 * KB  # compressed
MAX_SCRIPT_SIZE = 8 * KB  # compressed
ICONS = "link[rel~=icon], link[rel=apple-touch-icon], link[rel=manifest]"


@pytest.fixture(scope="module")
def site(database_url: str, short_folder: Path) -> Iterator[Site]:
    with running_site(short_folder / "weights", database_url) as site:
        yield site


@pytest.fixture(scope="module")
def requests(site: Site) -> list[Request]:
    """Open the list for the first time; return the requests of the browser, without the icons."""
    page = site.new_page()
    page.context.add_cookies(site.owner(MANY).cookies)
    asked: list[Request] = []
    page.on("request", lambda request: asked.append(request))  # noqa: PLW0108  # no built-in will do
    page.goto("/tasks", wait_until="networkidle")
    icons = page.evaluate(f"[...document.querySelectorAll('{ICONS}')].map(link => link.href)")
    return [request for request in asked if request.url not in icons]


def bodies(requests: list[Request], kind: str) -> list[bytes]:
    """Return the bodies of the responses to requests of a resource type."""
    responses = [request.response() for request in requests if request.resource_type == kind]
    return [response.body() for response in responses if response]


def compressed(body: bytes) -> int:
    return len(gzip.compress(body, 9))


def test_the_first_load_of_the_list_asks_for_three_files(requests: list[Request]) -> None:
    kinds = Counter(request.resource_type for request in requests)
    assert kinds == {"document": 1, "stylesheet": 1, "script": 1}, [one.url for one in requests]


def test_the_list_of_fifty_tasks_is_light(requests: list[Request]) -> None:
    [page] = bodies(requests, "document")
    assert len(re.findall(rb'<li class="task', page)) == 50
    assert compressed(page) <= MAX_LIST_SIZE


def test_the_stylesheet_is_light(requests: list[Request]) -> None:
    [stylesheet] = bodies(requests, "stylesheet")
    assert compressed(stylesheet) <= MAX_STYLESHEET_SIZE


def test_the_script_is_light(requests: list[Request]) -> None:
    [script] = bodies(requests, "script")
    assert compressed(script) <= MAX_SCRIPT_SIZE
