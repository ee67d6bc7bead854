"""A slash at the end: pages lead to the address without it, the API names that address."""

from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from handlers.api.base import ApiHandler
from handlers.routes import ROUTES
from handlers.web.application import METHODS
from tests.support.api_tools import NO_TASK, assert_problem, with_settings
from tests.support.clients import ApiClient

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]


def paths(*, of_api: bool) -> Iterator[str]:
    """Yield a path of every route of pages or of the API, without that of all files."""
    for route, handler in ROUTES:
        if issubclass(handler, ApiHandler) == of_api and ":path" not in route and route != "/":
            yield route.replace(":id", NO_TASK)


@pytest.mark.parametrize("query", ["", "?status=pending", "?title=a%20b&url=https://a.example/"])
async def test_every_page_leads_on_with_its_query(api: ApiClient, query: str) -> None:
    for path in paths(of_api=False):
        for method in METHODS:
            response = await api.send(method, f"{path}/{query}", raw=b"")
            assert (response.status, response.headers["Location"]) == (308, path + query)
            assert response.headers["Cache-Control"] == "no-store"


async def test_every_route_of_the_api_names_the_address(api: ApiClient) -> None:
    for path in paths(of_api=True):
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            problem = assert_problem(await api.send(method, f"{path}/", raw=b""), 404)
            assert problem["detail"] == f"The address is {path}, without a slash at the end."


@with_settings(BASE_PATH="/a/tasks")
async def test_below_a_path_the_address_keeps_it(api: ApiClient) -> None:
    response = await api.get("/a/tasks/tasks/?status=pending")
    assert (response.status, response.headers["Location"]) == (308, "/a/tasks/tasks?status=pending")
    problem = assert_problem(await api.get("/a/tasks/api/tasks/"), 404)
    assert "/a/tasks/api/tasks," in problem["detail"]
    response = await api.get("/a/tasks/")  # the start page
    assert (response.status, response.headers["Location"]) == (303, "/a/tasks/register")
    assert (await api.get("/tasks/")).status == 404


@pytest.mark.parametrize(
    "path",
    [
        *("//evil.example/", "//evil.example/tasks/", "//tasks/", "///tasks/", "/tasks//"),
        *("/\\evil.example/", "/tasks/\\evil.example/", "/%2Fevil.example/", "/%5Cevil.example/"),
        *("/.//evil.example/", "/tasks/..//evil.example/", "//evil.example/tasks/x/edit/"),
        *("/nothing/", "/api/", "/api/nothing/", "/static/style.css/", "/tasks/x/y/edit/"),
        f"/tasks/{'x' * 600}/edit/",
        f"/tasks/?title={'x' * 600}",
        "/tasks/\x80/edit/",
    ],
)
async def test_nothing_else_leads_anywhere(api: ApiClient, path: str) -> None:
    response = await api.get(path)
    assert response.status in {400, 404}
    assert "Location" not in response.headers


@pytest.mark.parametrize("part", ["\\evil.example", "%2F%2Fevil.example", "..", "@evil.example"])
async def test_whatever_stands_for_an_id_stays_on_this_site(api: ApiClient, part: str) -> None:
    response = await api.get(f"/tasks/{part}/edit/")
    target = urlsplit(response.headers["Location"])
    assert (target.scheme, target.netloc) == ("", "")
    assert target.path == f"/tasks/{part}/edit"


async def test_another_host_is_refused(api: ApiClient) -> None:
    for path in ("/tasks/", "/api/tasks/"):
        assert (await api.get(path, headers={"Host": "evil.example"})).status == 421
