"""Maintenance mode: while a file exists, the flag, no request reaches the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskapp.config.settings import Settings
from taskapp.core.files import draft_of
from taskapp.observability.logs import log

MAX_MESSAGE_LENGTH = 300  # characters of an operator's message
CHECK_INTERVAL = 1.0  # seconds between checks of the flag
_READABLE = 0o644  # the server may run as another user than the one who creates the flag


class MaintenanceWindow(NamedTuple):
    """When maintenance began, and the operator's message to users, which may be empty."""

    since: str  # RFC 3339, UTC
    message: str


class Maintenance:
    """The state of the flag at the last check, so that no request has to read a file."""

    def __init__(self, flag: Path) -> None:
        """Check the flag for the first time."""
        self._flag = flag
        self.period = read_flag(flag)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Check the flag every CHECK_INTERVAL seconds for the duration of the block."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _follow(self) -> None:
        while True:
            before, self.period = self.period, read_flag(self._flag)
            if (before is None) is not (self.period is None):
                log("maintenance.ended" if before else "maintenance.began", "warning")
            await asyncio.sleep(CHECK_INTERVAL)


def maintenance_file(settings: Settings) -> Path:
    """Return the path of the flag."""
    return settings.maintenance_flag or settings.data_dir / "maintenance"


def read_flag(flag: Path) -> MaintenanceWindow | None:
    """Return the maintenance that the flag stands for, or None without a flag."""
    try:
        since = datetime.fromtimestamp(flag.stat().st_mtime, UTC)
    except OSError:
        return None
    message = ""
    with suppress(OSError):  # an unreadable flag counts, without a message
        message = flag.read_text(encoding="utf-8", errors="replace")
    return MaintenanceWindow(f"{since:%Y-%m-%dT%H:%M:%S}Z", message.strip()[:MAX_MESSAGE_LENGTH])


def enable(flag: Path, message: str) -> None:
    """Begin maintenance, or change its message.

    Raises:
        OSError: the flag cannot be written.
    """
    with draft_of(flag, message, _READABLE) as draft:
        draft.replace(flag)


def disable(flag: Path) -> bool:
    """End maintenance, and return whether there was any.

    Raises:
        OSError: the flag cannot be removed.
    """
    if not flag.exists():
        return False
    flag.unlink(missing_ok=True)
    return True
