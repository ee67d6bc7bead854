"""All routes, and the application made of them."""

import re

from tornado.routing import URLSpec

from handlers.api.auth import LoginApi, LogoutApi, RegisterApi
from handlers.api.base import ApiHandler, NotFoundApi, TrailingSlashApi
from handlers.api.health import HealthApi, LiveApi, MetricsHandler, ReadyApi
from handlers.api.openapi import OpenApiApi
from handlers.api.tasks import TaskApi, TaskListApi
from handlers.pages.account import (
    AccountDeletePage,
    AccountPage,
    OtherSessionsEndPage,
    PasswordPage,
    SessionEndPage,
    TokenListPage,
)
from handlers.pages.api_docs import DocsPage
from handlers.pages.auth import LoginPage, LogoutPage, RegisterPage
from handlers.pages.base import NotFoundPage, PageHandler, TrailingSlashPage
from handlers.pages.site import HomePage, RobotsFile, StaticFiles, ThemePage
from handlers.pages.status import StatusPage
from handlers.pages.tasks import (
    CompletedDeletePage,
    RestorePage,
    SeveralTasksPage,
    TaskDeletePage,
    TaskEditPage,
    TaskListPage,
    TaskStatusPage,
)
from handlers.web.application import Application
from handlers.web.base import BaseHandler
from taskapp.services import Services

ROUTES: list[tuple[str, type[BaseHandler]]] = [
    # Accounts
    ("/", HomePage),
    ("/register", RegisterPage),
    ("/login", LoginPage),
    ("/logout", LogoutPage),
    # The user's own account
    ("/account", AccountPage),
    ("/account/password", PasswordPage),
    ("/account/tokens", TokenListPage),
    ("/account/sessions/others/end", OtherSessionsEndPage),
    ("/account/sessions/:id/end", SessionEndPage),
    ("/account/delete", AccountDeletePage),
    # Appearance
    ("/theme", ThemePage),
    # Tasks
    ("/tasks", TaskListPage),
    ("/tasks/several", SeveralTasksPage),
    ("/tasks/completed/delete", CompletedDeletePage),
    ("/tasks/restore", RestorePage),
    ("/tasks/:id/edit", TaskEditPage),
    ("/tasks/:id/status", TaskStatusPage),
    ("/tasks/:id/delete", TaskDeletePage),
    # The API for accounts
    ("/api/auth/register", RegisterApi),
    ("/api/auth/login", LoginApi),
    ("/api/auth/logout", LogoutApi),
    # The API for tasks
    ("/api/tasks", TaskListApi),
    ("/api/tasks/:id", TaskApi),
    # The description of the API
    ("/api/openapi.json", OpenApiApi),
    ("/api/docs", DocsPage),
    # Health and metrics
    ("/status", StatusPage),
    ("/api/health", HealthApi),
    ("/api/health/live", LiveApi),
    ("/api/health/ready", ReadyApi),
    ("/metrics", MetricsHandler),
    # Files
    ("/static/:path", StaticFiles),
    ("/robots.txt", RobotsFile),
    # Unknown paths: JSON below /api/, a page elsewhere (`NotFoundPage`)
    ("/api/:path", NotFoundApi),
]
_PARAMETERS = {":id": "([^/]+)", ":path": "(.*)"}


def make_application(services: Services) -> Application:
    """Return the application with all its routes below the base path."""
    base = services.settings.base_path
    fixed = {base + path: (handler, path) for path, handler in ROUTES if ":" not in path}
    fixed[base] = fixed[f"{base}/"]  # the start page, with and without the slash
    patterns = [
        URLSpec(f"{_pattern(base + path)}$", handler, {"route": path})
        for path, handler in ROUTES
        if ":" in path
    ]
    patterns[-1:-1] = [  # before the pattern of all paths below /api/
        _with_trailing_slash(base, PageHandler, TrailingSlashPage),
        _with_trailing_slash(base, ApiHandler, TrailingSlashApi),
    ]
    return Application(services, fixed, patterns, not_found=NotFoundPage)


def _pattern(path: str) -> str:
    parts = re.split("(:id|:path)", path)
    return "".join(_PARAMETERS.get(part) or re.escape(part) for part in parts)


def _with_trailing_slash(base: str, kind: type[BaseHandler], handler: type[BaseHandler]) -> URLSpec:
    """Return the route of all paths of one kind of handlers with a slash at the end."""
    paths = [
        _pattern(base + path)
        for path, routed in ROUTES
        if issubclass(routed, kind) and ":path" not in path and path != "/"
    ]
    return URLSpec(f"(?:{'|'.join(paths)})/$", handler, {"route": "(trailing slash)"})
