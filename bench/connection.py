"""A minimal HTTP client, so that the measured time is the server's."""

import json
import re
import socket
from typing import Any

from taskapp.cli.common import CliError

TIMEOUT = 120.0  # seconds
_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Connection:
    """A keep-alive connection to a port on loopback."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send a request; return the status and the body of the response.

        Raises:
            CliError: the response is incomplete.
        """
        self._socket.sendall(request)
        response = bytearray()
        while (end := response.find(b"\r\n\r\n")) < 0:
            self._receive(response)
        length = _LENGTH.search(response, 0, end + 2)
        if length is None:
            raise CliError(f"A response has no Content-Length: {bytes(response[:end])!r}")
        while len(response) < end + 4 + int(length[1]):
            self._receive(response)
        return int(response[9:12]), bytes(response[end + 4 :])

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _receive(self, response: bytearray) -> None:
        received = self._socket.recv(262_144)
        if not received:
            raise CliError("The server closed the connection in the middle of a response.")
        response += received


def write_request(method: str, path: str, token: str = "", body: Any = None) -> bytes:
    """Return the bytes of a request."""
    content = b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", "Accept: application/json"]
    if token:
        lines.append(f"Authorization: Bearer {token}")
    if content:
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content
