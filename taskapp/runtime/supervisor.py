"""Several processes that serve: started, started again when they end unasked, and stopped.

The process that does this is the keeper. It has the database, does the upkeep and serves nobody;
the workers serve, on listening sockets that all of them have.
"""

import asyncio
import shutil
import signal
import socket
import tempfile
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import msgspec

from taskapp.config.settings import variable
from taskapp.core.backoff import RestartBackoff, describe_end
from taskapp.observability.logs import log
from taskapp.runtime.listeners import ListenError
from taskapp.runtime.startup import run_until
from taskapp.runtime.worker_channel import Orders
from taskapp.services import Services

KEEPER = "keeper"  # its name among the metrics; the workers have numbers
_MAX_BACKOFF = 5.0  # seconds before a worker that keeps ending is started again
_GRACE = 1.0  # seconds beyond those that a worker gives to its requests


@asynccontextmanager
async def running_workers(
    services: Services,
    sockets: Sequence[socket.socket],
    stop_seconds: float,
    *,
    program: Sequence[str],
) -> AsyncIterator["Workers"]:
    """Run so many processes that serve on these sockets for as long as the block lasts.

    `program` is the command to which a worker's number is added.

    Raises:
        ListenError: there is no place for sockets on which they find each other.
    """
    async with AsyncExitStack() as stack:
        try:
            folder = stack.enter_context(_private_folder())
            await stack.enter_async_context(services.exchange.serving(folder, KEEPER))
        except OSError as error:
            raise ListenError(
                f"Cannot listen on a socket in {tempfile.gettempdir()}: "
                f"{error.strerror or error}. Set TMPDIR to another folder."
            ) from error
        services.backups.share(folder)
        workers = Workers(services, sockets, stop_seconds, program=program, folder=folder)
        try:
            yield workers
        finally:
            await workers.kill()


@contextmanager
def _private_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="taskapp-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Workers:
    """The processes that serve, each started again when it ends unasked."""

    def __init__(
        self,
        services: Services,
        sockets: Sequence[socket.socket],
        stop_seconds: float,
        *,
        program: Sequence[str],
        folder: Path,
    ) -> None:
        """Start them; they find each other in the folder."""
        self._settings = services.settings
        self._sockets = sockets
        self._stop_seconds = stop_seconds
        self._program = program
        self._folder = folder
        self._url = ""
        self._processes: dict[int, Process] = {}
        numbers = range(1, self._settings.processes + 1)
        self._awaited = set(numbers)  # those that have not been ready yet
        self._all_ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._tasks = [asyncio.create_task(self._keep(number)) for number in numbers]

    async def open(self, url: str, *, stop: asyncio.Event) -> bool:
        """Let them serve, and wait until all do; give up, and say False, when the event comes."""
        self._url = url
        if not self._settings.limit_storage:
            log(
                "limits.counted_by_each_process",
                "warning",
                processes=self._settings.processes,
                fix="TASKAPP_LIMIT_STORAGE=redis://... lets all of them count together",
            )
        for process in self._processes.values():
            self._tell(process, url.encode())
        return await run_until(stop, self._all_ready.wait())

    async def drain(self) -> None:
        """Let them finish what was begun."""
        await self._end(signal.SIGTERM, self._stop_seconds + _GRACE)
        if self._processes:
            log("workers.killed", "warning", processes=len(self._processes))
            await self.kill()

    async def kill(self) -> None:
        """End those that still run."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals, patience: float | None = None) -> None:
        self._stopping.set()
        for listener in self._sockets:
            listener.close()
        for process in self._processes.values():
            with suppress(ProcessLookupError):
                process.send_signal(number)
        await asyncio.wait(self._tasks, timeout=patience)

    async def _keep(self, number: int) -> None:
        """Run a worker, again and again, until all are to stop."""
        clock = asyncio.get_running_loop().time
        pauses = RestartBackoff(_MAX_BACKOFF)
        while not self._stopping.is_set():
            started = clock()
            try:
                how = await self._run(number)
            except OSError as error:
                how = str(error)
            if self._stopping.is_set():
                return
            pause = pauses.after(clock() - started)
            log("worker.ended", "error", worker=number, how=how, pauseSeconds=pause)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)

    async def _run(self, number: int) -> str:
        """Run a worker to its end, and say in words how it ended."""
        descriptors = [listener.fileno() for listener in self._sockets]
        # A session of its own, so that Ctrl-C in a terminal reaches the keeper alone.
        process = await asyncio.create_subprocess_exec(
            *(*self._program, str(number)),
            stdin=PIPE,
            stdout=PIPE,
            pass_fds=descriptors,
            start_new_session=True,
        )
        self._processes[number] = process
        try:
            self._tell(process, msgspec.json.encode(self._orders(descriptors)))
            if self._url:
                self._tell(process, self._url.encode())
            if self._stopping.is_set():
                process.kill()
            await self._hear(number, process)
            return describe_end(await process.wait())
        finally:
            del self._processes[number]

    def _orders(self, descriptors: list[int]) -> Orders:
        data_dir = {variable("data_dir"): str(self._settings.data_dir)}
        texts = {**self._settings.texts, **data_dir}
        return Orders(texts, descriptors, str(self._folder))

    def _tell(self, process: Process, line: bytes) -> None:
        if process.stdin:
            process.stdin.write(line + b"\n")

    async def _hear(self, number: int, process: Process) -> None:
        if process.stdout and await process.stdout.readline():
            log("worker.ready", worker=number, pid=process.pid)
            self._awaited.discard(number)
            if not self._awaited:
                self._all_ready.set()
