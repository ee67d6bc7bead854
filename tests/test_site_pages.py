"""The static files, and how pages word what takes time."""

from typing import Any

import pytest

from handlers.application import Application
from handlers.rendering import show_duration
from tests.page_client import PageClient


@pytest.fixture
def visitor(http_client: Any, base_url: str, app: Application) -> PageClient:
    return PageClient(http_client, base_url)


@pytest.mark.gen_test
async def test_the_files_that_a_page_names_are_kept_by_the_browser_for_a_year(
    visitor: PageClient,
) -> None:
    page = await visitor.open("/login")
    files = [tag["href"] for tag in page.tags("link")]
    assert len(files) == 2
    for file in files:
        answer = await visitor.fetch("GET", file)
        assert answer.status == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        head = await visitor.fetch("HEAD", file)
        assert head.headers["Content-Length"] == answer.headers["Content-Length"]


@pytest.mark.gen_test
async def test_a_file_that_the_browser_has_is_not_sent_again(visitor: PageClient) -> None:
    etag = (await visitor.fetch("GET", "/static/style.css")).headers["ETag"]
    visitor.headers = {"If-None-Match": etag}
    assert (await visitor.fetch("GET", "/static/style.css")).status == 304


@pytest.mark.gen_test
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_search_engines_find_their_rules(visitor: PageClient, method: str) -> None:
    answer = await visitor.fetch(method, "/robots.txt")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/plain")


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "path", ["none.css", "", "../server.py", "..%2fserver.py", "%2e%2e/server.py", "/etc/passwd"]
)
async def test_no_other_file_can_be_had(visitor: PageClient, path: str) -> None:
    answer = await visitor.fetch("GET", f"/static/{path}")
    assert answer.status == 404
    assert answer.link("Back to the start") == "/"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (2, "2 seconds"),
        (99, "99 seconds"),
        (100, "2 minutes"),
        (841, "15 minutes"),
        (3600, "60 minutes"),
        (86400, "24 hours"),
    ],
)
def test_a_duration_is_worded_for_people_and_never_too_short(seconds: int, words: str) -> None:
    assert show_duration(seconds) == words
