"""The servers under load: taskapp on a loaded database, and what it has in common with a peer."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg2

from bench.accounts import Account, cookie_header, etag_header, log_in_all, write_accounts
from bench.connection import Connection
from bench.nginx import running_nginx
from bench.processes import ALL_CORES, LOAD_CORES, SERVER_CORES, cpu_seconds, move_database
from bench.scenarios import CREATED, LIST
from bench.servers import load_folders, running_server
from taskapp.postgres.server import EmbeddedPostgres

NAME = "taskapp"
_BROWSER = ["Accept: text/html,application/xhtml+xml", "Accept-Encoding: gzip, deflate, br, zstd"]
_READERS = 10


@dataclass(frozen=True)
class Target:
    """A running server, and its account files for wrk, by kind of header."""

    name: str
    port: int
    pid: int
    database_url: str
    accounts: Mapping[str, Path]
    others: Sequence[int] = ()  # process ids of servers that share the load

    def cpu_seconds(self) -> float:
        """Return the CPU seconds used so far, without PostgreSQL's."""
        return sum(cpu_seconds(pid) for pid in (self.pid, *self.others))

    def postgres_version(self) -> str:
        """Return the version of the database server."""
        with (
            closing(psycopg2.connect(self.database_url)) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SHOW server_version")
            return str(cursor.fetchone()[0])

    def tidy(self) -> None:
        """Delete the tasks that a load created, and vacuum the table."""
        delete_created(self.database_url)


def bearer_file(folder: Path, name: str, accounts: Sequence[Account]) -> Mapping[str, Path]:
    """Write the account file of a target, with API tokens, and return its path by kind."""
    path = folder / f"{name}-bearer.txt"
    return {"bearer": write_accounts(path, accounts, lambda account: [account.bearer])}


class Taskapp:
    """taskapp on a database that is loaded once; each point starts a new server.

    The accounts log in at the first start; their sessions stay valid for later ones.
    """

    def __init__(self, folder: Path, database_url: str, *, users: int, tasks: int) -> None:
        """Load the data into the database, or into an embedded one in the folder.

        Raises:
            CliError: the data cannot be loaded.
        """
        self._folder = folder
        self._data_folder = folder / "taskapp"
        self._settings = {"TASKAPP_DATABASE_URL": database_url} if database_url else {}
        self._database_url = database_url or EmbeddedPostgres(self._data_folder).url
        self._users = count_users(database_url) if database_url else 0
        if not self._users:
            load_folders({self._data_folder: users}, tasks, self._settings)
            self._users = users
        self._accounts: list[Account] = []

    @contextmanager
    def running(
        self,
        accounts: int,
        *,
        cores: Sequence[int] = SERVER_CORES,
        database_cores: Sequence[int] = LOAD_CORES,
    ) -> Iterator[Target]:
        """Serve while the block runs, with `accounts` accounts logged in.

        Raises:
            CliError: the server does not become ready, or a login fails.
        """
        with running_server(self._data_folder, self._settings, cores=cores) as server:
            move_database(server.pid, database_cores)
            if accounts and not self._accounts:
                delete_created(self._database_url)  # created by an interrupted run
                with closing(Connection(server.port)) as connection:
                    self._accounts = log_in_all(connection, self._users, accounts)
            files = bearer_file(self._folder, NAME, self._accounts)
            yield Target(NAME, server.port, server.pid, self._database_url, files)

    @contextmanager
    def several(self, count: int, accounts: int) -> Iterator[Target]:
        """Serve with `count` taskapps on one database behind nginx, all on all cores.

        Raises:
            CliError: a server does not become ready, or a login fails.
        """
        shared = {"TASKAPP_DATABASE_URL": self._database_url}
        with ExitStack() as stack:
            first = stack.enter_context(
                self.running(accounts, cores=ALL_CORES, database_cores=ALL_CORES)
            )
            servers = [
                stack.enter_context(running_server(self._data_folder, shared))
                for _ in range(count - 1)
            ]
            ports = [first.port, *(server.port for server in servers)]
            nginx = stack.enter_context(running_nginx(self._folder, ports))
            yield replace(
                first,
                name=f"{NAME}, {count} behind nginx",
                port=nginx.port,
                others=[nginx.pid, *(server.pid for server in servers)],
            )

    def log_in(self, accounts: int) -> None:
        """Log in `accounts` accounts, unless they are logged in already."""
        if not self._accounts:
            with self.running(accounts):
                pass

    def with_readers(self, target: Target) -> Target:
        """Return the target with accounts for pages, and for requests with the list's ETag."""
        readers = self._accounts[:_READERS]
        pages = write_accounts(
            self._folder / "cookie.txt",
            readers,
            lambda account: [cookie_header(target.port, account), *_BROWSER],
        )
        known = write_accounts(
            self._folder / "known.txt",
            readers,
            lambda account: [account.bearer, etag_header(target.port, account, LIST.path)],
        )
        return replace(target, accounts={**target.accounts, "cookie": pages, "known": known})


def delete_created(database_url: str) -> None:
    """Delete the tasks that loads created, and vacuum the table."""
    with closing(psycopg2.connect(database_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM tasks WHERE title LIKE %s", (f"{CREATED}%",))
            cursor.execute("VACUUM ANALYZE tasks")


def count_users(database_url: str) -> int:
    """Return the number of accounts in a database; 0 if it has no tables yet."""
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT to_regclass('users') IS NOT NULL")
        if not cursor.fetchone()[0]:
            return 0
        cursor.execute("SELECT count(*) FROM users")
        return int(cursor.fetchone()[0])
