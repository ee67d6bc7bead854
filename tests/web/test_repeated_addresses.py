"""No response repeats more of an address or a header than one of this site is long."""

import pytest

from handlers.routes import ROUTES
from handlers.web.base import MAX_PATH_LENGTH
from handlers.web.hosts import MAX_HOST_LENGTH
from tests.support.api_tools import NO_TASK
from tests.support.clients import ApiClient
from tests.support.page_client import PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

LENGTH = 14_000
MAX_ESCAPED = 5  # characters of HTML for one: &#39;
MAX_TIMES = 2  # that a page has its address: for the theme, and to open it again
HOSTILE = ("'", "%22")
QUERIES = ("", "next=/", "after=", "status=")
METHODS = ("GET", "POST")


def addresses(text: str) -> list[str]:
    paths = [route.replace(":id", NO_TASK).replace(":path", "nothing") for route, _ in ROUTES]
    return [
        *(f"{path}?{query}{text}" for path in paths for query in QUERIES),
        *(f"{path}/?{text}" for path in paths),
        *(path.replace(":id", text).replace(":path", text) for path, _ in ROUTES if ":" in path),
        *(f"{path.replace(':id', text)}/" for path, _ in ROUTES if ":id" in path),
        f"/{text}",
    ]


async def size(client: ApiClient, method: str, address: str, headers: dict[str, str]) -> int:
    """Return how many bytes a response has."""
    response = await client.send(method, address, headers=headers)
    lines = (len(name) + len(value) for name, value in response.headers.get_all())
    return len(response.body) + sum(lines)


@pytest.mark.parametrize("method", METHODS)
async def test_no_response_repeats_a_long_address(
    api: ApiClient, mine: PageClient, method: str
) -> None:
    cookies = "; ".join(f"{name}={value}" for name, value in mine.cookies.items())
    most = 8_000 + MAX_TIMES * MAX_ESCAPED * MAX_PATH_LENGTH
    for number, text in enumerate(HOSTILE):
        long = text * (LENGTH // len(text))
        for address in addresses(long):
            headers = {"Cookie": cookies} if number % 2 else {}
            is_document = address.startswith(("/api/openapi", "/api/docs", "/static", "/metrics"))
            if not is_document:
                assert await size(api, method, address, headers) < most, address[:60]


async def test_no_response_repeats_a_long_host_or_origin(api: ApiClient, mine: PageClient) -> None:
    long = {
        "Host": f"{'a' * LENGTH}.localhost",
        "Origin": f"http://{'a' * LENGTH}",
        "X-Forwarded-Host": "'" * LENGTH,
        "X-Request-ID": "'" * LENGTH,
        "Accept-Language": "'" * LENGTH,
        "Referer": "'" * LENGTH,
    }
    paths = [route.replace(":id", NO_TASK).replace(":path", "nothing") for route, _ in ROUTES]
    for name, value in long.items():
        other = {"Origin": "http://evil.example"} if name == "Host" else {}
        for method in ("GET", "POST"):
            for path in paths:
                headers = {name: value, **other}
                response = await api.send(method, path, headers=headers)
                assert value[: MAX_HOST_LENGTH + 1].encode() not in response.body, (name, path)
                assert "&#39;" * 100 not in response.body.decode("utf-8", "replace"), (name, path)


async def test_an_address_as_long_as_one_of_ours_is_repeated(api: ApiClient) -> None:
    path = "/" + "a" * (MAX_PATH_LENGTH - 1)
    assert f'value="{path}"'.encode() in (await api.get(path)).body
    assert f'value="{path}a"'.encode() not in (await api.get(f"{path}a")).body


async def test_what_is_too_long_for_an_email_address_is_not_shown_again(
    visitor: PageClient,
) -> None:
    for address in ("/login", "/register"):
        await visitor.open(address)
        fields = {"email": "'" * LENGTH, "password": "x"}
        page = await visitor.fetch("POST", address, visitor.csrf_field | fields)
        assert page.status == 400
        assert len(page.html) < 8_000
