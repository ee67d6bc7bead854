"""The stream of a connection: rejects what is no request, and closes so that clients read why."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from string import ascii_letters, digits

from tornado.httputil import HTTPInputError
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError, UnsatisfiableReadError

from handlers.web.connections import Connections

# What Tornado writes when it cannot parse a request. It has no hook for that, so the stream looks
# for these bytes; tests/web/test_rejected_requests.py fails when a Tornado writes others.
_TORNADO_REJECTION = b"HTTP/1.1 400 Bad Request\r\n\r\n"
# A method is a token (RFC 9110, 5.6.2), and empty lines may precede it (RFC 9112, 2.2).
_FIRST_BYTES = frozenset((ascii_letters + digits + "!#$%&'*+-.^_`|~\r\n").encode("ascii"))
# Clients pass over it (RFC 9110, 15.2), also those that did not ask for it.
_INTERIM_RESPONSE = b"HTTP/1.1 100 Continue\r\n\r\n"
LINGER_TIMEOUT = 30.0  # seconds, as for a body
MAX_LINGERING = 32  # sockets, which the limit of connections does not count
_DROP_SIZE = 64 * 1024  # bytes
# Iterations of the loop for which a request stays in the kernel while nobody reads: Tornado takes
# two from a response to the next request. If it is not read by then, the client pipelines or left.
_MAX_UNREAD_ITERATIONS = 3
# Chunks of a body: each costs 15 µs, however short it is. Clients send chunks of 4 KB and more.
MAX_CHUNKS = 1_000


class NotHttpError(UnsatisfiableReadError):
    """The first byte of a connection begins no HTTP request: TLS, for example."""


class LingeringSockets:
    """Sockets on which the last response is sent, and what the client still sends is dropped.

    A socket that is closed while unread bytes wait in it resets the connection, and the client may
    lose the response (RFC 9112, 9.6).
    """

    def __init__(self) -> None:
        self._timers: dict[socket.socket, asyncio.TimerHandle] = {}

    def add(self, connection: socket.socket) -> None:
        """Keep a connection open, beside the socket that is closed, until the client closes it."""
        if len(self._timers) >= MAX_LINGERING:
            return
        with suppress(OSError):  # the client is gone, or there is no descriptor left
            lingering = connection.dup()
            lingering.shutdown(socket.SHUT_WR)
            loop = asyncio.get_running_loop()
            loop.add_reader(lingering, self._drop, lingering)
            self._timers[lingering] = loop.call_later(LINGER_TIMEOUT, self._close, lingering)

    def close(self) -> None:
        """Close all sockets."""
        while self._timers:
            self._close(next(iter(self._timers)))

    def _drop(self, lingering: socket.socket) -> None:
        try:
            if lingering.recv(_DROP_SIZE):
                return
        except BlockingIOError:
            return
        except OSError:
            pass  # reset by the client
        self._close(lingering)

    def _close(self, lingering: socket.socket) -> None:
        self._timers.pop(lingering).cancel()
        asyncio.get_running_loop().remove_reader(lingering)
        lingering.close()


class RequestStream(IOStream):
    """A connection that counts what its client has not taken, and rejects as handlers reject.

    Tornado answers a malformed request with a bare 400, closes a connection whose headers are too
    large without a response, and waits for the end of a line in what is no HTTP.
    """

    def __init__(
        self,
        connection: socket.socket,
        connections: Connections,
        make_rejection: Callable[["RequestStream"], bytes],
        lingering: LingeringSockets,
        *,
        client: str,
        read_chunk_size: int,
    ) -> None:
        """`make_rejection` returns the response to what cannot be read; `error` says why.

        `client` is the key of the address that the connection comes from.
        """
        super().__init__(connection, read_chunk_size=read_chunk_size)
        self._connection_states = connections
        self._make_rejection = make_rejection
        self._client = client
        self._unsent = 0  # bytes
        self._chunks = 0  # of the body that is being received
        self._lingering = lingering
        self._is_new = True
        self._is_drained = False  # by the last read: the loop says when there is more
        self._unread_iterations = 0
        # Called when the client ends its side of the connection before the response.
        self.on_end_of_input: Callable[[], None] | None = None
        # Those of the next response that are the same for many, each with its end. Tornado checks,
        # joins and encodes headers one by one: these would take a tenth of a short request.
        self.header_lines = b""
        self.lingers = False  # whether the client may still be sending when the stream is closed
        super().set_nodelay(True)

    def set_nodelay(self, value: bool) -> None:  # noqa: FBT001  # Tornado's signature
        """Leave Nagle's algorithm off, which Tornado turns off and on for each response."""

    def read_from_fd(self, buf: bytearray | memoryview) -> int | None:
        """Read, and refuse a first byte that begins no request.

        Return None without asking the kernel if there is nothing, or nobody waits for it: Tornado
        reads once more after each request, and stops listening when the next one comes early.

        Raises:
            NotHttpError: the client does not speak HTTP.
        """
        if self._is_early():
            return None
        count = super().read_from_fd(buf)
        if count == 0 and not self.reading():
            self._keep_open_for_response()
            return None
        self._is_drained = count is not None and count < len(buf)
        if self._is_new and count:
            self._is_new = False
            if buf[0] not in _FIRST_BYTES:
                raise NotHttpError
        return count

    def _is_early(self) -> bool:
        if self.reading():
            self._unread_iterations = 0
            is_early = self._is_drained
        else:
            self._unread_iterations += 1
            is_early = self._unread_iterations <= _MAX_UNREAD_ITERATIONS
        self._is_drained = False
        return is_early

    def _keep_open_for_response(self) -> None:
        """Wait for no more events of a client that sends no more, but may read (RFC 9112, 9.6).

        The loop would report the end of its input again and again. The next attempt to read closes.
        """
        self.io_loop.update_handler(self.fileno(), IOLoop.WRITE if self.writing() else IOLoop.NONE)
        if self.on_end_of_input is not None:
            self.on_end_of_input()

    def probe(self) -> None:
        """Send an interim response: the machine of a client that is gone resets the connection."""
        with suppress(OSError):  # it did already
            self.socket.send(_INTERIM_RESPONSE)

    def is_reset(self) -> bool:
        """Return whether the client has reset a connection whose events nobody waits for."""
        return self.closed() or self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    def read_until_regex(self, regex: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read the headers of the next request.

        Raises:
            StreamClosedError: the last response was the last of the connection, so what the client
                has sent after that request must not be carried out (RFC 9112, 9.6).
        """
        if self.closed():
            raise StreamClosedError
        self._chunks = 0
        self.header_lines = b""
        self.on_end_of_input = None
        return super().read_until_regex(regex, max_bytes)

    def read_until(self, delimiter: bytes, max_bytes: int | None = None) -> Awaitable[bytes]:
        """Read the length of a chunk.

        Raises:
            HTTPInputError: the body has too many chunks.
        """
        self._chunks += 1
        if self._chunks > MAX_CHUNKS:
            raise HTTPInputError("too many chunks")
        return super().read_until(delimiter, max_bytes)

    def write(self, data: bytes | memoryview) -> "asyncio.Future[None]":
        """Write the data, or our own response to a malformed request in place of Tornado's."""
        if data == _TORNADO_REJECTION:
            data = self._make_rejection(self)
            self.lingers = True
        elif self.header_lines:  # the first line of a response is its status
            data = bytes(data).replace(b"\r\n", b"\r\n" + self.header_lines, 1)
            self.header_lines = b""
        self._unsent += len(data)
        written = super().write(data)
        if self._unsent and not self.closed():
            self._connection_states.wait_for_client(self, self._client, self._unsent)
        return written

    def write_to_fd(self, data: memoryview) -> int:
        """Pass bytes to the kernel, and return how many it has taken."""
        taken = super().write_to_fd(data)
        self._unsent -= taken
        self._connection_states.record_progress(self, self._unsent)
        return taken

    def close_fd(self) -> None:
        """Close the socket, after a response if Tornado closes it for what it could not read."""
        if isinstance(self.error, UnsatisfiableReadError):
            self.lingers = True
            with suppress(OSError):
                self.socket.send(self._make_rejection(self))
        if self.lingers:
            self._lingering.add(self.socket)
        self._connection_states.leave(self)
        super().close_fd()
