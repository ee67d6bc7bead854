"""Notifications to systemd: ready, watchdog, stopping (sd_notify(3))."""

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from taskapp.jobs.health_check import find_database_problem
from taskapp.observability.logs import log
from taskapp.services import Services

_NOTIFICATIONS_PER_TIMEOUT = 3  # two may be lost before systemd restarts the service
_NO_WATCHDOG = 2**64 - 1  # microseconds
_MIN_WATCHDOG = 0.1  # seconds; for less, the database would be asked without a pause


@asynccontextmanager
async def notify_systemd(services: Services) -> AsyncIterator[None]:
    """Notify systemd, if it asks for it, of the start, the watchdog and the stop.

    The watchdog is fed while the database responds or is under maintenance. If taskapp or
    PostgreSQL hangs, systemd restarts the service after WatchdogSec.
    """
    _notify("READY=1")
    interval = watchdog_timeout() / _NOTIFICATIONS_PER_TIMEOUT
    watchdog = asyncio.create_task(_feed_watchdog(services, interval)) if interval else None
    try:
        yield
    finally:
        _notify("STOPPING=1")
        if watchdog:
            watchdog.cancel()
            await asyncio.wait({watchdog})


def watchdog_timeout() -> float:
    """Return the watchdog timeout in seconds; 0 if systemd expects nothing from this process."""
    text = os.environ.get("WATCHDOG_USEC", "")
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    # As sd_watchdog_enabled(3): 64 bits, of which the largest number stands for no limit.
    if not re.fullmatch("[0-9]{1,20}", text) or not 0 < int(text) < _NO_WATCHDOG:
        return 0
    return max(_MIN_WATCHDOG, int(text) / 1_000_000)


async def _feed_watchdog(services: Services, interval: float) -> None:
    while True:
        # Shielded: at the stop the wait ends, but the statement finishes, or PostgreSQL logs an
        # error.
        is_away = await asyncio.shield(find_database_problem(services)) == "disconnected"
        if is_away and services.maintenance.window is None:
            log("watchdog.withheld", "warning", reason="the database does not answer")
        else:
            _notify("WATCHDOG=1")
        await asyncio.sleep(interval)


def _notify(state: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(1)
        try:
            manager.connect(address)
            manager.sendall(state.encode())
        except OSError as error:
            log("service_manager.notification_failed", "warning", state=state, error=str(error))
