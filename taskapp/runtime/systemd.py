"""What systemd is told: that we are ready, that we are well, that we stop (sd_notify(3))."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from taskapp.jobs.health_check import find_database_problem
from taskapp.observability.logs import log
from taskapp.services import Services

_SIGNS_PER_TIMEOUT = 3  # two may be lost before systemd takes us for dead


@asynccontextmanager
async def notify_systemd(services: Services) -> AsyncIterator[None]:
    """Tell systemd, if it asked to be told, that we are ready, are well, and stop at the end.

    We are well while the database answers, or is under maintenance: what hangs for good, here or
    in PostgreSQL, is started again when systemd has heard nothing for WatchdogSec.
    """
    _tell("READY=1")
    pause = _watchdog_seconds() / _SIGNS_PER_TIMEOUT
    watchdog = asyncio.create_task(_tell_while_well(services, pause)) if pause else None
    try:
        yield
    finally:
        _tell("STOPPING=1")
        if watchdog:
            watchdog.cancel()
            await asyncio.wait({watchdog})


def _watchdog_seconds() -> float:
    """Give the seconds in which systemd wants a sign of life; 0 when it wants none of us."""
    if os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0
    with suppress(ValueError):
        return int(os.environ.get("WATCHDOG_USEC", "0")) / 1_000_000
    return 0


async def _tell_while_well(services: Services, pause: float) -> None:
    while True:
        # The stop ends the waiting alone: a statement cut off would be an error to PostgreSQL.
        is_away = await asyncio.shield(find_database_problem(services)) == "disconnected"
        if is_away and services.maintenance.period is None:
            log("watchdog.withheld", "warning", reason="the database does not answer")
        else:
            _tell("WATCHDOG=1")
        await asyncio.sleep(pause)


def _tell(state: str) -> None:
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
            log("service_manager.unreachable", "warning", state=state, error=str(error))
