"""Hooks of schemathesis (SCHEMATHESIS_HOOKS) for what the OpenAPI document cannot express.

* A token: from a login, and a new one for each request that logs out.
* A cursor: from the response of a list.
* A password: a schema cannot express which ones are easy to guess.
"""

import os
from typing import Any

import requests
import schemathesis
from hypothesis import strategies as st

BASE_URL = os.environ["TASKAPP_TEST_URL"]
ACCOUNT = {"email": "schemathesis@example.com", "password": "SecurePass123!"}


def _send(method: str, path: str, token: str = "", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    response = requests.request(method, BASE_URL + path, headers=headers, timeout=120, **more)
    response.raise_for_status()
    return response.json()


def _log_in() -> str:
    token: str = _send("POST", "/api/auth/login", json=ACCOUNT)["token"]
    return token


def _make_cursor() -> str:
    token = _log_in()
    for title in ["One", "Two"]:
        _send("POST", "/api/tasks", token, json={"title": title})
    cursor: str = _send("GET", "/api/tasks?limit=1", token)["nextCursor"]
    return cursor


_send("POST", "/api/auth/register", json=ACCOUNT)
SHARED_TOKEN = _log_in()


@schemathesis.auth(refresh_interval=None)
class Login:
    """Provides a new token for each request that ends its session, and a shared one otherwise."""

    def get(self, case: "schemathesis.Case[Any]", _context: schemathesis.AuthContext) -> str:
        return _log_in() if case.operation.path == "/api/auth/logout" else SHARED_TOKEN

    def set(
        self, case: "schemathesis.Case[Any]", token: str, _context: schemathesis.AuthContext
    ) -> None:
        case.headers["Authorization"] = f"Bearer {token}"


schemathesis.openapi.format("cursor", st.just(_make_cursor()))


@schemathesis.hook
def before_call(_context: Any, case: "schemathesis.Case[Any]", _more: dict[str, Any]) -> None:
    """Replace a generated password with a strong one."""
    if case.operation.path == "/api/auth/register" and isinstance(case.body, dict):
        password = case.body.get("password")
        if isinstance(password, str) and 8 <= len(password) <= 256 and "\0" not in password:
            case.body["password"] = "correct horse battery staple"
