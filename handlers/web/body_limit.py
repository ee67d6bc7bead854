"""Limits the size of a request body, and knows when it is received."""

import re
from collections.abc import Callable
from typing import Any

from tornado.httputil import HTTPHeaders, HTTPInputError, HTTPMessageDelegate

from handlers.web.connections import Connections, ConnectionState
from handlers.web.request_stream import RequestStream

MAX_BODY_SIZE = 256 * 1024  # bytes: a description of 10,000 emoji, each escaped as \ud83d\ude00
# Bytes of a body that is too large which are read and dropped, so that the connection can be used
# again; of a larger one the response comes at once, and the connection is closed after it.
MAX_DROPPED_SIZE = 64 * 1024 * 1024
_SIZE = re.compile("[0-9]{1,4300}")  # Python reads no number of more digits


class BodyLimit(HTTPMessageDelegate):
    """Passes a request on to its handler, or, if the body is too large, to one that answers 413.

    A client that waits for "100 Continue" before a body that is too large gets 413 instead.
    """

    def __init__(
        self,
        connections: Connections,
        stream: RequestStream,
        handler: HTTPMessageDelegate,
        make_rejection: Callable[[], HTTPMessageDelegate],
        max_size: int,
    ) -> None:
        self._connection_states = connections
        self._stream = stream
        self._handler = handler
        self._make_rejection = make_rejection
        self._max_size = max_size  # bytes
        self._received = 0  # bytes
        self._is_rejected = False

    def headers_received(self, start_line: Any, headers: HTTPHeaders) -> Any:
        """Begin to receive the body, or respond if it will be too large.

        Raises:
            HTTPInputError: the framing is faulty: HTTP/1.0 has no chunks (RFC 9112, 6.1).
        """
        if "Transfer-Encoding" in headers and start_line.version == "HTTP/1.0":
            raise HTTPInputError("HTTP/1.0 with a Transfer-Encoding")
        self._connection_states.enter(self._stream, ConnectionState.RECEIVED)
        size = _declared_size(headers)
        if size > self._max_size and ("Expect" in headers or size > MAX_DROPPED_SIZE):
            headers.pop("Expect", None)  # Tornado would invite the body
            self._reject_at_once()
        return self._handler.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        """Pass a part of the body on, or drop it when the body has become too large."""
        self._received += len(chunk)
        if self._received <= self._max_size:
            return self._handler.data_received(chunk)
        if self._received > MAX_DROPPED_SIZE:
            self._reject_at_once()
        return None

    def finish(self) -> None:
        """Run the handler of the route, or the one that answers 413."""
        self._connection_states.enter(self._stream, ConnectionState.ANSWERED)
        if not self._is_rejected:
            is_too_large = self._received > self._max_size
            (self._make_rejection() if is_too_large else self._handler).finish()

    def on_connection_close(self) -> None:
        """Tell the handler that the client is gone."""
        self._handler.on_connection_close()

    def _reject_at_once(self) -> None:
        """Respond before the end of the body, after which Tornado closes the stream."""
        if not self._is_rejected:
            self._is_rejected = self._stream.lingers = True
            self._make_rejection().finish()


def _declared_size(headers: HTTPHeaders) -> int:
    """Return the Content-Length in bytes; 0 without one, or with one that Tornado refuses."""
    size = ",".join(headers.get_list("Content-Length"))
    is_valid = _SIZE.fullmatch(size) and "Transfer-Encoding" not in headers
    return int(size) if is_valid else 0
