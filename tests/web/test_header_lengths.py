"""No response has a header that a proxy cannot take, whatever was asked for."""

import pytest

from handlers.routes import ROUTES
from tests.support.api_tools import NO_TASK
from tests.support.clients import ApiClient, Response
from tests.support.page_client import PageClient
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

MAX_HEADER = 2 * 1024  # bytes of one
MAX_HEADERS = 8 * 1024  # bytes of all; nginx has twice the room (deploy/nginx/proxy.conf)
LONG = (
    *("a" * 15_000, "%F0%9F%98%80" * 1_200, "%0d%0aX:%20y" * 1_000, "/" * 15_000),
    *("é" * 5_000, "?next=" + "/a" * 7_000, "a" * 499, "%22" * 480),
)


def assert_short(response: Response | Page, where: str) -> None:
    lines = [f"{name}: {value}\r\n" for name, value in response.headers.get_all()]
    assert max(map(len, lines)) <= MAX_HEADER, where
    assert sum(map(len, lines)) <= MAX_HEADERS, where


def long_addresses() -> list[str]:
    paths = [route.replace(":id", NO_TASK).replace(":path", "nothing") for route, _ in ROUTES]
    names = ("", "next=", "after=", "status=", "v=", "limit=")
    return [
        *(f"{path}?{name}{text}" for path in paths for name in names for text in LONG),
        *(
            route.replace(":id", text).replace(":path", text)
            for route, _ in ROUTES
            for text in LONG
        ),
        *(f"/{text}" for text in LONG),
    ]


@pytest.mark.fuzz
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_no_address_makes_a_long_header(
    api: ApiClient, mine: PageClient, method: str
) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in mine.cookies.items())
    for path in long_addresses():
        for sent in ({}, {"Cookie": cookies}) if path.isascii() else ({},):
            response = await api.send(method, path.encode().decode("latin-1"), headers=sent)
            assert_short(response, path[:60])


@pytest.mark.fuzz
async def test_no_field_and_no_header_makes_a_long_header(api: ApiClient, mine: PageClient) -> None:
    for text in LONG:
        for address in ("/theme", "/login", "/tasks", "/tasks/several"):
            fields = dict.fromkeys(("next", "theme", "title", "titles", "email", "key"), text)
            page = await mine.fetch("POST", address, mine.csrf_field | fields)
            assert_short(page, address)
    for header in ("Origin", "X-Request-ID", "If-None-Match", "Accept-Language", "Cookie", "Host"):
        for path in ("/tasks", "/api/tasks", "/static/style.css"):
            response = await api.get(path, headers={header: "a" * 14_000})
            assert_short(response, f"{path} {header}")
