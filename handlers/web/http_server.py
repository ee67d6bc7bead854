"""Tornado's HTTP server: bounded, with words for what it refuses, and patient at the end."""

import asyncio
from contextlib import suppress
from time import monotonic
from typing import Any

import msgspec
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError
from uuid_utils import uuid7

from handlers.web.application import Application
from handlers.web.base import HSTS, NOTHING_ALLOWED, SAFE_HEADERS
from handlers.web.headers import now_as_date
from handlers.web.problem import make_problem
from taskapp.core.errors import BadRequest, TaskappError, Unavailable
from taskapp.core.messages import Message
from taskapp.observability.logs import log

# As much is made room for, and filled with zeros, for each look at what has come; nearly every
# request fits. Tornado's 64 KB are a twentieth of the instructions of a short one.
READ_BYTES = 4096
# Turns of the loop for which what has come early is left with the system: Tornado takes two from an
# answer to the next request. If nobody reads it by then, the client has gone or will not wait.
_TURNS = 3
_BARE_REFUSAL = b"HTTP/1.1 400 Bad Request\r\n\r\n"  # Tornado's, of what it cannot parse
_REASONS = {400: "Bad Request", 503: "Service Unavailable"}


class LimitedHTTPServer(HTTPServer):
    """Serves so many connections at once, and refuses as every answer does (ADR 0017)."""

    def initialize(  # type: ignore[override]  # Tornado's way to construct; ours has others
        self,
        application: Application,
        *,
        connections: int,
        idle_seconds: float,
        is_https: bool,
        **more: Any,
    ) -> None:
        """Take the bounds, whether browsers come over https, and what Tornado's server takes."""
        super().initialize(application, **more)
        # One timer for all connections; Tornado's for each request is a thirtieth of a short one.
        self.conn_params.header_timeout = None
        self._idle_seconds = idle_seconds
        self._idle_connections = application.idle_connections
        self._bound = connections
        self._is_https = is_https
        self._open = 0

    def handle_stream(self, stream: IOStream, address: Any) -> Any:
        """Serve a connection, or turn it away if there are too many."""
        ours = _RequestStream(
            stream.socket,
            self,
            max_buffer_size=self.max_buffer_size,
            read_chunk_size=READ_BYTES,
        )
        if self._open >= self._bound:
            return self._turn_away(ours)
        self._open += 1
        return super().handle_stream(ours, address)

    def start_request(self, server_conn: object, request_conn: Any) -> Any:
        """Wait for a connection's next request, for a while."""
        deadline = asyncio.get_running_loop().time() + self._idle_seconds
        self._idle_connections.begin(request_conn.stream, deadline)
        return super().start_request(server_conn, request_conn)

    def on_close(self, server_conn: Any) -> None:
        """Make room for another connection."""
        self._open -= 1
        self._idle_connections.discard(server_conn.stream)
        super().on_close(server_conn)

    async def wait_until_left(self, seconds: float) -> None:
        """Wait until the clients have hung up, as every answer asks them to; at most so long.

        Closed is no connection on which a client may be about to send a request.
        """
        deadline = monotonic() + seconds
        while self._connections:
            if monotonic() >= deadline:
                return
            await asyncio.sleep(0.01)

    async def _turn_away(self, stream: IOStream) -> None:
        with suppress(StreamClosedError):
            await stream.write(
                self.refuse(Unavailable(Message("Too many connections are open just now.")))
            )
        stream.close()

    def refuse(self, error: TaskappError) -> bytes:
        """Log a refusal, and give the whole answer that says so."""
        identity = str(uuid7())
        log("request.refused", requestId=identity, status=error.status)
        body = msgspec.json.encode(make_problem(error, identity))
        headers = [
            ("Date", now_as_date()),
            ("Content-Type", "application/problem+json"),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("X-Request-ID", identity),
            ("Content-Security-Policy", NOTHING_ALLOWED),
            *SAFE_HEADERS,
        ]
        if self._is_https:
            headers.append(("Strict-Transport-Security", HSTS))
        if isinstance(error, Unavailable):
            headers.append(("Retry-After", str(error.retry_after)))
        lines = [f"HTTP/1.1 {error.status} {_REASONS[error.status]}"]
        lines += [f"{name}: {value}" for name, value in headers]
        return "\r\n".join([*lines, "", ""]).encode("ascii") + body


class _RequestStream(IOStream):
    """A connection that asks little of the system, with our words in the place of Tornado's.

    Tornado tries to read before anything has come and again after it has read all, stops listening
    when a request comes before it has finished with the answer to the last one, and turns Nagle's
    algorithm off and on for each answer: six calls of the system for each request.
    """

    def __init__(self, connection: Any, server: LimitedHTTPServer, **more: Any) -> None:
        super().__init__(connection, **more)
        self._server = server
        self._heard = 0  # how often the loop has said that something has come
        super().set_nodelay(value=True)

    def set_nodelay(self, value: bool) -> None:  # noqa: FBT001  # as Tornado has it
        """Leave it as it is: every answer is one write, and nothing is to wait for another."""

    def _handle_events(self, fd: Any, events: int) -> None:
        # Tornado's own name: there is no other place between the loop and what it does then.
        if events == IOLoop.READ:
            self._heard += 1
            if not self.reading() and self._heard <= _TURNS:
                return
        super()._handle_events(fd, events)

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, if the loop has said that there is something and not all of it was read."""
        if not self._heard:
            return None
        size = super().read_from_fd(buf)
        if size != len(buf):
            self._heard = 0
        return size

    def write(self, data: bytes | memoryview) -> Any:
        if data == _BARE_REFUSAL:
            data = self._server.refuse(BadRequest())
        return super().write(data)

    def close(self, exc_info: Any = False) -> None:  # noqa: FBT002  # as Tornado has it
        if isinstance(exc_info, UnsatisfiableReadError) and not self.closed():
            with suppress(OSError):
                self.socket.send(self._server.refuse(BadRequest()))
        super().close(exc_info)
