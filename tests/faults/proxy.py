"""A bad network: a proxy before PostgreSQL or taskapp that cuts, delays, drips and swallows."""

import asyncio
import random
import re
import socket
import struct
import threading
import time
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Self

from tests.support.server_process import LONG_ENOUGH

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends a reset
DRIP = 0.01  # seconds between two pieces
# CommandComplete of a committed change (PostgreSQL's protocol, "Message Formats").
REPLY_TO_WRITE = re.compile(rb"C\0\0\0.(INSERT 0 1|UPDATE 1|DELETE 1|COMMIT)\0", re.DOTALL)


class Proxy:
    """Forwards a port on loopback to a Unix socket or to another port, with faults."""

    def __init__(self, target: Path | int) -> None:
        self.port = 0
        self.heal()
        self._target = target
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._last_used: dict[object, float] = {}  # pair: seconds of the monotonic clock
        self._forgotten: set[object] = set()  # pairs
        self._tasks: set[asyncio.Task[None]] = set()
        self._started: Future[int] = Future()
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._thread = threading.Thread(target=self._run)

    def heal(self) -> None:
        """Remove all faults."""
        self.delay = 0.0  # seconds
        self.jitter = 0.0  # max seconds more, at random: connections overtake each other
        self.piece = 65536  # max bytes at a time
        self.is_black_hole = False  # holds data back, like TCP before a retransmission
        self.refuses = False
        self.cuts_replies = False  # of writes: committed, but without a reply
        self.forgets_after = float("inf")  # seconds without data; then it swallows what comes

    @property
    def url(self) -> str:
        return f"postgresql://taskapp@127.0.0.1:{self.port}/postgres"

    def __enter__(self) -> Self:
        self._thread.start()
        self.port = self._started.result(LONG_ENOUGH)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._loop.close()

    def cut(self) -> None:
        """Reset all connections."""
        asyncio.run_coroutine_threadsafe(self._cut_all(), self._loop).result(LONG_ENOUGH)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self._started.set_result(server.sockets[0].getsockname()[1])
        await self._stopped.wait()
        server.close()
        await self._cut_all()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuses:
            _reset(writer)
            return
        try:
            their_reader, their_writer = await self._open_target()
        except OSError:  # nothing listens there
            _reset(writer)
            return
        pair = (writer, their_writer)
        self._pairs.add(pair)
        for source, target in ((reader, their_writer), (their_reader, writer)):
            task = asyncio.create_task(self._pass_on(source, target, pair))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _open_target(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if isinstance(self._target, int):
            return await asyncio.open_connection("127.0.0.1", self._target)
        return await asyncio.open_unix_connection(self._target)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                if self._has_forgotten(pair):
                    continue
                more = random.uniform(0, self.jitter)  # noqa: S311  # for no secret
                await asyncio.sleep(self.delay + more)
                while self.is_black_hole:  # noqa: ASYNC110  # another thread ends it
                    await asyncio.sleep(DRIP)
                if self.cuts_replies and target is pair[0] and REPLY_TO_WRITE.search(data):
                    break
                await self._send(target, data)
        self._reset_pair(pair)

    def _has_forgotten(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> bool:
        """Return whether a connection was idle for too long once; note that it is used."""
        now = time.monotonic()
        if now - self._last_used.get(pair, now) > self.forgets_after:
            self._forgotten.add(pair)
        self._last_used[pair] = now
        return pair in self._forgotten

    async def _send(self, target: asyncio.StreamWriter, data: bytes) -> None:
        while data:
            size = self.piece
            target.write(data[:size])
            data = data[size:]
            if data:
                await asyncio.sleep(DRIP)
            await target.drain()

    async def _cut_all(self) -> None:
        for pair in [*self._pairs]:
            self._reset_pair(pair)

    def _reset_pair(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self._pairs.discard(pair)
        self._last_used.pop(pair, None)
        self._forgotten.discard(pair)
        for writer in pair:
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.transport.is_closing():
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    writer.transport.abort()
