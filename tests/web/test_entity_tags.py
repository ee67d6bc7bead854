"""A version that a client was given is taken back, whatever a proxy made of its tag."""

import pytest

from handlers.web.entity_tags import read_entity_tags
from tests.support.api_tools import assert_problem
from tests.support.clients import ApiClient

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

CODINGS = ["br", "bzip2", "deflate", "gz", "gzip", "zstd"]
PUBLIC = ["/static/style.css", "/static/taskapp.js", "/robots.txt", "/api/openapi.json"]
ANSWERED = {"br": "br", "gzip": "gzip", "identity": ""}  # content codings of ours


def made_by_proxies(etag: str) -> list[str]:
    """List what clients send back: the tag as it was, weak, and with each suffix."""
    changed = [
        f'"{etag.strip(chr(34))}{mark}{coding}"' for mark in ("-", "--", ";") for coding in CODINGS
    ]
    return [form for tag in (etag, *changed) for form in (tag, f"W/{tag}", f'"other", {tag}')]


@pytest.mark.parametrize("path", ["/api/tasks", "/api/tasks?limit=1", "/api/tasks/:id", *PUBLIC])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_what_is_known_is_not_sent_again_behind_any_proxy(
    alice: ApiClient, path: str, method: str
) -> None:
    path = path.replace(":id", (await alice.add_task())["id"])
    for coding in ANSWERED if path in PUBLIC else [""]:
        accepted = {"Accept-Encoding": coding} if coding else {}
        etag = (await alice.send(method, path, headers=accepted)).headers["ETag"]
        for known in made_by_proxies(etag):
            sent = accepted | {"If-None-Match": known}
            response = await alice.send(method, path, headers=sent)
            assert (response.status, response.body) == (304, b""), known
            assert response.headers["ETag"] == etag


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_change_of_the_current_version_is_made_behind_any_proxy(
    alice: ApiClient, method: str
) -> None:
    body = None if method == "DELETE" else {"title": "x"}
    for number in range(len(made_by_proxies(""))):
        made = await alice.post("/api/tasks", {"title": "x"})
        match = made_by_proxies(made.headers["ETag"])[number]
        path = f"/api/tasks/{made.json['id']}"
        response = await alice.send(method, path, body, headers={"If-Match": match})
        assert response.status == 200, match


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
async def test_a_change_of_an_older_version_is_refused_behind_any_proxy(
    alice: ApiClient, method: str
) -> None:
    body = None if method == "DELETE" else {"title": "x"}
    made = await alice.post("/api/tasks", {"title": "x"})
    path = f"/api/tasks/{made.json['id']}"
    await alice.put(path, {"title": "y"})
    for match in made_by_proxies(made.headers["ETag"]):
        assert_problem(await alice.send(method, path, body, headers={"If-Match": match}), 412)


@pytest.mark.parametrize(
    ("header", "tags"),
    [
        ("", []),
        ('"a"', ["a"]),
        ('W/"a-gzip", "b"', ["a-gzip", "a", "b"]),
        ('"a-gzip-gzip"', ["a-gzip-gzip", "a-gzip"]),  # one proxy compresses, not two
        ('"a-gzipped"', ["a-gzipped"]),
        ('"gzip"', ["gzip"]),
        ('"-gzip"', ["-gzip", ""]),
        ('"a-GZIP"', ["a-GZIP"]),
        ('a-gzip, w/"a-gzip", "a-gzip', []),
    ],
)
async def test_only_the_suffix_of_a_coding_is_taken_off(header: str, tags: list[str]) -> None:
    assert read_entity_tags(header) == tags
