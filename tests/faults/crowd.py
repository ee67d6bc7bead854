"""Many connections at once from one event loop: idle ones and busy ones."""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field

ADDRESSES = 8
BODY = b'{"title": "Buy milk"}'


@dataclass
class Crowd:
    """The responses by status, and the longest wait in seconds."""

    port: int
    token: str
    statuses: Counter[int] = field(default_factory=Counter)
    slowest: float = 0.0
    responses: int = 0
    overtaken: int = 0  # max responses to others during one wait
    _opened: int = 0  # connections

    async def stay_idle(self, number: int, until: asyncio.Event) -> None:
        """Open connections, and send a request on each now and at the end."""
        streams = [await self._connect() for _ in range(number)]
        for reader, writer in streams:
            await self._ask(reader, writer, b"GET", b"/api/tasks?limit=1")
        await until.wait()
        for reader, writer in streams:
            await self._ask(reader, writer, b"GET", b"/api/tasks?limit=1")
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in streams))

    async def keep_busy(self, number: int, seconds: float) -> int:
        """Write and read on many connections; return the rounds of the slowest one."""
        return min(await asyncio.gather(*(self._work(seconds) for _ in range(number))))

    async def _work(self, seconds: float) -> int:
        reader, writer = await self._connect()
        until = time.monotonic() + seconds
        turns = 0
        while time.monotonic() < until:
            await self._ask(reader, writer, b"POST", b"/api/tasks")
            await self._ask(reader, writer, b"GET", b"/api/tasks?limit=1")
            turns += 1
        writer.close()
        await writer.wait_closed()
        return turns

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect from one of several addresses: one alone gets a quarter of the connections."""
        self._opened += 1
        address = f"127.0.0.{1 + self._opened % ADDRESSES}"
        return await asyncio.open_connection("127.0.0.1", self.port, local_addr=(address, 0))

    async def _ask(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        method: bytes,
        path: bytes,
    ) -> None:
        started, before = time.monotonic(), self.responses
        body = BODY if method == b"POST" else b""
        writer.write(
            b"%s %s HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %s\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (method, path, self.token.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2])
            for line in head.splitlines()
            if line.lower().startswith(b"content-length:")
        )
        await reader.readexactly(length)
        self.statuses[int(head.split()[1])] += 1
        self.overtaken = max(self.overtaken, self.responses - before)
        self.responses += 1
        self.slowest = max(self.slowest, time.monotonic() - started)
