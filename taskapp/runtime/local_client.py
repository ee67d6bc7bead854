"""Requests to the taskapp that runs by the same settings on this machine, through no proxy."""

import ipaddress
import socket
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException

from taskapp.config.parsers import ANY_ADDRESS, UNIX_PREFIX
from taskapp.config.settings import Settings

_MAX_BODY = 64 * 1024  # bytes


class NoResponse(Exception):
    """Nothing responds by HTTP at the address of the settings; the message says why."""


class _UnixConnection(HTTPConnection):
    """A connection to a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def request_local_server(settings: Settings, path: str, timeout: float) -> tuple[int, bytes]:
    """Return the status and the body of a GET; `timeout` is in seconds. Raise NoResponse."""
    connection = _connection(settings, timeout)
    try:
        with closing(connection):
            # The server answers to this name whatever it listens on.
            connection.request("GET", settings.base_path + path, headers={"Host": "localhost"})
            response = connection.getresponse()
            return response.status, response.read(_MAX_BODY)
    except (OSError, HTTPException, ValueError) as error:  # ValueError: a name that can't be one
        reason = (isinstance(error, OSError) and error.strerror) or str(error) or "timeout"
        raise NoResponse(f"taskapp does not answer at {_where(settings)}: {reason}.") from error


def find_local_url(settings: Settings) -> str | None:
    """Return the URL of the server on this machine, or None if it listens on a Unix socket."""
    if settings.host.startswith(UNIX_PREFIX):
        return None
    host = _loopback_of_any(settings.host)
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{settings.port}{settings.base_path}"


def _connection(settings: Settings, timeout: float) -> HTTPConnection:
    if settings.host.startswith(UNIX_PREFIX):
        return _UnixConnection(settings.host.removeprefix(UNIX_PREFIX), timeout)
    return HTTPConnection(_loopback_of_any(settings.host), settings.port, timeout=timeout)


def _loopback_of_any(host: str) -> str:
    """Return the loopback address in place of one that stands for all of this machine."""
    if host == ANY_ADDRESS:
        return "127.0.0.1"
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            return "::1" if address.version == 6 else "127.0.0.1"
    return host


def _where(settings: Settings) -> str:
    if settings.host.startswith(UNIX_PREFIX):
        return f"the socket {settings.host.removeprefix(UNIX_PREFIX)}"
    return f"{_loopback_of_any(settings.host)}, port {settings.port}"
