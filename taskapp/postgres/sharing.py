"""Commands that use the embedded server which another command has started."""

import asyncio
import fcntl
import os
from contextlib import suppress
from pathlib import Path

from taskapp.core.files import open_lock
from taskapp.core.progress import begin_step
from taskapp.postgres.programs import EmbeddedPostgresError

_INTERVAL = 0.05  # seconds between looks at the lock


class SharedUse:
    """The lock (flock) that each command holds, shared, while it uses another one's server."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock: int | None = None

    def begin(self) -> bool:
        """Return whether the lock was taken: False if the server is about to stop.

        Raises EmbeddedPostgresError.
        """
        return self._take(fcntl.LOCK_SH)

    async def wait_until_unused(self) -> None:
        """Wait until no other command uses the server, and let none begin.

        Raises EmbeddedPostgresError.
        """
        while not self._take(fcntl.LOCK_EX):
            begin_step("Waiting for another command, which uses the database too")
            await asyncio.sleep(_INTERVAL)

    def end(self) -> None:
        """Release the lock, if it is held."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _take(self, kind: int) -> bool:
        try:
            lock = open_lock(self._path)
        except OSError as error:
            raise EmbeddedPostgresError(
                f"The lock {self._path} cannot be taken: {error.strerror or error}"
            ) from error
        with suppress(BlockingIOError):
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            self._lock = lock
            return True
        os.close(lock)
        return False
