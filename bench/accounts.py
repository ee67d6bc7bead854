"""Accounts of the bench data set as logged-in clients."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, Request, build_opener, urlopen

from bench.connection import Connection, write_request
from bench.load import PASSWORD
from taskapp.cli.common import CliError

_TIMEOUT = 120.0  # seconds
_CSRF_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass(frozen=True)
class Account:
    """A logged-in user, and the ids of their newest 100 tasks."""

    email: str
    token: str
    task_ids: tuple[str, ...]

    @property
    def bearer(self) -> str:
        """Return the header with the API token."""
        return f"Authorization: Bearer {self.token}"


def log_in_all(connection: Connection, users: int, count: int) -> list[Account]:
    """Log in `count` accounts, or all, spread evenly over a database of `users`.

    Raises:
        CliError: a login fails.
    """
    count = min(count, users)
    return [log_in(connection, 1 + index * users // count) for index in range(count)]


def log_in(connection: Connection, number: int) -> Account:
    """Log in the account of this number, and read the ids of its tasks.

    Raises:
        CliError: a response is not 200.
    """
    email = f"user{number:05d}@example.com"
    body = {"email": email, "password": PASSWORD}
    token = _ask(connection, write_request("POST", "/api/auth/login", body=body))["token"]
    listed = _ask(connection, write_request("GET", "/api/tasks?limit=100", token))
    return Account(email, token, tuple(str(task["id"]) for task in listed["tasks"]))


def cookie_header(port: int, account: Account) -> str:
    """Log an account in by the login form, and return the header with its cookies.

    Raises:
        CliError: the login fails.
    """
    jar = CookieJar()
    browser = build_opener(HTTPCookieProcessor(jar))
    address = f"http://127.0.0.1:{port}/login"
    with browser.open(address, timeout=_TIMEOUT) as page:
        csrf_token = _CSRF_TOKEN.search(page.read().decode())
    if not csrf_token:
        raise CliError("The login form has no CSRF token.")
    fields = {"csrf_token": csrf_token[1], "email": account.email, "password": PASSWORD}
    with browser.open(address, urlencode(fields).encode(), timeout=_TIMEOUT) as page:
        if not page.url.endswith("/tasks"):
            raise CliError(f"{account.email} could not log in by the page.")
    return "Cookie: " + "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def etag_header(port: int, account: Account, path: str) -> str:
    """Return an `If-None-Match` header with the current ETag of a path."""
    headers = {"Authorization": f"Bearer {account.token}"}
    request = Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310  # http, on loopback
        return f"If-None-Match: {response.headers['ETag']}"


def write_accounts(
    path: Path, accounts: Iterable[Account], headers: Callable[[Account], list[str]]
) -> Path:
    """Write the file that wrk.lua reads: the email, task ids and headers of each account."""
    lines = [
        "\t".join([account.email, " ".join(account.task_ids), *headers(account)]) + "\n"
        for account in accounts
    ]
    path.write_text("".join(lines), encoding="ascii")
    return path


def _ask(connection: Connection, request: bytes) -> dict[str, Any]:
    status, body = connection.ask(request)
    if status != 200:
        raise CliError(f"{request[:60]!r} returned {status}: {body[:300]!r}")
    response: dict[str, Any] = json.loads(body)
    return response
