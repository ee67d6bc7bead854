"""Pages are compressed as the browser accepts it, and their length reveals nothing of them."""

import re

import pytest

from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, PASSWORD, PageClient, cookie_name
from tests.support.page_reader import Page
from tests.support.page_story import walk

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
# What differs each time
ONCE = re.compile(r'((?:name="(?:csrf_token|key|until|asked|account)" value|data-now)=")[^"]*')
SMALL = 2000  # bytes of a page with little in it
GUESS = "guessed-by-a-stranger"
FILLING = ("title", "description", "url")  # parameters of the list


def lasting(page: Page) -> str:
    """Return a page without what differs in every response."""
    return ONCE.sub(r"\1", page.html)


@pytest.fixture
def secret(task: dict[str, str]) -> dict[str, str]:
    """Return a task whose texts no other user may learn."""
    return task


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("deflate", None),
        ("", None),
    ],
)
async def test_every_page_says_the_same_however_it_is_sent(
    mine: PageClient, alice: ApiClient, task: dict[str, str], accepted: str, coding: str | None
) -> None:
    await alice.add_task("Done", description="日" * 200, status="completed")
    mine.headers = {"Accept-Encoding": "identity", "X-Request-ID": "same"}
    plain = [page for page in await walk(mine, "/tasks") if page.is_html]
    assert "/api/docs" in {page.address for page in plain}
    for page in [*plain, await mine.open("/nowhere")]:
        mine.headers["Accept-Encoding"] = accepted
        sent = await mine.fetch("GET", page.address)
        assert sent.status == page.status
        assert sent.headers.get("Content-Encoding") == coding
        assert sent.headers["Vary"] == "Accept-Encoding, Accept-Language, Cookie"
        assert sent.headers["Content-Length"] == str(len(sent.body))
        assert lasting(sent) == lasting(page)
        # A CSRF token does not compress, so a small page shrinks less.
        least = 2 if len(page.body) > SMALL else 1.5
        assert (len(page.body) / len(sent.body) > least) == (coding is not None)


async def test_the_response_to_a_form_is_compressed_too(mine: PageClient) -> None:
    for page in (
        await mine.send("Add", title=""),
        await mine.fetch("POST", "/tasks", {"title": "Typed"}),
        await mine.send("Send again", title="x" * 300_000),
    ):
        assert page.status in {400, 403, 413}
        assert page.headers["Content-Encoding"] == "zstd"


# Text that a stranger can put into a page would let him guess the rest of it (CVE-2013-3587)


async def test_nothing_of_an_address_comes_back_in_a_compressed_page_with_something_private(
    mine: PageClient, alice: ApiClient, secret: dict[str, str]
) -> None:
    await alice.add_task("Done", status="completed")
    addresses = [page.address for page in await walk(mine, "/tasks")]
    names = [
        "x",
        "status",
        "after",
        "next",
        "theme",
        "flash",
        "title",
        "description",
        "url",
        "titles",
        "csrf_token",
        GUESS,
    ]
    for address in addresses:
        for name in names:
            page = await mine.open(f"{address}{'&' if '?' in address else '?'}{name}={GUESS}")
            assert page.status in {200, 400}
            fills_a_form = address.partition("?")[0] == "/tasks" and name in FILLING
            assert (GUESS in page.html) == fills_a_form
            assert ("Content-Encoding" in page.headers) != fills_a_form
        page = await mine.open(f"{address}#{GUESS}")
        assert GUESS not in page.html


async def test_a_page_that_repeats_its_path_has_nothing_private_in_it(
    mine: PageClient, secret: dict[str, str]
) -> None:
    for path in (f"/{GUESS}", f"/tasks/{GUESS}/edit", f"/tasks/{GUESS}/delete", f"/static/{GUESS}"):
        page = await mine.open(path)
        assert page.status == 404
        for private in (ALICE, secret["title"], secret["description"], secret["id"]):
            assert private not in page.html


async def test_a_form_from_another_site_is_answered_with_nothing_private(
    mine: PageClient, secret: dict[str, str]
) -> None:
    fields = dict.fromkeys(("title", "titles", "description", "email", "next", "key"), GUESS)
    fields |= {"draft_action": "/tasks", "draft_title": GUESS, "theme": GUESS}
    for path in ("/tasks", "/tasks/several", f"/tasks/{secret['id']}/edit", "/theme", "/login"):
        page = await mine.fetch("POST", f"{path}?next={GUESS}", fields)
        assert page.status == 403
        words = re.sub(r"[\w-]{20,}", "", page.html)  # a token may have any letters
        for private in (ALICE, secret["title"], secret["description"]):
            assert private not in words


async def test_the_csrf_token_differs_in_every_response(mine: PageClient) -> None:
    pages = [await mine.open("/tasks") for _ in range(20)]
    written = {page.form("Add").fields["csrf_token"] for page in pages}
    assert len(written) == 20
    nonces, signatures = zip(*(token.split(".") for token in written), strict=True)
    assert len(set(nonces)) == len(set(signatures)) == 20
    for token in written:
        mine.page = pages[0]
        assert (await mine.send("Dark", csrf_token=token)).status == 303


async def test_the_page_that_keeps_what_was_typed_over_a_login_repeats_no_address(
    mine: PageClient,
) -> None:
    form = await mine.open("/tasks")
    del mine.cookies[cookie_name("session")]
    fields = form.form("Add").fields | {"title": "Typed"}
    page = await mine.fetch("POST", f"/tasks?x={GUESS}&status={GUESS}&next={GUESS}", fields)
    assert (page.status, GUESS in page.html) == (401, False)
    page = await mine.send("Log in", email=ALICE, password=PASSWORD)
    assert (page.status, GUESS in page.html) == (200, False)
