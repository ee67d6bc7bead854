"""A cookie is ours if its name is exactly ours; whoever can set others plants nothing."""

import re
import socket
from typing import Any
from urllib.parse import urlsplit

import pytest

from handlers.web.application import Application
from handlers.web.cookies import read_cookies
from tests.support.api_tools import with_settings
from tests.support.clients import ApiClient
from tests.support.page_client import ALICE, BOB, PageClient

pytest_plugins = ["tests.support.page_fixtures"]

NAME = "__Host-taskapp-session"
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
    with socket.create_connection((host, port), 60) as connection:
        request = (
            f"GET /tasks HTTP/1.1\r\nHost: {host}:{port}\r\nConnection: close\r\nCookie: {cookies}"
        )
        connection.sendall(f"{request}\r\n\r\n".encode("latin-1"))
        with connection.makefile("rb") as response:
            return response.read().decode()
