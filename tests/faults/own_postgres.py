"""An operator's own PostgreSQL, which tests kill and restart."""

import asyncio
import os
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import psycopg2

from taskapp.postgres.programs import preferred_programs
from taskapp.postgres.server import embedded_postgres
from tests.support.database_fixtures import execute
from tests.support.server_process import (
    LONG_ENOUGH,
    new_data_folder,
    postgres_processes,
    wait_until,
)


class OwnPostgres:
    """A cluster in a folder; its server is a child of this process."""

    def __init__(self, folder: Path, primary: "OwnPostgres | None" = None) -> None:
        """Create the cluster, or a standby of another, without starting it."""
        self.folder = folder
        if primary:
            _copy_cluster(primary, folder)
        else:
            asyncio.run(_make_cluster(folder))
        self.socket = folder / "socket" / ".s.PGSQL.5432"
        self.url = f"postgresql://taskapp@/postgres?host={quote(str(self.socket.parent), safe='')}"
        self._process: subprocess.Popen[bytes] | None = None
        self._killed = 0  # the backend that was killed last

    def start(
        self, settings: dict[str, str] | None = None, environment: dict[str, str] | None = None
    ) -> None:
        """Start the server, and wait until it accepts connections."""
        cluster = self.folder / "postgres"
        where = ["-D", str(cluster), "-h", "", "-k", str(self.socket.parent)]
        options = [part for item in (settings or {}).items() for part in ("-c", "=".join(item))]
        self._process = subprocess.Popen(
            [str(preferred_programs(None).path("postgres")), *where, *options],
            user=cluster.stat().st_uid if os.geteuid() == 0 else None,
            env=os.environ | (environment or {}),
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self.responses)

    def responses(self) -> bool:
        with suppress(psycopg2.OperationalError):
            return bool(execute(self.url, "SELECT 1"))
        return False

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Shut the server down: fast by default, immediate with SIGQUIT, smart with SIGTERM."""
        if self._process:
            self._process.send_signal(how)
            self._process.wait(LONG_ENOUGH)
            self._process = None

    def kill(self) -> None:
        """Kill every process of the server at once, like a power cut."""
        assert self._process
        self._process.kill()
        for pid in postgres_processes(self.folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait(LONG_ENOUGH)
        self._process = None
        wait_until(lambda: not postgres_processes(self.folder))

    def kill_backend(self, chance: random.Random, number: signal.Signals) -> None:
        """Send a signal to one of the processes that serve taskapp."""
        wait_until(lambda: bool(backends_of(self.url)))
        self._killed = chance.choice(backends_of(self.url))
        os.kill(self._killed, number)

    def wait_until_recovered(self) -> None:
        """Wait until the server has noticed the killed backend, and accepts connections again.

        It accepts connections until it notices, and then closes all others.
        """
        wait_until(lambda: not Path(f"/proc/{self._killed}").exists())
        wait_until(self.responses)


def backends_of(url: str) -> list[int]:
    """List the processes of a server that serve taskapp."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'taskapp'"
    return [pid for (pid,) in execute(url, query)]


async def _make_cluster(folder: Path) -> None:
    async with embedded_postgres(folder):
        pass


def _copy_cluster(primary: OwnPostgres, folder: Path) -> None:
    """Copy a running cluster to a folder, as a standby that follows it."""
    owner = (primary.folder / "postgres").stat().st_uid
    folder.parent.chmod(0o711)  # for an owner who is not root
    for path in (folder, folder / "postgres", folder / "socket"):
        path.mkdir(mode=0o700)
        os.chown(path, owner, -1)
    subprocess.run(
        [
            *(preferred_programs(None).path("pg_basebackup"), "--write-recovery-conf", "--no-sync"),
            *("--checkpoint=fast", "--pgdata", folder / "postgres"),
            *("--dbname", f"{primary.url}&application_name=standby"),
        ],
        user=owner if os.geteuid() == 0 else None,
        cwd="/",
        check=True,
        capture_output=True,
    )


@contextmanager
def own_postgres(
    settings: dict[str, str] | None = None, environment: dict[str, str] | None = None
) -> Iterator[OwnPostgres]:
    """Run a PostgreSQL while the block runs."""
    with new_data_folder() as folder:
        postgres = OwnPostgres(folder)
        try:
            postgres.start(settings, environment)
            yield postgres
        finally:
            postgres.stop(signal.SIGQUIT)
