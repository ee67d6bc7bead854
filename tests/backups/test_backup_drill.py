"""The drill: clients write, the database is destroyed, and one second of it is restored.

What was acknowledged before that second is there, what was sent after it is not. The check itself
is proven by a restore to an earlier time, which it has to notice.
"""

import shutil
import signal
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from time import sleep

import pytest

from tests.support.backup_tools import Instance
from tests.support.database_fixtures import execute
from tests.support.server_process import (
    LONG_ENOUGH,
    Client,
    ServerProcess,
    new_data_folder,
    postgres_processes,
    server_process,
    wait_until,
)

ENOUGH = 20  # writes of each client between two events


@dataclass
class Writes:
    """What one client wrote: a known sequence, with the times before and after each."""

    client: Client
    sent: dict[str, datetime] = field(default_factory=dict)
    acknowledged: dict[str, datetime] = field(default_factory=dict)

    def write(self, stopped: threading.Event) -> None:
        while not stopped.is_set():
            title = f"task {len(self.sent)}"
            self.sent[title] = datetime.now(UTC)
            response = self.client.send("POST", "/api/tasks", {"title": title})
            assert response.status == 201, response.body
            self.acknowledged[title] = datetime.now(UTC)
            sleep(0.01)

    def check(self, found: set[str], timestamp: datetime) -> None:
        """Check that it is what was there at that time."""
        before = {title for title, at in self.acknowledged.items() if at <= timestamp}
        after = {title for title, at in self.sent.items() if at > timestamp}
        assert len(before) >= 2 * ENOUGH
        assert len(after) >= ENOUGH - 1  # one may have been on its way
        assert before <= found, f"missing: {before - found}"
        assert not after & found, f"from later: {after & found}"


def command(folder: Path, *arguments: str) -> str:
    """Run a command to its end, and return what it says."""
    settings = {"TASKAPP_LOG_LEVEL": "warning"}
    with server_process(folder, *arguments, settings=settings) as process:
        assert process.process.wait(LONG_ENOUGH) == 0, process.log_text
        return process.said + process.log_text


def archive_all(folder: Path) -> None:
    """Have what was written archived now, as PostgreSQL does after a minute at most."""
    url = f"postgresql://taskapp@/postgres?host={folder / 'socket'}"
    ((name,),) = execute(url, "SELECT pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: any((folder / "backups").glob(f"wal-*/{name}.gz")))


def write_and_destroy(server: ServerProcess, folder: Path) -> tuple[list[Writes], datetime]:
    """Write, back up meanwhile, write on past a time, and lose the database."""
    writes = [Writes(server.client().sign_up(f"{name}@example.com")) for name in ("alice", "bob")]
    stopped = threading.Event()
    threads = [threading.Thread(target=each.write, args=[stopped]) for each in writes]
    for thread in threads:
        thread.start()
    try:
        wait_for_more(writes)
        command(folder, "backup")
        wait_for_more(writes)
        timestamp = datetime.now(UTC)
        wait_for_more(writes)
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
    archive_all(folder)
    server.end(signal.SIGKILL)
    return writes, timestamp


def wait_for_more(writes: list[Writes]) -> None:
    """Wait until each client has written some more."""
    wanted = [len(each.acknowledged) + ENOUGH for each in writes]
    wait_until(lambda: all(len(w.acknowledged) >= n for w, n in zip(writes, wanted, strict=True)))


def destroy(folder: Path) -> None:
    """Remove the database, when the last process of a killed server has gone."""
    wait_until(lambda: not postgres_processes(folder))
    shutil.rmtree(folder / "postgres")


def found_by(writes: Writes, server: ServerProcess) -> set[str]:
    client = server.client()
    client.log_in(writes.client.email)
    return set(client.titles())


def test_the_drill() -> None:
    with new_data_folder() as folder:
        with server_process(folder) as server:
            writes, timestamp = write_and_destroy(server.wait_until_ready(), folder)
        destroy(folder)
        said = command(folder, "restore", "--to", timestamp.isoformat(sep=" "))
        assert said.startswith(
            f"Restored {timestamp:%Y-%m-%d %H:%M:%S} UTC.\nIt holds 2 accounts and "
        )
        with server_process(folder) as server:
            server.wait_until_ready()
            for each in writes:
                each.check(found_by(each, server), timestamp)
                old = each.client.moved_to(server.address)
                assert old.status("/api/tasks") == 401
                old.close()
            assert server.end() == 0

        # The negative control: what is lost is noticed.
        (backup,) = Instance(folder).backups
        command(folder, "restore", "--backup", backup.name)
        with server_process(folder) as server:
            server.wait_until_ready()
            with pytest.raises(AssertionError, match="missing"):
                writes[0].check(found_by(writes[0], server), timestamp)
