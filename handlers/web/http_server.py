"""The HTTP server: limits connections, and answers what never becomes a request (ADR 0017)."""

import asyncio
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import time
from typing import Any

import msgspec
from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate, format_timestamp
from tornado.iostream import UnsatisfiableReadError
from tornado.netutil import add_accept_handler
from uuid_utils import uuid7

from handlers.web.application import Application
from handlers.web.connections import ConnectionState, limit_kernel_buffer
from handlers.web.problem import make_problem
from handlers.web.request_stream import LingeringSockets, RequestStream
from handlers.web.safe_headers import CSP_NOTHING, safe_header_lines
from taskapp.core.client_address import UNIX_SOCKET, is_in, site_key
from taskapp.core.errors import BadRequest, HeadersTooLarge, TaskappError, Unavailable
from taskapp.core.messages import Message
from taskapp.observability.logs import log

# Bytes. Tornado zero-fills a buffer of this size for every read; nearly every request fits in it.
READ_SIZE = 4096
# No limit of Tornado's, which answers a larger Content-Length with 400: BodyLimit has the limit.
# Python reads no number of more digits.
_ANY_SIZE = 10**4300
_REASONS = {400: "Bad Request", 431: "Request Header Fields Too Large", 503: "Service Unavailable"}


@dataclass(frozen=True)
class ConnectionContext:
    """What a request knows of its connection, as `request.connection.context`.

    Tornado copies `remote_ip` and `protocol` to each request.
    """

    stream: RequestStream
    remote_ip: str
    protocol: str = "http"


class LimitedHTTPServer(HTTPServerConnectionDelegate):
    """Serves an application on a limited number of connections.

    It takes the place of `tornado.httpserver.HTTPServer`, which chooses the class of the streams
    itself and starts a timer for each request: 3 % of a short one. One timer for all is enough.
    """

    def __init__(
        self,
        application: Application,
        *,
        max_connections: int,
        max_connections_of_client: int,
        max_header_size: int,
    ) -> None:
        """Set the limits; the size is in bytes. Trusted proxies have none of a client."""
        self._application = application
        self._connection_states = application.connections
        self._max_connections = max_connections
        self._max_connections_of_client = max_connections_of_client
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=max_header_size, max_body_size=_ANY_SIZE
        )
        self._listeners: list[tuple[socket.socket, Callable[[], None]]] = []
        self._open_connections: dict[HTTP1ServerConnection, str] = {}  # with the client's key
        self._connections_of_clients: Counter[str] = Counter()
        self._has_no_connections = asyncio.Event()
        self._has_no_connections.set()
        self._lingering = LingeringSockets()

    def add_sockets(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections on these listening sockets, which `stop` closes."""
        for listener in listeners:
            limit_kernel_buffer(listener)  # connections inherit it
        self._listeners += [
            (listener, add_accept_handler(listener, self._accept)) for listener in listeners
        ]

    def stop(self) -> None:
        """Stop accepting connections; those that are open stay open."""
        for listener, remove_accept_handler in self._listeners:
            remove_accept_handler()
            listener.close()
        self._listeners.clear()

    async def wait_until_closed(self, seconds: float) -> None:
        """Wait until clients have closed all connections, or for so many seconds.

        While it stops, every response asks for that. A connection that is closed from this side
        may lose a request that the client is just sending.
        """
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._has_no_connections.wait()

    async def close_all_connections(self) -> None:
        """Close all connections, whatever is going on there."""
        while self._open_connections:
            await next(iter(self._open_connections)).close()
        self._lingering.close()

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Begin to wait for the headers of the next request."""
        self._connection_states.enter(request_conn.context.stream, ConnectionState.AWAITED)
        return self._application.start_request(server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection that is closed."""
        client = self._open_connections.pop(server_conn)
        self._connections_of_clients[client] -= 1
        if not self._connections_of_clients[client]:
            del self._connections_of_clients[client]
        if not self._open_connections:
            self._has_no_connections.set()

    def _accept(self, connection: socket.socket, address: Any) -> None:
        remote_ip = UNIX_SOCKET if connection.family == socket.AF_UNIX else address[0]
        client = site_key(remote_ip)
        stream = RequestStream(
            connection,
            self._connection_states,
            self._reject_unreadable,
            self._lingering,
            client=client,
            read_chunk_size=READ_SIZE,
        )
        self._connection_states.enter(stream, ConnectionState.AWAITED)
        if not self._has_room_for(remote_ip, client):
            error = Unavailable(Message("Too many open connections."))
            stream.lingers = True
            written = stream.write(self._make_rejection(error))
            written.add_done_callback(lambda _: stream.close())
            return
        context = ConnectionContext(stream, remote_ip)
        served = HTTP1ServerConnection(stream, self._parameters, context)
        self._open_connections[served] = client
        self._connections_of_clients[client] += 1
        self._has_no_connections.clear()
        served.start_serving(self)

    def _has_room_for(self, remote_ip: str, client: str) -> bool:
        if len(self._open_connections) >= self._max_connections:
            return False
        if self._connections_of_clients[client] < self._max_connections_of_client:
            return True
        trusted = self._application.services.settings.trusted_proxies
        return remote_ip == UNIX_SOCKET or is_in(remote_ip, trusted)

    def _reject_unreadable(self, stream: RequestStream) -> bytes:
        is_header = self._connection_states.states.get(stream) is ConnectionState.AWAITED
        if is_header and type(stream.error) is UnsatisfiableReadError:
            return self._make_rejection(HeadersTooLarge())
        return self._make_rejection(BadRequest())

    def _make_rejection(self, error: TaskappError) -> bytes:
        """Log a request that no handler sees, and return the whole response to it."""
        request_id = str(uuid7())
        log("request.refused", requestId=request_id, status=error.status)
        body = msgspec.json.encode(make_problem(error, request_id))
        headers = [
            ("Date", format_timestamp(time())),
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("X-Request-ID", request_id),
        ]
        if isinstance(error, Unavailable):
            headers.append(("Retry-After", str(error.retry_after)))
        status_line = f"HTTP/1.1 {error.status} {_REASONS[error.status]}\r\n"
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        safe = safe_header_lines(CSP_NOTHING, is_https=self._application.is_https)
        return f"{status_line}{lines}{safe}\r\n".encode("ascii") + body
