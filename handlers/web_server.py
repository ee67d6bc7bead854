"""The application on its sockets, from the first answer about its health to the last of a drain."""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from handlers.routes import make_application
from handlers.web.http_server import LimitedHTTPServer
from taskapp.observability.logs import log
from taskapp.runtime.listeners import room_for_connections
from taskapp.services import Services

CONNECTIONS = 2_000
HEADER_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024 * 1024  # read and dropped above the application's own limit, then refused
IDLE_SECONDS = 75.0  # longer than nginx keeps a connection, so that it is nginx that closes it
HANG_UP_SECONDS = 1.0  # for clients between two requests, who have not heard of the stop
DRAIN_SECONDS = 8.0  # with the farewell less than the ten that Docker waits


class WebServer:
    """Serves for as long as the block lasts; at first only its health."""

    def __init__(self, services: Services, sockets: Sequence[socket.socket]) -> None:
        """Take the sockets to listen on."""
        self._sockets = sockets
        self._application = make_application(services)
        self._server = LimitedHTTPServer(
            self._application,
            connections=room_for_connections(CONNECTIONS, services.settings.database_pool),
            is_https=services.settings.is_https,
            max_header_size=HEADER_BYTES,
            max_body_size=BODY_BYTES,
            idle_seconds=IDLE_SECONDS,
        )

    async def __aenter__(self) -> Self:
        self._server.add_sockets(self._sockets)
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None
    ) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    def open(self) -> None:
        """Serve everything from now on: the database is open."""
        self._application.state = "ready"

    async def drain(self) -> None:
        """Take no more connections, and finish what was begun."""
        self._application.state = "stopping"
        self._server.stop()
        log("stopping", inFlight=self._application.in_flight)
        await self._server.wait_until_left(HANG_UP_SECONDS)
        if not await self._application.drain(DRAIN_SECONDS):
            log("requests.cut", "warning", inFlight=self._application.in_flight)
        await self._server.close_all_connections()
