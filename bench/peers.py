"""The peers that taskapp is compared with, set up by the run.py of their folder."""

import importlib.util
import os
from argparse import Namespace
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from bench.accounts import log_in_all
from bench.connection import Connection
from bench.processes import SERVER_CORES
from bench.targets import Target, bearer_file
from taskapp.cli.common import CliError

_DATABASE = "taskapp"


class Peers:
    """The folder of the peers, whose script knows their programs, ports and data."""

    def __init__(self, folder: Path, work: Path, users: int) -> None:
        """Load the script of the folder; `work` is what its `run.py setup` has filled.

        Raises:
            CliError: the folder has no run.py, or it cannot be loaded.
        """
        path = folder / "run.py"
        if not path.is_file():
            raise CliError(f"{folder} holds no run.py, so there are no peers.")
        # The script reads these variables when it is imported.
        os.environ |= {"BENCH_WORK": str(work), "BENCH_USERS": str(users)}
        specification = importlib.util.spec_from_file_location("peers_run", path)
        if specification is None or specification.loader is None:
            raise CliError(f"{path} cannot be read.")
        self._script: Any = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(self._script)
        self._work = work
        self._users = users

    def installed(self) -> list[str]:
        """Return the names of the peers that `run.py setup` has installed."""
        has_python = (self._work / "venv" / "bin" / "uvicorn").exists()
        has_node = (self._work / "express" / "node_modules").is_dir()
        return ["express"] * has_node + ["fastapi", "aiopg_fair"] * has_python

    @contextmanager
    def database(self) -> Iterator[str]:
        """Run the shared PostgreSQL with the peers' data; yield the URL of taskapp's database.

        A server that ran before is not stopped.
        """
        was_running = self._script.postmaster() is not None
        self._script.do_pg_start(None)
        try:
            self._script.do_load(None)
            names = self._script.psql("SELECT datname FROM pg_database", "postgres").split()
            if _DATABASE not in names:
                self._script.psql(f"CREATE DATABASE {_DATABASE}", "postgres")
            yield self._script.DATABASE_URL.rpartition("/")[0] + f"/{_DATABASE}"
        finally:
            if not was_running:
                self._script.do_pg_stop(None)

    @contextmanager
    def running(self, name: str, folder: Path, accounts: int) -> Iterator[Target]:
        """Run a peer on the server's core, with `accounts` accounts logged in."""
        options = Namespace(auth="login", profile=None, cleanup="-")
        peer = self._script.Target(name, options)
        try:
            peer.start(",".join(map(str, SERVER_CORES)))
            with closing(Connection(peer.port)) as connection:
                clients = log_in_all(connection, self._users, accounts)
            files = bearer_file(folder, name, clients)
            yield Target(name, peer.port, peer.pid, self._script.DATABASE_URL, files)
        finally:
            peer.stop()
