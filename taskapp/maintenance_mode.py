"""Maintenance: while an operator's flag, a file, is there, no request reaches the database."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from taskapp.config.settings import Settings
from taskapp.observability.logs import log

MAX_MESSAGE_LENGTH = 300  # characters of an operator's message
CHECK_INTERVAL = 1.0  # seconds between looks at the flag
_READABLE = 0o644  # whoever made the flag: in a folder that is closed, the server has to read it


class MaintenanceWindow(NamedTuple):
    """A time of maintenance: when it began, and what is said to people, if anything."""

    since: str  # RFC 3339, UTC
    message: str


class Maintenance:
    """What the flag said when this process looked last, so that a request need not look itself."""

    def __init__(self, flag: Path) -> None:
        """Take the place of the flag, and look."""
        self._flag = flag
        self.period = read_flag(flag)

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Look again and again for as long as the block lasts."""
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
    """Give the place of a set-up's flag."""
    return settings.maintenance_flag or settings.data_dir / "maintenance"


def read_flag(flag: Path) -> MaintenanceWindow | None:
    """Read since when there is maintenance, and what is said of it; None when there is none."""
    try:
        since = datetime.fromtimestamp(flag.stat().st_mtime, UTC)
    except OSError:
        return None
    message = ""
    with suppress(OSError):  # a flag that cannot be read is one all the same
        message = flag.read_text(encoding="utf-8", errors="replace")
    return MaintenanceWindow(f"{since:%Y-%m-%dT%H:%M:%S}Z", message.strip()[:MAX_MESSAGE_LENGTH])


def enable(flag: Path, message: str) -> None:
    """Begin maintenance, or change what is said of it, at once for all who look.

    Raises:
        OSError: the flag cannot be made.
    """
    draft = flag.with_name(f"{flag.name}.{secrets.token_hex(8)}")
    try:
        draft.write_text(message, encoding="utf-8")
        draft.chmod(_READABLE)
        draft.replace(flag)
    finally:
        draft.unlink(missing_ok=True)


def disable(flag: Path) -> bool:
    """End maintenance; tell whether there was any.

    Raises:
        OSError: the flag cannot be removed.
    """
    if not flag.exists():
        return False
    flag.unlink(missing_ok=True)
    return True
