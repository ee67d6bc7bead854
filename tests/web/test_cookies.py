"""A cookie is ours if its name is exactly ours; whoever can set others plants nothing."""

import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers.web.application import Application
from handlers.web.cookies import read_cookies
from taskapp.auth.signing import Signer
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient
from tests.support.environment import SECRET_KEY
from tests.support.page_client import ALICE, BOB, PageClient, cookie_name
from tests.support.server_process import LONG_ENOUGH

pytest_plugins = ["tests.support.page_fixtures"]

NAME = cookie_name("session", "__Host-taskapp")
SEPARATORS = {" ", "\t", ";"}  # before a cookie
BYTES = [bytes([number]).decode("latin-1") for number in range(256)]


@pytest.mark.parametrize("byte", BYTES, ids=lambda byte: f"{ord(byte):02x}")
def test_no_byte_before_or_behind_a_name_makes_it_ours(byte: str) -> None:
    before, behind = f"{byte}{NAME}=evil", f"{NAME}{byte}=evil"
    assert NAME not in read_cookies(before) or byte in SEPARATORS
    assert NAME not in read_cookies(behind) or byte in {"=", ";"}
    if byte not in SEPARATORS:
        assert read_cookies(f"{NAME}=mine; {before}")[NAME] == "mine"
        assert read_cookies(f"{before}; {NAME}=mine")[NAME] == "mine"
    if byte not in {"=", ";"}:
        assert read_cookies(f"{NAME}=mine; {behind}")[NAME] == "mine"
        assert read_cookies(f"{behind}; {NAME}=mine")[NAME] == "mine"


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (f"{NAME}=a", "a"),
        (f"a=b;{NAME}=a;c=d", "a"),
        (f"a=b; {NAME}=a==; c", "a=="),
        (f'{NAME}="a"', '"a"'),  # ours have no quotes
        (f"{NAME}=", ""),
        (f"{NAME}", ""),
        (f"{NAME}=a; {NAME}=a", None),
        (f"{NAME}=a; {NAME}=b; {NAME}=a", None),
        (f"{NAME}=a; {NAME}", None),
        (f"{NAME.lower()}=a", None),
        (f"={NAME}=a", None),
        ("", None),
    ],
)
def test_a_cookie_is_read_as_it_was_sent(header: str, value: str | None) -> None:
    assert read_cookies(header).get(NAME) == value


@pytest.mark.gen_test
@with_settings(PUBLIC_URL="https://tasks.example.com")
@pytest.mark.usefixtures("app")
async def test_a_neighbour_cannot_put_its_own_session_into_a_browser(
    mine: PageClient, bobs: PageClient, alice: ApiClient, io_loop: Any
) -> None:
    await alice.add_task("Of Alice")
    session = bobs.cookies[NAME]
    own = "; ".join(f"{name}={value}" for name, value in mine.cookies.items())
    for byte in ("\xa0", "\x85", "\x1c", "\x0b", "\x00", "\xad"):
        for sent in (f"{byte}{NAME}={session}; {own}", f"{own}; {byte}{NAME}={session}"):
            text = await io_loop.run_in_executor(None, get, mine.base_url, sent)
            assert BOB not in text
            assert "400 Bad Request" in text or ("Of Alice" in text and ALICE in text)
    # And without a session of her own she has none.
    text = await io_loop.run_in_executor(None, get, mine.base_url, f"\xa0{NAME}={session}")
    assert text.startswith("HTTP/1.1 303 ")
    assert "Location: /login" in text


@pytest.mark.gen_test
async def test_of_two_sessions_none_counts(
    app: Application, mine: PageClient, bobs: PageClient, io_loop: Any
) -> None:
    name = app.cookie_name("session")
    both = [f"{name}={visitor.cookies[name]}" for visitor in (mine, bobs)]
    for header in ("; ".join(both), "; ".join(reversed(both))):
        text = await io_loop.run_in_executor(None, get, mine.base_url, header)
        assert re.match(r"HTTP/1.1 303 ", text)


def get(base_url: str, cookies: str) -> str:
    """Request the list of tasks with a Cookie header of any bytes, and return the response."""
    host, port = urlsplit(base_url).hostname, urlsplit(base_url).port
    with socket.create_connection((host, port), LONG_ENOUGH) as connection:
        request = (
            f"GET /tasks HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nCookie: {cookies}"
        )
        connection.sendall(f"{request}\r\n\r\n".encode("latin-1"))
        with connection.makefile("rb") as response:
            return response.read().decode()


# Names of earlier versions and keys

PURPOSES = ("session", "device", "csrf", "theme", "flash")
OLD_KEY = "once-for-tests-0123456789-abcdefghijklmnop"
OLD_MARK = Signer([OLD_KEY]).instance_marks[0]


def rename_cookies(visitor: PageClient, start: str) -> None:
    """Rename the cookies of a browser to what they were before."""
    for purpose in PURPOSES:
        if value := visitor.cookies.pop(cookie_name(purpose), None):
            visitor.cookies[f"{start}{purpose}"] = value


@pytest.mark.gen_test
@pytest.mark.parametrize("setting_changes", [{"TASKAPP_SECRET_KEY": f"{SECRET_KEY},{OLD_KEY}"}])
@pytest.mark.parametrize("start", ["taskapp-", f"taskapp-{OLD_MARK}-"])
async def test_a_session_under_an_earlier_name_of_its_cookie_goes_on(
    mine: PageClient, alice: ApiClient, start: str
) -> None:
    await mine.open("/tasks")
    await mine.submit("Dark")
    await mine.send("Add", title="Before")
    page = mine.history[-2]
    rename_cookies(mine, start)
    mine.page = page
    assert (await mine.send("Add", title="Just after")).status == 303
    page = await mine.open("/tasks")
    assert page.flash_message == "Task added."
    assert page.tags("html")[0]["data-theme"] == "dark"
    assert {*mine.cookies} == {cookie_name(purpose) for purpose in PURPOSES[:-1]}
    assert (await mine.submit("Add", title="Later")).titles == ["Later", "Just after", "Before"]


@pytest.mark.gen_test
@pytest.mark.parametrize(
    "value", ["", "a b", '"dark"', "d\xe4rk", "a\tb", "a,b", "a=b", "%41", "x" * 1501, "x" * 3000]
)
async def test_what_none_of_our_cookies_is_gets_no_new_name(mine: PageClient, value: str) -> None:
    await mine.open("/tasks")
    rename_cookies(mine, "taskapp-")
    old = {f"taskapp-{purpose}": value for purpose in PURPOSES if purpose != "session"}
    mine.cookies |= old
    page = await mine.fetch("GET", "/tasks")
    assert page.status == 200
    assert max(map(len, page.headers.get_list("Set-Cookie"))) < 200
    assert {*mine.cookies} == {cookie_name("session"), cookie_name("csrf")}


@pytest.mark.gen_test
async def test_a_logout_removes_a_session_under_its_earlier_name_too(
    mine: PageClient, other: PageClient
) -> None:
    await mine.open("/tasks")
    rename_cookies(mine, "taskapp-")
    await mine.submit("Log out")
    assert [name for name in mine.cookies if name.endswith("-session")] == []


@pytest.mark.gen_test
async def test_cookies_under_the_earlier_names_of_another_instance_are_left_alone(
    mine: PageClient, visitor: PageClient
) -> None:
    await mine.open("/tasks")
    theirs = {f"taskapp-{purpose}": "dark" for purpose in PURPOSES} | {
        "taskapp-session": Signer([OLD_KEY]).new_session_cookie(NO_TASK)[0]
    }
    own = dict(mine.cookies)
    mine.cookies = own | theirs
    for address in ("/tasks", "/login", "/register", "/nowhere"):
        page = await mine.open(address)
        assert page.has_form("Log out")
        assert "data-theme" not in page.tags("html")[0]
    await mine.submit("Log out")
    assert {name: mine.cookies[name] for name in theirs} == theirs
