"""The HTTP server: limits connections, and answers what never becomes a request (ADR 0017)."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import time
from typing import Any

import msgspec
from tornado.http1connection import HTTP1ConnectionParameters, HTTP1ServerConnection
from tornado.httputil import HTTPMessageDelegate, HTTPServerConnectionDelegate, format_timestamp
from tornado.iostream import IOStream, UnsatisfiableReadError
from tornado.netutil import add_accept_handler
from uuid_utils import uuid7

from handlers.web.application import Application
from handlers.web.base import CSP_NOTHING, HSTS, SAFE_HEADERS
from handlers.web.problem import make_problem
from taskapp.core.client_address import UNIX_SOCKET
from taskapp.core.errors import BadRequest, TaskappError, Unavailable
from taskapp.core.messages import Message
from taskapp.observability.logs import log

# Bytes. Tornado zero-fills a buffer of this size for every read; nearly every request fits in it.
READ_SIZE = 4096
# What Tornado writes when it cannot parse a request. It has no hook for that, so the stream looks
# for these bytes; tests/web/test_rejected_requests.py fails when a Tornado writes others.
_TORNADO_REJECTION = b"HTTP/1.1 400 Bad Request\r\n\r\n"
_REASONS = {400: "Bad Request", 503: "Service Unavailable"}


@dataclass(frozen=True)
class ConnectionContext:
    """What a request knows of its connection, as `request.connection.context`.

    Tornado copies `remote_ip` and `protocol` to each request.
    """

    stream: IOStream
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
        idle_timeout: float,
        max_header_size: int,
        max_body_size: int,
    ) -> None:
        """Set the limits: the timeout is in seconds, sizes are in bytes.

        A body larger than `max_body_size` is not read; the application's own limit is below it.
        """
        self._application = application
        self._max_connections = max_connections
        self._idle_timeout = idle_timeout
        self._parameters = HTTP1ConnectionParameters(
            max_header_size=max_header_size, max_body_size=max_body_size
        )
        self._listeners: list[tuple[socket.socket, Callable[[], None]]] = []
        self._open_connections: dict[HTTP1ServerConnection, IOStream] = {}
        self._has_no_connections = asyncio.Event()
        self._has_no_connections.set()

    def add_sockets(self, listeners: Sequence[socket.socket]) -> None:
        """Accept connections on these listening sockets, which `stop` closes."""
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

    def start_request(self, server_conn: object, request_conn: Any) -> HTTPMessageDelegate:
        """Start the timeout in which the headers of the next request have to arrive."""
        deadline = asyncio.get_running_loop().time() + self._idle_timeout
        self._application.idle_connections.begin(request_conn.context.stream, deadline)
        return self._application.start_request(server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        """Forget a connection that is closed."""
        self._application.idle_connections.discard(self._open_connections.pop(server_conn))
        if not self._open_connections:
            self._has_no_connections.set()

    def _accept(self, connection: socket.socket, address: Any) -> None:
        stream = RequestStream(connection, self._make_rejection, read_chunk_size=READ_SIZE)
        if len(self._open_connections) >= self._max_connections:
            error = Unavailable(Message("Too many open connections."))
            written = stream.write(self._make_rejection(error))
            written.add_done_callback(lambda _: stream.close())
            return
        remote_ip = UNIX_SOCKET if connection.family == socket.AF_UNIX else address[0]
        context = ConnectionContext(stream, remote_ip)
        served = HTTP1ServerConnection(stream, self._parameters, context)
        self._open_connections[served] = stream
        self._has_no_connections.clear()
        served.start_serving(self)

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
            ("Content-Security-Policy", CSP_NOTHING),
            *SAFE_HEADERS,
        ]
        if self._application.is_https:
            headers.append(("Strict-Transport-Security", HSTS))
        if isinstance(error, Unavailable):
            headers.append(("Retry-After", str(error.retry_after)))
        lines = [f"HTTP/1.1 {error.status} {_REASONS[error.status]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class RequestStream(IOStream):
    """A connection that rejects what Tornado cannot read as all other requests are rejected.

    Tornado answers a malformed request with a bare 400, and closes a connection whose headers are
    too large without a response.
    """

    def __init__(
        self,
        connection: socket.socket,
        make_rejection: Callable[[TaskappError], bytes],
        *,
        read_chunk_size: int,
    ) -> None:
        super().__init__(connection, read_chunk_size=read_chunk_size)
        self._make_rejection = make_rejection

    def write(self, data: bytes | memoryview) -> Any:
        """Write the data, or our own response to a malformed request in place of Tornado's."""
        if data == _TORNADO_REJECTION:
            data = self._make_rejection(BadRequest())
        return super().write(data)

    def close_fd(self) -> None:
        """Close the socket, after a response if Tornado closes it for headers of too many bytes."""
        if isinstance(self.error, UnsatisfiableReadError):
            with suppress(OSError):
                self.socket.send(self._make_rejection(BadRequest()))
        super().close_fd()
