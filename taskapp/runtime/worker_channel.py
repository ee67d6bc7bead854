"""What a worker, one of several processes that serve, hears from the keeper that started it.

On its standard input come a line of orders, then the address of the database when that is
prepared, and at last the end: the keeper has gone. On its standard output it says once that it
is ready.
"""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from io import FileIO

import msgspec

from taskapp.observability.logs import log
from taskapp.runtime.startup import run_until


class Orders(msgspec.Struct):
    """What a worker has to know from the beginning."""

    settings: dict[str, str]  # the texts, by variable: a changed .env counts at the next start
    sockets: list[int]  # descriptors that it has inherited
    folder: str  # where the processes find each other


def read_orders() -> Orders:
    """Wait for the orders; end the process if the keeper has ended before it gave them."""
    # Unbuffered, so that nothing is taken away of what comes after the line.
    line = FileIO(sys.stdin.fileno(), closefd=False).readline()
    if not line:
        sys.exit(0)
    return msgspec.json.decode(line, type=Orders)


class Keeper:
    """The process that started this one."""

    def __init__(self) -> None:
        self._url = ""
        self._has_url = asyncio.Event()

    async def database_url(self, *, stop: asyncio.Event) -> str:
        """Wait until the database is prepared, and give its address; "" when the event is first."""
        await run_until(stop, self._has_url.wait())
        return self._url

    def tell_ready(self) -> None:
        """Say that requests are served from now on."""
        with suppress(BrokenPipeError):  # it has just gone, which stops this process anyway
            os.write(sys.stdout.fileno(), b"ready\n")

    async def follow(self, words: asyncio.StreamReader) -> None:
        """Hear what it says until it has ended."""
        if line := await words.readline():
            self._url = line.decode().strip()
            self._has_url.set()
            await words.read()


@asynccontextmanager
async def followed_keeper(orders: Orders, stopped: asyncio.Event) -> AsyncIterator[Keeper]:
    """Follow the keeper for as long as the block lasts; its end sets the event."""
    keeper = Keeper()

    async def follow() -> None:
        await keeper.follow(words)
        log("supervisor.gone", "error")
        shutil.rmtree(orders.folder, ignore_errors=True)  # what it would have done
        stopped.set()

    words = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(words), sys.stdin
    )
    following = asyncio.create_task(follow())
    try:
        yield keeper
    finally:
        following.cancel()
        await asyncio.wait({following})
        transport.close()
