"""Processes of the embedded PostgreSQL: starting one, reading its log, finding and ending them."""

import asyncio
import logging
import os
import re
import signal
import subprocess
import sys
from asyncio import StreamReader, StreamWriter
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path
from typing import cast

from taskapp.config.installation import IS_ONE_FILE
from taskapp.core.waiting import wait_until
from taskapp.postgres import launcher
from taskapp.postgres.permissions import UnixUser

_logger = logging.getLogger("taskapp.postgresql")

# Signals that end PostgreSQL, and the seconds each is given: fast and immediate shutdown, kill.
KILL = ((signal.SIGKILL, 5.0),)
_SHUTDOWNS = ((signal.SIGINT, 10.0), (signal.SIGQUIT, 5.0), *KILL)
# Smart shutdown first: a fast one complains of every connection whose end it has not noticed yet.
_QUIET_SHUTDOWNS = ((signal.SIGTERM, 1.0), *_SHUTDOWNS)
_LAST_LINES_TIMEOUT = 2.0  # seconds to wait for the last log lines of an ended PostgreSQL
_MAX_LINE = 65536  # bytes
_SEVERITIES = {
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "NOTICE": logging.INFO,
    "LOG": logging.INFO,
    "WARNING": logging.WARNING,
    "ERROR": logging.ERROR,
    "FATAL": logging.ERROR,
    "PANIC": logging.ERROR,
}
# PostgreSQL calls this FATAL. All its clients are ours, and whoever ends one tells why.
_CLIENT_ENDED = "connection to client lost"
_USER = re.compile(r"^Uid:\t\d+\t(\d+)", re.MULTILINE)  # the effective one (proc_pid_status(5))
_PARENT = re.compile(r"^PPid:\t(\d+)", re.MULTILINE)
_OWN_NAME = re.compile(r"(^|/)(postgres|initdb)([: ]|$)")
_LAUNCHER = (
    (str(Path(sys.executable).with_name("launcher")),)
    if IS_ONE_FILE
    else (sys.executable, "-I", "-S", launcher.__file__)
)


def describe_end(code: int) -> str:
    """Return how a process ended, such as "signal SIGKILL", from its return code."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


class ProgramError(Exception):
    """A program has failed; the message is what it wrote to standard error."""


class PostgresProcess:
    """A `postgres` child process, whose log lines go into our log."""

    def __init__(self, process: Process, log: "_LogForwarder") -> None:
        self._process = process
        self._log = log
        self.pid = process.pid

    @property
    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> str:
        """Wait for its end, and return how it ended, such as "exit code 1"."""
        code = await self._process.wait()
        await asyncio.wait([self._log.ended], timeout=_LAST_LINES_TIMEOUT)
        return describe_end(code)

    def last_log_lines(self) -> str:
        """Return its last log lines, joined by " | "."""
        return " | ".join(self._log.last) or "none"

    async def end(self) -> None:
        """Shut it down: by smart, fast or immediate shutdown, or at last by SIGKILL."""
        await end_processes(lambda: [] if self.has_ended else [self.pid], _QUIET_SHUTDOWNS)
        await asyncio.wait([self._log.ended], timeout=_LAST_LINES_TIMEOUT)
        self._log.close()


async def start_server(
    command: Sequence[str], account: UnixUser | None, *, in_namespace: bool = False
) -> PostgresProcess:
    """Start `postgres` as the account; it stops when the thread that called this ends.

    With `in_namespace`, this user has another number there, which has a name and is not root's.
    """
    read_end, write_end = os.pipe()
    try:
        # A full pipe then loses lines: PostgreSQL never waits for a reader that has stopped.
        os.set_blocking(write_end, False)
        stream = os.fdopen(read_end, "rb", buffering=0)
        _, log = await asyncio.get_running_loop().connect_read_pipe(_LogForwarder, stream)
        process = await _spawn(command, account, write_end, in_namespace=in_namespace)
        return PostgresProcess(process, log)
    finally:
        os.close(write_end)


async def run_program(
    command: Sequence[str],
    account: UnixUser | None,
    *,
    niceness: int = 0,
    environment: Mapping[str, str] | None = None,
    reads: AsyncGenerator[bytes, None] | None = None,
    in_namespace: bool = False,
) -> tuple[int, str]:
    """Run a program as the account; return its exit code and its standard error.

    `in_namespace` is as for `start_server`. `reads` yields its standard input. If the caller is
    cancelled, the program and all that it started are killed.
    """
    stdin = DEVNULL if reads is None else PIPE
    process = await _spawn(
        command, account, PIPE, niceness, environment, stdin=stdin, in_namespace=in_namespace
    )
    try:
        if reads is not None:
            await _write(process, reads)
        _, written = await process.communicate()
    finally:
        await _kill(process)
    return process.returncode or 0, written.decode(errors="replace").strip()


@asynccontextmanager
async def program_output(command: Sequence[str], niceness: int = 0) -> AsyncIterator[StreamReader]:
    """Run a program, and yield its standard output, which has to be read to its end.

    Raises ProgramError at the end of the block if the program has failed.
    """
    process = await _spawn(command, None, PIPE, niceness, stdout=PIPE)
    try:
        yield cast("StreamReader", process.stdout)
        _, written = await process.communicate()
    finally:
        await _kill(process)
    if code := process.returncode:
        raise ProgramError(written.decode(errors="replace").strip() or describe_end(code))


async def _write(process: Process, pieces: AsyncGenerator[bytes, None]) -> None:
    stdin = cast("StreamWriter", process.stdin)
    async with aclosing(pieces):
        with suppress(BrokenPipeError, ConnectionResetError):  # it has ended, and says why itself
            async for piece in pieces:
                stdin.write(piece)
                await stdin.drain()
    stdin.close()


async def _kill(process: Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.communicate()  # what is left in a pipe would keep it from having ended


def clean_environment() -> dict[str, str]:
    """Return our environment without secrets and PG* variables, for programs of PostgreSQL."""
    kept = ("LD_LIBRARY_PATH",)  # what Python itself may need to start
    # The programs of the archive command are found whatever PATH is.
    path = ":".join(filter(None, (os.environ.get("PATH"), os.defpath)))
    return {"LC_ALL": "C", "PATH": path} | {
        name: os.environ[name] for name in kept if name in os.environ
    }


def find_processes(marker: str, data_folder: Path) -> list[int]:
    """Return the ids of live PostgreSQL processes that have the marker or run in the folder.

    An entry of `postmaster.pid` proves nothing: its process may be a zombie, or another program's.
    Nor does a name prove anything of a process of another user, who may give it any.
    """
    owners = {os.geteuid()}
    with suppress(OSError):
        owners.add((data_folder / "postgres").stat().st_uid)
    return [
        pid
        for pid, owner, name, command in _live_processes()
        if owner in owners
        and _OWN_NAME.search(name)
        and (marker in command or _works_in(pid, data_folder))
    ]


async def end_processes(
    find: Callable[[], Sequence[int]],
    signals: Sequence[tuple[signal.Signals, float]] = _SHUTDOWNS,
) -> bool:
    """Send one signal after the other to what `find` returns; return whether all processes ended.

    With each signal come the seconds that it is given. A postmaster ends its processes itself. The
    signals have other meanings for them: by SIGINT, the checkpointer of PostgreSQL 18 ends before
    those that still write.
    """
    for number, timeout in signals:
        pids = find()
        for pid in pids:
            if number is not signal.SIGKILL and _find_parent(pid) in pids:
                continue
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if await wait_until(lambda: not find(), timeout, interval=0.01):
            return True
    return False


class _LogForwarder(asyncio.Protocol):
    """Writes each line of PostgreSQL's standard error into our log."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.last: deque[str] = deque(maxlen=5)
        self._rest = b""
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MAX_LINE:]
        for line in lines:
            self._take(line)

    def connection_lost(self, exc: Exception | None) -> None:
        self._take(self._rest)
        if not self.ended.done():
            self.ended.set_result(None)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _take(self, line: bytes) -> None:
        text = line.decode(errors="replace").strip()
        if text:
            self.last.append(text)
            severity, colon, words = text.partition(":")
            level = _SEVERITIES.get(severity.rstrip("12345")) if colon else None
            if level is None:
                level, words = logging.WARNING, text
            elif words.strip() == _CLIENT_ENDED:
                level = logging.INFO
            _logger.log(level, "%s", words.strip())


async def _spawn(
    command: Sequence[str],
    account: UnixUser | None,
    stderr: int,
    niceness: int = 0,
    environment: Mapping[str, str] | None = None,
    *,
    stdin: int = DEVNULL,
    stdout: int = DEVNULL,
    in_namespace: bool = False,
) -> Process:
    # In a session of its own, so that Ctrl-C in a terminal signals taskapp only, and PostgreSQL
    # outlives requests in flight.
    uid, gid = account or (0, 0)
    numbers = map(str, (os.getpid(), uid, gid, niceness, int(in_namespace)))
    return await asyncio.create_subprocess_exec(
        *_LAUNCHER,
        *numbers,
        *command,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        cwd="/",
        env=clean_environment() | dict(environment or {}),
        start_new_session=True,
    )


def _live_processes() -> Iterator[tuple[int, int, str, str]]:
    """Yield the id, the user, the name or path, and the command line of each; a zombie has none."""
    if Path("/proc/self/cmdline").exists():
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and (command := _read(entry / "cmdline")):
                user = _USER.search(_read(entry / "status"))
                if user:
                    yield int(entry.name), int(user[1]), command.split("\0")[0], command
    else:
        listing = ["ps", "-axww", "-o", "pid=,uid=,command="]
        try:
            output = subprocess.run(listing, capture_output=True, text=True, check=True).stdout  # noqa: S603  # fixed words
        except (OSError, subprocess.CalledProcessError) as error:
            raise OSError("/proc is not mounted, by which its processes are found") from error
        for line in output.splitlines():
            pid, uid, command = line.split(maxsplit=2)
            yield int(pid), int(uid), command, command


def _find_parent(pid: int) -> int | None:
    """Return the id of the process that started this one; None where /proc does not tell."""
    parent = _PARENT.search(_read(Path(f"/proc/{pid}/status")))
    return int(parent[1]) if parent else None


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="replace")
    except OSError:  # the process has ended
        return ""


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(f"/proc/{pid}/cwd").readlink().parent == folder
    except OSError:
        return False
