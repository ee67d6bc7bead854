"""Records in the background when and from where sessions are used."""

import asyncio
from time import monotonic

from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import limit_key
from taskapp.core.errors import TaskappError
from taskapp.queries.sessions import TOUCH_INTERVAL, touch_session
from taskapp.services import Services


class SessionActivity:
    """Writes the use of each session at most once per `TOUCH_INTERVAL`, behind the response.

    The write also extends the session, which ends when it is idle for too long.
    """

    def __init__(self, services: Services) -> None:
        self._services = services
        self._recorded: set[bytes] = set()  # hashes of sessions recorded in this interval
        self._interval_start = monotonic()
        self._writes: set[asyncio.Task[None]] = set()

    @property
    def is_writing(self) -> bool:
        """Return whether a write has not finished yet."""
        return bool(self._writes)

    def record(self, session: SessionToken, address: str) -> None:
        """Start to write that a session is used from an address, unless that was done already.

        Nothing is written during maintenance.
        """
        if monotonic() - self._interval_start >= TOUCH_INTERVAL.total_seconds():
            self._recorded.clear()
            self._interval_start = monotonic()
        if session.secret_hash in self._recorded or self._services.maintenance.window is not None:
            return
        self._recorded.add(session.secret_hash)
        task = asyncio.create_task(self._write(session, address))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _write(self, session: SessionToken, address: str) -> None:
        services = self._services
        idle = services.settings.session_idle
        try:
            await touch_session(services.database, session.secret_hash, idle, limit_key(address))
        except TaskappError:
            self._recorded.discard(session.secret_hash)  # the next request tries again
