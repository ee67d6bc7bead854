"""Where the process listens: an address and port, a Unix socket, or what systemd hands over."""

import os
import socket

from tornado.netutil import bind_sockets, bind_unix_socket

from taskapp.settings import Settings

UNIX_PREFIX = "unix:"
BACKLOG = 1024  # connections that may wait to be accepted
_FIRST_PASSED = 3  # the first descriptor that systemd passes, by sd_listen_fds(3)


class ListenError(Exception):
    """The process cannot listen where it should; the message says why and what to do."""


def listening_sockets(settings: Settings) -> list[socket.socket]:
    """Open the sockets to listen on, or take those that systemd has opened.

    Raises:
        ListenError: the address is taken, or not ours.
    """
    passed = _passed_sockets()
    if passed:
        return passed
    try:
        if settings.host.startswith(UNIX_PREFIX):
            path = settings.host.removeprefix(UNIX_PREFIX)
            # For everybody, as a port is: whoever may enter its folder may connect.
            return [bind_unix_socket(path, mode=0o666, backlog=BACKLOG)]
        return bind_sockets(settings.port, settings.host, backlog=BACKLOG)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ListenError(
            f"Cannot listen on {settings.host}, port {settings.port}: {reason}. "
            "Stop what listens there, or set TASKAPP_HOST and TASKAPP_PORT."
        ) from error


def describe_sockets(settings: Settings, sockets: list[socket.socket]) -> str:
    """Say where people find the site."""
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
