"""A dump: one moment of a PostgreSQL of any kind, by `pg_dump`, and how it becomes a database."""

import asyncio
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime

from taskapp.backups.contents import read_database, read_revision, read_tables, snapshot
from taskapp.backups.folder import Backup, BackupError, BackupFolder, describe
from taskapp.connections import is_local, without_password
from taskapp.postgres_cluster import program
from taskapp.postgres_process import run_program

FILE = "database.dump"
NICENESS = 10  # of programs that read or write a whole database beside a server
_RESTORE_OPTIONS = (
    *("--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges"),
    *("--format=custom",),
)


async def make_dump(folder: BackupFolder, url: str, label: str = "dump") -> Backup:
    """Dump a database as it is at one moment, with what it holds then. Hold the lock meanwhile.

    Raises:
        BackupError: pg_dump fails.
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
        OSError: the folder cannot be written to.
    """
    with folder.draft(label) as draft, ExitStack() as stack:
        connection, seen = await asyncio.to_thread(stack.enter_context, snapshot(url))
        moment = datetime.now(UTC)
        (draft / FILE).touch(mode=0o600)
        await _run_tool(
            "pg_dump", url, "--format=custom", f"--snapshot={seen}", f"--file={draft / FILE}"
        )
        database = await asyncio.to_thread(read_database, connection)
        tables = await asyncio.to_thread(read_tables, connection)
        revision = await asyncio.to_thread(read_revision, connection, tables)
        await asyncio.to_thread(
            describe,
            draft,
            kind="dump",
            moment=moment,
            database=database,
            revision=revision,
            tables=tables,
        )
    return folder.list_backups()[0]


async def restore_dump(backup: Backup, url: str) -> None:
    """Put a dump into an empty database, all of it or nothing; raise BackupError."""
    await _run_tool("pg_restore", url, *_RESTORE_OPTIONS, str(backup.path / FILE))


async def _run_tool(name: str, url: str, *options: str) -> None:
    """Run a program on a database; the password goes where nobody can read it in a list."""
    address, password = without_password(url)
    environment = _libpq_environment() | ({"PGPASSWORD": password} if password else {})
    complaints = []
    for path in _candidates(name, address):
        command = (path, *options, f"--dbname={address}")
        code, complaint = await run_program(
            command, account=None, niceness=NICENESS, environment=environment
        )
        if code == 0:
            return
        complaints.append(" ".join(complaint.split()) or f"{name} ended with {code}")
    raise BackupError("; ".join(complaints))


def _candidates(name: str, address: str) -> Sequence[str]:
    """Give the shipped program and, first for another machine, the installed one: it has TLS."""
    shipped, installed = str(program(name)), shutil.which(name)
    if installed is None or is_local(address):
        return [shipped]
    return [installed, shipped]


def _libpq_environment() -> dict[str, str]:
    """Give what the pool's connections heed too: passwords, certificates and services in files."""
    return {
        name: value
        for name, value in os.environ.items()
        if name == "HOME" or (name.startswith("PG") and not name.startswith("PGDATA"))
    }
