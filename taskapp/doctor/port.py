"""Checks the port: whether it is free, or taskapp responds on it."""

import json
import socket
from contextlib import suppress

from taskapp.config.parsers import ANY_ADDRESS, UNIX_PREFIX
from taskapp.config.settings import Settings
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.runtime.listeners import fix_for
from taskapp.runtime.local_client import NoResponse, request_local_server

TIMEOUT = 2.0  # seconds


def check_port(settings: Settings) -> list[CheckResult]:
    """Check whether taskapp responds on its port, or could listen on it."""
    if settings.host.startswith(UNIX_PREFIX) or settings.port == 0:
        return []  # a check would create the socket, and port 0 is any free one
    where = f"{settings.host}, port {settings.port}"
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    host = "" if settings.host == ANY_ADDRESS else settings.host
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
            probe.bind((host, settings.port))
    except OSError as error:
        if _is_taskapp(settings):
            return [CheckResult(Level.OK, "port", f"taskapp is listening on {where}")]
        text = f"cannot listen on {where}: {error.strerror}"
        return [CheckResult(Level.PROBLEM, "port", text, fix_for(error, settings))]
    return [CheckResult(Level.OK, "port", f"{where} is free")]


def _is_taskapp(settings: Settings) -> bool:
    with suppress(NoResponse, ValueError):
        _, body = request_local_server(settings, "/api/health/live", TIMEOUT)
        return bool(json.loads(body) == {"status": "live"})
    return False
