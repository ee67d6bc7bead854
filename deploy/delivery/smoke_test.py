#!/usr/bin/env python3
"""Does taskapp's main job once, as a user of a site does: `smoke_test.py URL`.

Registers, logs in, adds a task, lists, completes and deletes it, and deletes the account. Ends
with 1 and one line that says what went wrong. Needs nothing but Python.
"""

import argparse
import html
import http.client
import json
import os
import re
import secrets
import socket
import ssl
import sys
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode, urlsplit

TIMEOUT = 30.0  # seconds
CSRF_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


class SmokeTestError(Exception):
    """The site did not do what it is for; the message says where."""


class Site:
    """A client of the API, with a token, and of the pages, with cookies."""

    def __init__(self, url: str, connect: str = "") -> None:
        """`connect` is the host and port, if they are others than those of the URL."""
        self._url = urlsplit(url)
        address = urlsplit(f"//{connect}") if connect else self._url
        self._is_secure = self._url.scheme == "https"
        self._address = (address.hostname or "", address.port or (443 if self._is_secure else 80))
        self._cookies: dict[str, str] = {}
        self._token = ""

    def api(self, status: int, method: str, path: str, body: object = None, **headers: str) -> Any:
        """Send a request of the API, and return the JSON of its response."""
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        content = None if body is None else json.dumps(body)
        text = self._send(status, method, f"/api{path}", content, headers)
        try:
            return json.loads(text)
        except ValueError as error:
            raise SmokeTestError(f"{method} /api{path}: {error}") from error

    def log_in(self, account: dict[str, str]) -> None:
        """Log in to the API; later requests send the token."""
        self._token = self.api(200, "POST", "/auth/login", account)["token"]

    def log_out(self) -> None:
        """End the session of the API."""
        self.api(200, "POST", "/auth/logout")
        self._token = ""

    def submit(self, path: str, **fields: str) -> None:
        """Submit the form of a page."""
        page = self._send(200, "GET", path, None, {"Cookie": self._cookie()})
        token = CSRF_TOKEN.search(page)
        if token is None:
            raise SmokeTestError(f"GET {path}: a page without a form")
        form = urlencode({"csrf_token": html.unescape(token[1]), **fields})
        kind = "application/x-www-form-urlencoded"
        self._send(303, "POST", path, form, {"Cookie": self._cookie(), "Content-Type": kind})

    def _cookie(self) -> str:
        return "; ".join(f"{name}={value}" for name, value in self._cookies.items())

    def _send(
        self, status: int, method: str, path: str, body: str | None, headers: dict[str, str]
    ) -> str:
        try:
            connection = self._connected()
            try:
                whole = f"{self._url.path.rstrip('/')}{path}"
                connection.request(method, whole, body, {"Host": self._url.netloc} | headers)
                response = connection.getresponse()
                text = response.read().decode()
            finally:
                connection.close()
        except (OSError, http.client.HTTPException) as error:
            raise SmokeTestError(f"{method} {path}: {error!r}") from error
        for cookie in response.headers.get_all("Set-Cookie", []):
            name, _, value = cookie.partition(";")[0].partition("=")
            self._cookies[name] = value
        if response.status != status:
            raise SmokeTestError(f"{method} {path}: {response.status} in place of {status}")
        return text

    def _connected(self) -> http.client.HTTPConnection:
        name = self._url.hostname or ""
        connection = http.client.HTTPConnection(name)
        connection.sock = socket.create_connection(self._address, TIMEOUT)
        if self._is_secure:
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(connection.sock, server_hostname=name)
        return connection


def smoke_test(url: str, connect: str = "") -> None:
    """Do the main job once with an account that is deleted afterwards.

    Where registration is closed, the account of SMOKE_TEST_EMAIL and SMOKE_TEST_PASSWORD does it,
    and stays. Raises SmokeTestError.
    """
    site = Site(url, connect)
    name = f"smoke-test-{secrets.token_hex(8)}"
    existing = os.environ.get("SMOKE_TEST_EMAIL", "")
    if existing:
        account = {"email": existing, "password": os.environ.get("SMOKE_TEST_PASSWORD", "")}
    else:
        account = {"email": f"{name}@example.com", "password": secrets.token_urlsafe(24)}
        site.api(201, "POST", "/auth/register", account)
    try:
        site.log_in(account)
        use_tasks(site, name)
        site.log_out()
    except SmokeTestError:
        if not existing:
            with suppress(SmokeTestError):  # the first failure is what counts
                delete_account(site, account)
        raise
    if not existing:
        delete_account(site, account)
        site.api(401, "POST", "/auth/login", account)


def delete_account(site: Site, account: dict[str, str]) -> None:
    """Delete an account on the pages; the API cannot."""
    site.submit("/login", **account)
    site.submit("/account/delete", password=account["password"])


def use_tasks(site: Site, title: str) -> None:
    """Add a task, list, complete and delete it."""
    key = secrets.token_hex(16)
    for _ in range(2):  # with its key, the same task
        task = site.api(201, "POST", "/tasks", {"title": title}, **{"Idempotency-Key": key})
    path = f"/tasks/{task['id']}"
    assert_listed(site, title, "pending", times=1)
    site.api(200, "PUT", path, {"status": "completed"})
    assert_listed(site, title, "pending", times=0)
    assert_listed(site, title, "completed", times=1)
    site.api(200, "DELETE", path)
    site.api(404, "GET", path)


def assert_listed(site: Site, title: str, status: str, *, times: int) -> None:
    """Raise SmokeTestError if the list of a status has the title more or less often."""
    path = f"/tasks?status={status}"
    found = [task["title"] for task in site.api(200, "GET", path)["tasks"]].count(title)
    if found != times:
        raise SmokeTestError(f"GET /api{path}: the task is there {found} times, not {times}")


def main() -> int:
    """Run the smoke test, and return the exit code."""
    parser = argparse.ArgumentParser(description="Does taskapp's main job once.")
    parser.add_argument("url")
    parser.add_argument("--connect", default="", metavar="HOST:PORT")
    options = parser.parse_args()
    try:
        smoke_test(options.url, options.connect)
    except SmokeTestError as error:
        sys.stderr.write(f"{options.url}: {error}\n")
        return 1
    sys.stdout.write(f"{options.url}: registered, added, listed, completed and deleted a task\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
