"""The open connections: what each waits for, until when, and what its client has not taken yet."""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from tornado.iostream import IOStream

from taskapp.core.deadlines import DeadlineTimer
from taskapp.observability.logs import log

# Seconds that a connection may stay in each state.
IDLE_TIMEOUT = 75.0  # nginx closes after 60, and has to be first, or it loses a request
BODY_TIMEOUT = 30.0  # for a whole body of any size
RESPONSE_TIMEOUT = 60.0  # nothing takes longer; statements end after 3.5, and nginx waits for 30
SENDING_TIMEOUT = 30.0  # in which the client takes MIN_PROGRESS bytes, as in nginx's send_timeout
MIN_PROGRESS = 8 * 1024  # bytes
# Bytes of all responses that clients have not taken: 16 of the largest ones (100 long tasks).
MAX_UNSENT = 64 * 1024 * 1024
# Bytes of one response that the kernel takes before the client does; the rest counts here.
KERNEL_UNSENT = 64 * 1024
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, and drop what is unsent (socket(7))


class ConnectionState(StrEnum):
    """What happens to the request of a connection."""

    AWAITED = "awaited"
    RECEIVED = "received"
    ANSWERED = "answered"
    SENT = "sent"


class _Unsent(NamedTuple):
    """Bytes of a response that a client had not taken at its last progress."""

    client: str
    size: int


_NOTHING = _Unsent("", 0)


class Connections:
    """The open connections, each in exactly one state.

    A connection that stays in its state for too long is closed. Responses that clients do not take
    are limited for all of them together. Beyond it, the client that has left the most loses the
    connection on which it has taken nothing for the longest time.
    """

    def __init__(self) -> None:
        self._timeouts = {
            ConnectionState.AWAITED: IDLE_TIMEOUT,
            ConnectionState.RECEIVED: BODY_TIMEOUT,
            ConnectionState.ANSWERED: RESPONSE_TIMEOUT,
            ConnectionState.SENT: SENDING_TIMEOUT,
        }
        self._deadlines: DeadlineTimer[IOStream] = DeadlineTimer(self._close)
        self._states: dict[IOStream, ConnectionState] = {}
        # By the time of the last progress, least recent first.
        self._unsent: dict[IOStream, _Unsent] = {}
        self.unsent = 0  # bytes of all

    @property
    def states(self) -> Mapping[IOStream, ConnectionState]:
        """Return the state of each connection."""
        return MappingProxyType(self._states)

    @property
    def deadlines(self) -> Mapping[IOStream, float]:
        """Return when each connection is closed, in seconds of the event loop's clock."""
        return self._deadlines.deadlines

    def is_any_busy(self) -> bool:
        """Return whether a request is being received, answered or sent."""
        return any(state is not ConnectionState.AWAITED for state in self._states.values())

    def enter(self, stream: IOStream, state: ConnectionState) -> None:
        """Set the state of an open connection; its time begins."""
        if stream.closed():
            return
        self._states[stream] = state
        now = asyncio.get_running_loop().time()
        self._deadlines.begin(stream, now + self._timeouts[state])

    def leave(self, stream: IOStream) -> None:
        """Forget a connection that is closed."""
        self._states.pop(stream, None)
        self._deadlines.discard(stream)
        self.unsent -= self._unsent.pop(stream, _NOTHING).size

    def wait_for_client(self, stream: IOStream, client: str, unsent: int) -> None:
        """Begin to send the rest of a response, so many bytes, which the kernel has no room for.

        `client` is the same for all connections of one client.
        """
        self._set_unsent(stream, _Unsent(client, unsent))
        while self.unsent > MAX_UNSENT:
            self._close(self._find_heaviest())

    def _find_heaviest(self) -> IOStream:
        sizes: Counter[str] = Counter()
        for client, size in self._unsent.values():
            sizes[client] += size
        [(heaviest, _)] = sizes.most_common(1)
        return next(stream for stream, of in self._unsent.items() if of.client == heaviest)

    def record_progress(self, stream: IOStream, unsent: int) -> None:
        """Record how many bytes of a response are left, now that the kernel has taken some."""
        before = self._unsent.get(stream)
        if before is None:
            return
        if unsent == 0:
            self.unsent -= self._unsent.pop(stream).size
        elif before.size - unsent >= MIN_PROGRESS:
            self._set_unsent(stream, before._replace(size=unsent))

    def _set_unsent(self, stream: IOStream, unsent: "_Unsent") -> None:
        self.unsent += unsent.size - self._unsent.pop(stream, _NOTHING).size
        self._unsent[stream] = unsent
        self.enter(stream, ConnectionState.SENT)

    def _close(self, stream: IOStream) -> None:
        state = self._states[stream]
        if state is ConnectionState.SENT:
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if state is not ConnectionState.AWAITED:
            unsent = self._unsent.get(stream, _NOTHING).size or None
            log("connection.closed", "warning", state=state, unsent=unsent)
        self.leave(stream)
        stream.close()


def limit_kernel_buffer(listener: socket.socket) -> None:
    """Limit what the kernel takes of a response before the client does, on Linux and macOS."""
    if listener.family != socket.AF_UNIX and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT)
