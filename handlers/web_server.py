"""The application on its sockets, from the first health check to the end of a drain."""

import socket
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from handlers.routes import make_application
from handlers.web.application import Application
from handlers.web.http_server import LimitedHTTPServer
from taskapp.observability.logs import log
from taskapp.runtime.listeners import MIN_CONNECTIONS, room_for_connections
from taskapp.services import Services

MAX_CONNECTIONS = 2_000  # 1,500 clients and some room; half a GB of bodies at worst (ADR 0017)
MAX_HEADER_SIZE = 16 * 1024  # bytes
# Seconds for clients to close their idle connections: they do not know yet that this server stops.
HANG_UP_TIMEOUT = 1.0
# Seconds for requests that have begun; with HANG_UP_TIMEOUT less than the ten of Docker.
DRAIN_TIMEOUT = 8.0


def make_server(application: Application) -> LimitedHTTPServer:
    """Return the server of an application, with its limits."""
    pool = application.services.settings.database_pool
    room = room_for_connections(MAX_CONNECTIONS, pool)
    return LimitedHTTPServer(
        application,
        max_connections=room,
        max_connections_of_client=max(MIN_CONNECTIONS, room // 4),
        max_header_size=MAX_HEADER_SIZE,
    )


class WebServer:
    """Serves for as long as the block lasts; only health checks until `open` is called."""

    def __init__(self, services: Services, sockets: Sequence[socket.socket]) -> None:
        self._listeners = sockets
        self._application = make_application(services)
        self._server = make_server(self._application)

    async def __aenter__(self) -> Self:
        self._server.add_sockets(self._listeners)
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: object, _traceback: TracebackType | None
    ) -> None:
        self._server.stop()
        await self._server.close_all_connections()

    def open(self) -> None:
        """Serve all requests from now on: the database is open."""
        self._application.state = "ready"

    async def drain(self) -> None:
        """Accept no more connections, and wait for the requests that have begun."""
        self._application.state = "stopping"
        self._server.stop()
        log("server.stopping", inFlight=self._application.in_flight)
        await self._server.wait_until_closed(HANG_UP_TIMEOUT)
        if not await self._application.drain(DRAIN_TIMEOUT):
            log("requests.cut", "warning", inFlight=self._application.in_flight)
        await self._server.close_all_connections()
