"""Calls the API of a server by a token, and turns what it refuses into a sentence."""

import ipaddress
import json
import ssl
from contextlib import suppress
from email.message import Message
from http.client import HTTPException
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    ProxyHandler,
    Request,
    build_opener,
)

import msgspec

from taskapp.cli.common import CliError
from taskapp.config.installation import version

TIMEOUT = 30.0  # seconds without a byte
_MAX_BODY = 16 * 1024 * 1024  # bytes


class Task(msgspec.Struct, rename="camel"):
    """What the commands need of a task; a server of another version may send more."""

    id: str
    title: str
    status: str
    completed_at: str | None = None


class TaskList(msgspec.Struct, rename="camel"):
    """A page of the list of tasks, and the cursor of the next one."""

    tasks: list[Task]
    next_cursor: str | None


class _NoRedirects(HTTPRedirectHandler):
    """Follows no redirect: it would take the token to an address that nobody named."""

    def redirect_request(
        self,
        req: Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> None:
        return None


class ApiClient:
    """A client of one server; proxies are those of the environment, except for this machine."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._token = token
        proxies = [ProxyHandler({})] if _is_this_machine(url) else []
        self._opener = build_opener(_NoRedirects(), *proxies)

    def call(
        self, method: str, path: str, expected: type[msgspec.Struct], body: object = None
    ) -> dict[str, Any]:
        """Send a request with a JSON body, and return the body of the response.

        Raises CliError if the server cannot be reached or refuses, or sends what is not `expected`.
        """
        request = Request(  # noqa: S310  # the setting takes http and https only
            f"{self._url}/api{path}",
            None if body is None else json.dumps(body).encode(),
            {
                "Accept": "application/json",
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
                "User-Agent": f"taskapp/{version()}",
            },
            method=method,
        )
        try:
            with self._opener.open(request, timeout=TIMEOUT) as response:
                return self._read(response.read(_MAX_BODY), expected)
        except HTTPError as error:
            with error:
                raise self._refused(error) from error
        except (OSError, HTTPException) as error:
            raise CliError(f"{self._url} cannot be reached: {_reason(error)}.") from error

    def _read(self, content: bytes, expected: type[msgspec.Struct]) -> dict[str, Any]:
        try:
            msgspec.json.decode(content, type=expected)
            document: dict[str, Any] = json.loads(content)
        except (msgspec.MsgspecError, ValueError) as error:
            raise CliError(f"What answers at {self._url} is not taskapp.") from error
        return document

    def _refused(self, error: HTTPError) -> CliError:
        if location := error.headers.get("Location"):
            return CliError(
                f"{self._url} leads to {location!r}: set TASKAPP_CLIENT_URL to where taskapp is."
            )
        problem: object = None
        with suppress(ValueError, OSError, HTTPException):
            problem = json.loads(error.read(_MAX_BODY))
        if not isinstance(problem, dict) or "detail" not in problem:
            return CliError(f"What answers at {self._url} is not taskapp: status {error.code}.")
        sentences = [f"{problem.get('title')}: {problem['detail']}"]
        sentences += [
            f"{each.get('field')}: {each.get('message')}" for each in problem.get("errors", [])
        ]
        if seconds := error.headers.get("Retry-After"):
            sentences.append(f"Try again in {seconds} seconds.")
        return CliError(show(" ".join(sentences)))


def show(text: str) -> str:
    """Return a text without what would move the cursor of a terminal."""
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def _is_this_machine(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _reason(error: OSError | HTTPException) -> str:
    cause = error.reason if isinstance(error, URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({cause.verify_message})"
    return (isinstance(cause, OSError) and cause.strerror) or str(cause) or type(cause).__name__
