"""Listening sockets: an address and port, a Unix socket, or the sockets that systemd passes."""

import errno
import os
import re
import resource
import socket
from pathlib import Path

from tornado.netutil import bind_sockets

from taskapp.config.parsers import ANY_ADDRESS, UNIX_PREFIX
from taskapp.config.settings import Settings
from taskapp.core.errors import OperatorError
from taskapp.observability.logs import log

FREE_THE_ADDRESS = "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT."
_CORRECT_THE_ADDRESS = "Set TASKAPP_HOST to an address of this machine, without its port."
_CHOOSE_ANOTHER_PORT = "Set TASKAPP_PORT to a port from 1024 on, or let a proxy listen there."
_CORRECT_THE_UNIT = "Give the .socket unit a ListenStream=, and no Accept=yes."
BACKLOG = 1024  # connections that may wait to be accepted
_MAX_DESCRIPTORS = 65_536  # more than one process can serve
OTHER_FILES = 64  # open files besides the connections
MIN_CONNECTIONS = 16  # of two browsers with six each, a proxy and a health check
FEW_CONNECTIONS = 256  # with fewer, forty browsers already wait for each other
RAISE_THE_LIMIT = (
    "Raise the limit: `ulimit -n 4096` in a shell, LimitNOFILE= in a unit of systemd, `ulimits` in "
    "a compose file."
)
_NO_ADDRESS_OF_OURS = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
_FIRST_PASSED = 3  # the first descriptor that systemd passes (sd_listen_fds(3))
_FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


class ListenError(OperatorError):
    """The process cannot listen on its address; the message says why and what to do."""


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """Open the listening sockets, or return those that systemd has opened.

    Raises:
        ListenError: the address is taken or not local, or a passed descriptor does not listen.
    """
    try:
        return _passed_sockets() or _own_sockets(settings)
    except (OSError, ValueError) as error:
        reason = isinstance(error, OSError) and error.strerror
        fix = _CORRECT_THE_UNIT if _are_passed() else fix_for(error, settings)
        raise ListenError(
            f"Cannot listen on {_wanted(settings)}: {reason or error}. {fix}"
        ) from error


def fix_for(error: Exception, settings: Settings) -> str:
    """Return what to do when an address cannot be listened on."""
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, UnicodeError | socket.gaierror) or number in _NO_ADDRESS_OF_OURS:
        return _CORRECT_THE_ADDRESS
    if number == errno.EACCES and _unix_path(settings) is None:
        return _CHOOSE_ANOTHER_PORT
    return FREE_THE_ADDRESS


def allow_many_connections() -> None:
    """Raise the soft limit of open files, usually 1,024, to the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MAX_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _own_sockets(settings: Settings) -> list[socket.socket]:
    path = _unix_path(settings)
    if path is None:
        host = None if settings.host == ANY_ADDRESS else settings.host
        sockets = bind_sockets(settings.port, host, backlog=BACKLOG)
        if not sockets:  # Tornado passes over addresses of a family that the kernel does not have
            raise OSError(errno.EAFNOSUPPORT, "this machine has no IPv6")
        return sockets
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
        if Path(path).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR)) from error
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


def _are_passed() -> bool:
    return os.environ.get("LISTEN_PID") == str(os.getpid())


def _wanted(settings: Settings) -> str:
    if _are_passed():
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
        name = sockets[0].getsockname()
        if isinstance(name, bytes):  # an abstract one of systemd, without a file (unix(7))
            name = "@" + os.fsdecode(name[1:])
        return f"the socket {name}"
    host, port = sockets[0].getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    return f"http://{shown}:{port}{settings.base_path}"


def _passed_sockets() -> list[socket.socket]:
    if not _are_passed():
        return []
    text = os.environ.get("LISTEN_FDS", "0")
    if not re.fullmatch("[0-9]{1,6}", text):
        raise ValueError("LISTEN_FDS is no number of sockets")
    count = int(text)
    return [_passed_socket(_FIRST_PASSED + number) for number in range(count)]


def _passed_socket(descriptor: int) -> socket.socket:
    passed = socket.socket(fileno=descriptor)
    accepts = passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if passed.family not in _FAMILIES or passed.type != socket.SOCK_STREAM or not accepts:
        passed.close()
        raise ValueError(f"descriptor {descriptor} is no socket that accepts connections")
    passed.settimeout(0)  # the event loop waits, not the socket
    return passed


def room_for_connections(wanted: int, of_database: int) -> int:
    """Raise the limit of open files, and return how many of the wanted connections fit into it.

    Raises:
        ListenError: fewer fit than two people need.
    """
    room = min(wanted, connections_that_fit(of_database))
    if room < MIN_CONNECTIONS:
        raise ListenError(f"Cannot serve: {too_few_files(of_database)}. {RAISE_THE_LIMIT}")
    if room < FEW_CONNECTIONS:
        log("connections.limited", "warning", max=room, fix=RAISE_THE_LIMIT)
    return room


def connections_that_fit(of_database: int) -> int:
    """Raise the limit of open files, and return how many connections it leaves room for."""
    allow_many_connections()
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit - of_database - OTHER_FILES


def too_few_files(of_database: int) -> str:
    """Return the sentence, without a full stop, about a limit that is too low to serve with."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = MIN_CONNECTIONS + of_database + OTHER_FILES
    return f"this process may open {limit} files and sockets, and needs at least {needed}"
