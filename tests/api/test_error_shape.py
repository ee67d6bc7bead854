"""Every way to fail under /api/ has one shape: application/problem+json (RFC 9457)."""

from typing import Any

import pytest

from handlers.api.base import ApiHandler
from handlers.web.application import Application
from taskapp.services import Services
from tests.conftest import PASSWORD
from tests.support.api_tools import NEED_SESSION, NO_TASK, assert_problem, with_settings
from tests.support.clients import ApiClient
from tests.support.server_process import LONG_ENOUGH

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

SECRET = "a secret that an exception quotes"


class BrokenApi(ApiHandler):
    """Fails in a way that nobody expected."""

    is_public = True

    async def get(self) -> None:
        """Divide by zero."""
        self.set_header("X-Half-Done", "yes")
        self.write(SECRET)
        divided: float = 1 / int(self.query("by") or 0)
        raise RuntimeError(f"{SECRET} {divided}")


@pytest.fixture
def broken(app: Application) -> str:
    """The path of a handler that fails."""
    app.add_handlers(".*", [("/api/broken", BrokenApi, {"route": "/api/broken"})])
    return "/api/broken"


@pytest.mark.parametrize(
    ("method", "path", "sent", "status"),
    [
        ("POST", "/api/tasks", {"raw": b"{"}, 400),
        ("POST", "/api/tasks", {"body": {}}, 400),
        ("GET", "/api/tasks?limit=0", {}, 400),
        ("GET", "/api/tasks?after=x", {}, 400),
        ("GET", "/api/tasks/%FF", {}, 400),
        ("POST", "/api/auth/register", {"body": {"email": "x"}}, 400),
        ("POST", "/api/auth/login", {"body": []}, 400),
        ("GET", "/api/tasks", {"headers": {"Authorization": ""}}, 401),
        ("POST", "/api/auth/login", {"body": {"email": "a@b.cc", "password": "x"}}, 401),
        ("GET", f"/api/tasks/{NO_TASK}", {}, 404),
        ("GET", "/api/", {}, 404),
        ("GET", "/api/nothing", {}, 404),
        ("GET", "/api/tasks/", {}, 404),
        ("GET", f"/api/tasks/{NO_TASK}/", {}, 404),
        ("GET", "/api/TASKS", {}, 404),
        ("POST", "/api/nothing", {"body": {}}, 404),
        ("GET", "/api/%00", {}, 404),
        ("DELETE", "/api/tasks", {}, 405),
        ("PUT", "/api/auth/login", {"body": {}}, 405),
        ("GET", "/api/auth/register", {}, 405),
        ("BREW", "/api/tasks", {}, 405),
        ("TRACE", "/api/tasks", {}, 405),
        ("POST", "/api/health", {"body": {}}, 405),
        (
            "POST",
            "/api/auth/register",
            {"body": {"email": "alice@example.com", "password": PASSWORD}},
            409,
        ),
        ("POST", "/api/tasks", {"raw": b" " * 300_000}, 413),
        ("POST", "/api/nothing", {"raw": b" " * 300_000}, 413),
        ("POST", "/api/tasks", {"raw": b"x", "headers": {"Content-Type": "text/plain"}}, 415),
        ("POST", "/api/auth/login", {"raw": b"{}", "headers": {"Content-Type": ""}}, 415),
    ],
)
async def test_a_failure_is_a_problem(
    alice: ApiClient, method: str, path: str, sent: dict[str, Any], status: int
) -> None:
    assert_problem(await alice.send(method, path, **sent), status)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "text/json",
        "application/jsonx",
        "application/problem+json",
        ";",
    ],
)
async def test_a_body_that_is_not_declared_as_json_is_refused(
    alice: ApiClient, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = await alice.post("/api/tasks", {"title": "x"}, headers=headers)
    assert response.status in {400, 415}
    assert_problem(response, response.status)
    assert (await alice.get("/api/tasks")).json["tasks"] == []


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "Application/JSON;x=y"]
)
async def test_json_may_be_declared_with_parameters(alice: ApiClient, content_type: str) -> None:
    headers = {"Content-Type": content_type}
    assert (await alice.post("/api/tasks", {"title": "x"}, headers=headers)).status == 201


async def test_a_412_and_a_403_are_problems(alice: ApiClient, bob: ApiClient) -> None:
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    assert_problem(await alice.delete(path, headers={"If-Match": '"other"'}), 412)
    assert_problem(await bob.delete(path), 403)


@with_settings(API_LIMIT="1/hour", REGISTER_LIMIT="1/hour", LOGIN_LIMIT="1/hour")
async def test_every_429_is_a_problem_with_its_limit(api: ApiClient) -> None:
    carol = {"email": "carol@example.com", "password": PASSWORD}
    user = await api.sign_up(**carol)
    await user.get("/api/tasks")
    wrong = {**carol, "password": "x"}
    await api.post("/api/auth/login", wrong)
    for response, name in [
        (await user.get("/api/tasks"), "api"),
        (await api.post("/api/auth/register", carol | {"email": "dave@example.com"}), "register"),
        (await api.post("/api/auth/login", wrong), "login"),
    ]:
        assert_problem(response, 429)
        assert 0 < int(response.headers["Retry-After"]) <= 3600
        assert response.headers["RateLimit"].startswith(f'"{name}";r=0;t=')
        assert response.headers["RateLimit-Policy"] == f'"{name}";q=1;w=3600'


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_an_unexpected_failure_is_a_500_that_tells_nothing(
    api: ApiClient, broken: str, method: str
) -> None:
    for query in ["", "?by=2"]:
        response = await api.send(method, broken + query)
        assert response.status == 500
        assert "X-Half-Done" not in response.headers
        if method == "GET":
            assert_problem(response, 500)
            body = response.body.decode()
            for told in [SECRET, "ZeroDivisionError", "RuntimeError", "Traceback", ".py"]:
                assert told not in body


async def test_an_unexpected_failure_is_logged_with_its_place_and_without_its_words(
    api: ApiClient, broken: str, capsys: pytest.CaptureFixture[str]
) -> None:
    response = await api.get(f"{broken}?by=2")
    logged = capsys.readouterr().err
    assert "RuntimeError" in logged
    assert "test_error_shape.py" in logged
    assert response.headers["X-Request-ID"] in logged
    assert SECRET not in logged


@pytest.mark.parametrize(("method", "path"), NEED_SESSION)
async def test_without_a_database_there_is_a_503_that_says_when_to_come_again(
    alice: ApiClient, app: Application, services: Services, method: str, path: str
) -> None:
    assert await app.drain(LONG_ENOUGH)
    await services.database.close()
    response = await alice.send(method, path, {"title": "x"})
    assert_problem(response, 503)
    assert int(response.headers["Retry-After"]) >= 1


async def test_without_a_database_nobody_registers_or_logs_in(
    api: ApiClient, services: Services
) -> None:
    await services.database.close()
    for path in ["/api/auth/register", "/api/auth/login"]:
        sent = {"email": "carol@example.com", "password": PASSWORD}
        response = await api.post(path, sent)
        assert_problem(response, 503)
        assert int(response.headers["Retry-After"]) >= 1


async def test_outside_of_the_api_a_failure_is_a_page(api: ApiClient) -> None:
    for path in ["/nothing", "/apix", "/static/nothing.css"]:
        response = await api.get(path)
        assert response.status == 404
        assert response.headers["Content-Type"] == "text/html; charset=UTF-8"
