"""Which server an address leads to, of all that it may name."""

import asyncio
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from time import monotonic

from taskapp.core.threads import start_daemon_thread
from taskapp.db.dsn import locate_server

MEMORY = 10.0  # seconds; names lead elsewhere, and another server becomes the primary


@dataclass(frozen=True)
class Server:
    """The address of one server, in libpq's parameters, and when it was found."""

    parameters: dict[str, str]
    found_at: float  # seconds of the monotonic clock


class ServerLocation:
    """Finds the server that an address leads to, once for all who ask at the same time."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._search: Future[Server] | None = None

    async def find(self) -> Server:
        """Return the server that was found a moment ago, or search anew.

        A search that is not waited for any more goes on, for those who ask next.

        Raises:
            SettingsError: the address cannot be parsed.
            Unavailable: no server can be reached.
        """
        if self._search is None or _is_outdated(self._search):
            self._search = start_daemon_thread(partial(_find, self._url))
        return await asyncio.wrap_future(self._search)

    def forget(self, server: Server) -> None:
        """Search anew next time, unless another server has been found meanwhile."""
        if self._search and self._search.done() and self._search.result() is server:
            self._search = None


def _find(url: str) -> Server:
    return Server(locate_server(url), monotonic())


def _is_outdated(search: Future[Server]) -> bool:
    if not search.done():
        return False
    return search.exception() is not None or monotonic() - search.result().found_at > MEMORY
