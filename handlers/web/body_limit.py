"""Limits the size of a request body, and the time in which it has to arrive."""

import asyncio
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPMessageDelegate
from tornado.iostream import IOStream

from taskapp.core.deadlines import DeadlineTimer

MAX_BODY_SIZE = 256 * 1024  # bytes: a description of 10,000 emoji, each escaped as \ud83d\ude00
BODY_TIMEOUT = 30.0  # seconds for a whole body of any size


class BodyLimit(HTTPMessageDelegate):
    """Passes a request on to its handler, or, if the body is too large, to one that answers 413.

    Tornado's own `max_body_size` closes the connection without a response.
    """

    def __init__(
        self,
        incoming_bodies: DeadlineTimer[IOStream],
        stream: IOStream,
        handler: HTTPMessageDelegate,
        make_rejection: Callable[[], HTTPMessageDelegate],
    ) -> None:
        self._incoming_bodies = incoming_bodies
        self._stream = stream
        self._handler = handler
        self._make_rejection = make_rejection
        self._received = 0  # bytes

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:
        """Start the timeout of the body."""
        deadline = asyncio.get_running_loop().time() + BODY_TIMEOUT
        self._incoming_bodies.begin(self._stream, deadline)
        return self._handler.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        """Pass a part of the body on, or drop it when the body has become too large."""
        self._received += len(chunk)
        if self._received <= MAX_BODY_SIZE:
            return self._handler.data_received(chunk)
        return None

    def finish(self) -> None:
        """Run the handler of the route, or the one that answers 413."""
        self._incoming_bodies.discard(self._stream)
        is_too_large = self._received > MAX_BODY_SIZE
        (self._make_rejection() if is_too_large else self._handler).finish()

    def on_connection_close(self) -> None:
        """Stop the timeout: the client is gone."""
        self._incoming_bodies.discard(self._stream)
        self._handler.on_connection_close()
