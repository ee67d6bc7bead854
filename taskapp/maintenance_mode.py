"""Maintenance mode: while the operator's file exists, no request reaches the database."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskapp.config.settings import Settings
from taskapp.core.files import draft_of, open_file
from taskapp.observability.logs import log

MAX_MESSAGE_LENGTH = 300  # characters of an operator's message
CHECK_INTERVAL = 1.0  # seconds between checks of the file
_MAX_MESSAGE_BYTES = 4 * MAX_MESSAGE_LENGTH  # in UTF-8
_READABLE = 0o644  # the server reads the file, whichever user created it


class MaintenanceWindow(NamedTuple):
    """A period of maintenance: when it began, and the message to users, which may be empty."""

    since: str  # RFC 3339, UTC
    message: str


class Maintenance:
    """The state at the last check of the file; a request reads it here, not from the disk."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.window = read_window(file)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Check the file each CHECK_INTERVAL for the length of the block."""
        task = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait({task})

    async def _follow(self) -> None:
        while True:
            before, self.window = self.window, read_window(self._file)
            if (before is None) is not (self.window is None):
                log("maintenance.ended" if before else "maintenance.began", "warning")
            await asyncio.sleep(CHECK_INTERVAL)


def maintenance_file(settings: Settings) -> Path:
    """Return the path of the maintenance file."""
    return settings.maintenance_flag or settings.data_dir / "maintenance"


def read_window(file: Path) -> MaintenanceWindow | None:
    """Return the maintenance window that the file describes; None without a file."""
    try:
        since = datetime.fromtimestamp(file.stat().st_mtime, UTC)
    except OSError:
        return None
    message = ""
    with suppress(OSError), open_file(file) as opened:  # an unreadable one still means maintenance
        message = opened.read(_MAX_MESSAGE_BYTES).decode(errors="replace")
    return MaintenanceWindow(f"{since:%Y-%m-%dT%H:%M:%S}Z", message.strip()[:MAX_MESSAGE_LENGTH])


def enable(file: Path, message: str) -> None:
    """Begin maintenance, or replace its message atomically.

    Raises:
        OSError: the file cannot be written.
    """
    with draft_of(file, message, _READABLE) as draft:
        draft.replace(file)


def disable(file: Path) -> bool:
    """End maintenance; return whether it was on.

    Raises:
        OSError: the file cannot be removed.
    """
    if not file.exists():
        return False
    file.unlink(missing_ok=True)
    return True
