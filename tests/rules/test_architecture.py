"""The rules of the architecture that import-linter cannot say, read from source and routes."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from handlers.api.base import ApiHandler, NotFoundApi, PayloadTooLargeApi, TrailingSlashApi
from handlers.api.openapi import make_document
from handlers.pages.base import NotFoundPage, PageHandler, PayloadTooLargePage, TrailingSlashPage
from handlers.routes import ROUTES
from handlers.web.application import METHODS
from handlers.web.base import BaseHandler
from tests.support.api_tools import NO_TASK
from tests.support.clients import ApiClient

CHECKOUT = Path(__file__).parents[2]
PACKAGES = ["handlers", "taskapp", "schema"]
SOURCES = [
    CHECKOUT / "server.py",
    *(path for package in PACKAGES for path in sorted((CHECKOUT / package).rglob("*.py"))),
]
UNDESCRIBED = {"/api/docs", "/api/openapi.json", "/api/:path"}  # about the API, not of it
# The answers to addresses without a route or with a slash at the end, and to bodies too large.
UNROUTED = {
    *(NotFoundPage, TrailingSlashPage, PayloadTooLargePage),
    *(TrailingSlashApi, PayloadTooLargeApi),
}
PUBLIC = {
    *("/", "/register", "/login", "/logout", "/theme", "/status"),
    *("/api/auth/register", "/api/auth/login"),
    *("/api/openapi.json", "/api/docs"),
    *("/api/health", "/api/health/live", "/api/health/ready", "/metrics"),
    *("/static/:path", "/robots.txt", "/api/:path"),
}


def name_of(path: Path) -> str:
    """Return a module's name, such as "taskapp.operations.tasks"."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


# Reading requests


def test_no_page_or_api_reads_what_tornado_would_alter() -> None:
    altering = {"get_argument", "get_arguments", "get_body_argument", "get_query_argument"}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                assert node.attr not in altering, f"{path}: {node.attr}"


# SQL

# What the server runs for requests and jobs is in taskapp/queries/; what connections and migrations
# need for themselves is in taskapp/db/; what a backup runs on a connection of its own is in
# taskapp/backups/. import-linter holds the same for what is written with SQLAlchemy.
SQL_PACKAGES = ("taskapp.queries.", "taskapp.db.", "taskapp.backups.", "schema.")
SQL = re.compile(
    r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|TRUNCATE|LOCK|SET|SHOW|BEGIN|COMMIT|ROLLBACK"
    r"|CREATE|ALTER|DROP|GRANT|PREPARE|EXECUTE|VACUUM|ANALYZE)\b"
)


def texts_of(path: Path) -> Iterator[str]:
    """Yield the strings of a module, docstrings and the parts of f-strings included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def test_sql_is_written_in_these_packages_only() -> None:
    with_sql = {name_of(path) for path in SOURCES if any(map(SQL.match, texts_of(path)))}
    assert {"taskapp.db.migrations", "taskapp.backups.checksums"} <= with_sql
    assert [name for name in with_sql if not name.startswith(SQL_PACKAGES)] == []


def test_statements_of_the_pool_are_made_in_queries_only() -> None:
    made_in = {
        name_of(path)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "Statement"
    }
    assert "taskapp.queries.tasks" in made_in
    assert [name for name in made_in if not name.startswith("taskapp.queries.")] == []


# Words

VERBS = {"find", "require", "list", "count", "insert", "update", "delete"}
# Seldom, and no synonyms of those above.
OTHER_VERBS = {"touch", "replace", "close", "estimate", "ping"}


def test_a_query_begins_with_one_of_the_few_verbs() -> None:
    for path in SOURCES:
        if name_of(path).startswith("taskapp.queries."):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.AsyncFunctionDef):
                    assert node.name.split("_")[0] in VERBS | OTHER_VERBS, node.name


def test_a_query_on_tasks_takes_the_session_first() -> None:
    for node in ast.parse((CHECKOUT / "taskapp" / "queries" / "tasks.py").read_text()).body:
        if isinstance(node, ast.AsyncFunctionDef) and node.name != "estimate_tasks":
            assert [argument.arg for argument in node.args.args[:2]] == ["database", "session"]


# Routes


def handlers_of(base: type[BaseHandler]) -> Iterator[type[BaseHandler]]:
    """Yield all handlers of the program that derive from one, and from which none derives."""
    own = [part for part in base.__subclasses__() if part.__module__.startswith("handlers.")]
    if not own:
        yield base
    for handler in own:
        yield from handlers_of(handler)


def test_every_handler_has_a_route() -> None:
    for path in (CHECKOUT / "handlers").rglob("*.py"):
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
        *("/tasks", "/tasks/several", "/tasks/completed/delete", "/tasks/restore"),
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


@pytest.mark.gen_test
@pytest.mark.usefixtures("app")
@pytest.mark.parametrize(("path", "method", "is_api"), private_methods())
async def test_whatever_is_not_public_refuses_a_stranger(
    api: ApiClient, path: str, method: str, *, is_api: bool
) -> None:
    response = await api.send(method, path, raw=b"{}")
    if is_api:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
    elif method in {"GET", "HEAD"}:
        assert response.status == 303
        assert response.headers["Location"].startswith("/login?next=")
    else:
        assert response.status in {303, 401, 403}
        assert not response.headers.get("Location", "/login").startswith("/tasks")


def test_the_methods_that_are_measured_are_those_that_handlers_have() -> None:
    used = {method for _, handler in ROUTES for method in handler.allowed_methods()}
    assert used == set(METHODS)
