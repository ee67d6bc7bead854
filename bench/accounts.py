"""The accounts of the bench data set as clients: logged in, with their tasks."""

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
_FORM_PROOF = re.compile(r'name="csrf_token" value="([^"]+)"')


@dataclass(frozen=True)
class Account:
    """Somebody who is logged in, and the newest hundred of the tasks that are theirs."""

    email: str
    token: str
    task_ids: tuple[str, ...]

    @property
    def bearer(self) -> str:
        """Give the header that carries the session of the API."""
        return f"Authorization: Bearer {self.token}"


def log_in_all(connection: Connection, users: int, count: int) -> list[Account]:
    """Log in so many people, or all, from all over a database of so many users.

    Raises:
        Failure: one of them is not let in.
    """
    count = min(count, users)
    return [log_in(connection, 1 + place * users // count) for place in range(count)]


def log_in(connection: Connection, number: int) -> Account:
    """Log in one person by number, and read the ids of their tasks.

    Raises:
        Failure: it is not answered as it should be.
    """
    email = f"user{number:05d}@example.com"
    body = {"email": email, "password": PASSWORD}
    token = _ask(connection, write_request("POST", "/api/auth/login", body=body))["token"]
    listed = _ask(connection, write_request("GET", "/api/tasks?limit=100", token))
    return Account(email, token, tuple(str(task["id"]) for task in listed["tasks"]))


def cookie_header(port: int, account: Account) -> str:
    """Log an account in by the page, and give the header with its cookies.

    Raises:
        Failure: it is not let in.
    """
    jar = CookieJar()
    browser = build_opener(HTTPCookieProcessor(jar))
    address = f"http://127.0.0.1:{port}/login"
    with browser.open(address, timeout=_TIMEOUT) as page:
        proof = _FORM_PROOF.search(page.read().decode())
    if not proof:
        raise CliError("The form for logging in has no proof in it.")
    fields = {"csrf_token": proof[1], "email": account.email, "password": PASSWORD}
    with browser.open(address, urlencode(fields).encode(), timeout=_TIMEOUT) as page:
        if not page.url.endswith("/tasks"):
            raise CliError(f"{account.email} could not log in by the page.")
    return "Cookie: " + "; ".join(f"{cookie.name}={cookie.value}" for cookie in jar)


def etag_header(port: int, account: Account, path: str) -> str:
    """Give the header with which what is at a path now is known already."""
    headers = {"Authorization": f"Bearer {account.token}"}
    request = Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    with urlopen(request, timeout=_TIMEOUT) as response:  # noqa: S310  # our own
        return f"If-None-Match: {response.headers['ETag']}"


def write_accounts(
    path: Path, accounts: Iterable[Account], headers: Callable[[Account], list[str]]
) -> Path:
    """Write the file that wrk.lua reads: for each account its address, its tasks, its headers."""
    lines = [
        "\t".join([account.email, " ".join(account.task_ids), *headers(account)]) + "\n"
        for account in accounts
    ]
    path.write_text("".join(lines), encoding="ascii")
    return path


def _ask(connection: Connection, request: bytes) -> dict[str, Any]:
    status, body = connection.ask(request)
    if status != 200:
        raise CliError(f"{request[:60]!r} was answered with {status}: {body[:300]!r}")
    response: dict[str, Any] = json.loads(body)
    return response
