"""Listening sockets: an address and port, a Unix socket, or the sockets that systemd passes."""

import errno
import os
import resource
import socket
from pathlib import Path

from tornado.netutil import bind_sockets

from taskapp.config.settings import Settings

UNIX_PREFIX = "unix:"
FREE_THE_ADDRESS = "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT."
BACKLOG = 1024  # connections that may wait to be accepted
_MAX_DESCRIPTORS = 65_536  # more than one process can serve
OTHER_FILES = 64  # open files besides the connections
_FIRST_PASSED = 3  # the first descriptor that systemd passes (sd_listen_fds(3))


class ListenError(Exception):
    """The process cannot listen on its address; the message says why and what to do."""


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """Open the listening sockets, or return those that systemd has opened.

    Raises:
        ListenError: the address is taken or not local, or a passed descriptor is no socket.
    """
    try:
        return _passed_sockets() or _own_sockets(settings)
    except (OSError, ValueError) as error:
        reason = isinstance(error, OSError) and error.strerror
        raise ListenError(
            f"Cannot listen on {_wanted(settings)}: {reason or error}. {FREE_THE_ADDRESS}"
        ) from error


def allow_many_connections() -> None:
    """Raise the soft limit of open files, usually 1,024, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _own_sockets(settings: Settings) -> list[socket.socket]:
    path = _unix_path(settings)
    if path is None:
        return bind_sockets(settings.port, settings.host, backlog=BACKLOG)
    listener = socket.socket(socket.AF_UNIX)
    try:
        _bind(listener, path)
    except OSError:
        listener.close()
        raise
    return [listener]


def _bind(listener: socket.socket, path: str) -> None:
    """Listen at a path; replace the socket file that a killed process left there."""
    try:
        listener.bind(path)
    except OSError as error:
        if error.errno != errno.EADDRINUSE or not _is_abandoned(path):
            raise
        Path(path).unlink()
        listener.bind(path)
    Path(path).chmod(0o666)  # like a port: every user who can enter the folder may connect
    listener.listen(BACKLOG)
    listener.settimeout(0)  # the event loop waits, not the socket


def _is_abandoned(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            return Path(path).is_socket()
        return False


def _wanted(settings: Settings) -> str:
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        return "the sockets of LISTEN_FDS"
    path = _unix_path(settings)
    return f"the socket {path}" if path else f"{settings.host}, port {settings.port}"


def _unix_path(settings: Settings) -> str | None:
    if not settings.host.startswith(UNIX_PREFIX):
        return None
    return settings.host.removeprefix(UNIX_PREFIX)


def describe_sockets(settings: Settings, sockets: list[socket.socket]) -> str:
    """Return the address of the site, as it is printed at the start."""
    if settings.public_url:
        return settings.public_url + settings.base_path
    if sockets[0].family == socket.AF_UNIX:
        return f"the socket {sockets[0].getsockname()}"
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{settings.base_path}"


def _passed_sockets() -> list[socket.socket]:
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    sockets = [socket.socket(fileno=_FIRST_PASSED + number) for number in range(count)]
    for passed in sockets:
        passed.settimeout(0)  # the event loop waits, not the socket
    return sockets


def room_for_connections(wanted: int, of_database: int) -> int:
    """Raise the limit of open files, and return how many of the wanted connections fit into it."""
    allow_many_connections()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, min(wanted, limit - of_database - OTHER_FILES))
