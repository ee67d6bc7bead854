"""A dump: one state of any PostgreSQL, made by `pg_dump`, and its restore."""

import asyncio
import os
from asyncio import IncompleteReadError
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection

from taskapp.backups.checksums import (
    read_contents,
    read_other_relations,
    read_other_schemas,
    read_schema,
    snapshot,
)
from taskapp.backups.repository import (
    DUMP,
    Backup,
    BackupError,
    BackupRepository,
    describe,
    finished,
    read_backup,
)
from taskapp.core.files import folder_size
from taskapp.core.progress import begin_step
from taskapp.core.threads import entered_in_daemon_thread, run_in_daemon_thread
from taskapp.db.dsn import is_local, split_password
from taskapp.postgres.processes import (
    ProgramError,
    describe_end,
    program_output,
    run_program,
)
from taskapp.postgres.programs import client_programs

NICENESS = 10  # of programs that read or write a whole database beside a server
_SCRIPT_OPTIONS = (
    *("--single-transaction", "--no-owner", "--no-privileges"),
    *("--format=custom", "--file=-"),
)
_PSQL_OPTIONS = ("--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1")
# Scripts of pg_restore begin with the first, which only PostgreSQL 17 and later accept.
_SET_TIMEOUT = b"\nSET transaction_timeout = 0;\n"
_SET_TIMEOUT_IF_KNOWN = (
    b"\nSELECT pg_catalog.set_config(name, '0', false) FROM pg_catalog.pg_settings"
    b" WHERE name = 'transaction_timeout';\n"
)
_BEGINNING = 4096  # bytes
_PIECE = 65536  # bytes

_Script = Callable[[], AsyncGenerator[bytes, None]]


async def make_dump(
    repository: BackupRepository,
    url: str,
    database: str,
    label: str = "dump",
    *,
    bin_folder: Path | None = None,
) -> Backup:
    """Dump a database as it is now, and describe its contents. Call it with the lock held.

    `bin_folder` is the setting.

    Raises:
        BackupError: pg_dump fails.
        EmbeddedPostgresError: there is no pg_dump.
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
        OSError: the folder cannot be written to.
    """
    with repository.staging(label) as staging:
        async with entered_in_daemon_thread(snapshot(url)) as (connection, seen):
            timestamp = datetime.now(UTC)
            exclusions = await run_in_daemon_thread(find_exclusions, connection)
            await dump_snapshot(staging, url, seen, exclusions, bin_folder)
            begin_step("Reading every row")
            contents = await run_in_daemon_thread(read_contents, connection)
            if contents.revision is None:
                raise BackupError(
                    "The database holds no tables of taskapp: there is nothing to keep."
                )
        begin_step("Reading what was dumped", total=folder_size(staging))
        await asyncio.to_thread(
            describe, staging, contents, kind="dump", timestamp=timestamp, database=database
        )
    return read_backup(finished(staging))


def find_exclusions(connection: Connection) -> list[str]:
    """Return the options by which pg_dump leaves out what other programs have in the database.

    taskapp's user may not be allowed to read that, and pg_dump would fail.
    """
    schema = _quoted(read_schema(connection))
    return [
        "-B",  # large objects; the long form has another name from PostgreSQL 16 on
        *(f"--exclude-schema={_quoted(name)}" for name in read_other_schemas(connection)),
        *(f"--exclude-table={schema}.{_quoted(name)}" for name in read_other_relations(connection)),
    ]


async def dump_snapshot(
    staging: Path, url: str, seen: str, exclusions: Sequence[str], bin_folder: Path | None
) -> None:
    """Write what a snapshot sees to a staging folder; raise BackupError."""
    (staging / DUMP).touch(mode=0o600)
    options = (
        *("--format=custom", f"--snapshot={seen}", f"--file={staging / DUMP}"),
        *exclusions,
    )
    begin_step("Dumping the database", measure=lambda: folder_size(staging))
    await _run_on(url, "pg_dump", options, bin_folder)


async def restore_dump(backup: Backup, url: str, bin_folder: Path | None = None) -> None:
    """Restore the dump of a backup into an empty database in one transaction; raise BackupError.

    psql runs pg_restore's script, because a script can be adapted to older servers (ADR 0028).
    """
    archive = str(backup.path / DUMP)
    pg_restore = await _run_first(client_programs("pg_restore", bin_folder), ("--list", archive))
    # Of a schema that is there already, IF NOT EXISTS would need the right to create schemas.
    schema = _quoted(backup.schema)
    literal = schema.replace("'", "''")
    beginning = (
        f"SELECT 'CREATE SCHEMA {literal}' WHERE to_regnamespace('{literal}') IS NULL \\gexec\n"
    ).encode()
    options = (*_SCRIPT_OPTIONS, f"--schema={backup.schema}")
    begin_step("Restoring the dump")
    script = partial(_read_script, (pg_restore, *options, archive), beginning)
    await _run_on(url, "psql", _PSQL_OPTIONS, bin_folder, script)


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


async def _read_script(command: Sequence[str], first: bytes) -> AsyncGenerator[bytes, None]:
    """Yield pg_restore's script in pieces; without its end, a COMMIT, nothing is restored."""
    yield first
    try:
        async with program_output(command, NICENESS) as output:
            try:
                beginning = await output.readexactly(_BEGINNING)
            except IncompleteReadError as whole:
                beginning = whole.partial
            yield beginning.replace(_SET_TIMEOUT, _SET_TIMEOUT_IF_KNOWN, 1)
            while piece := await output.read(_PIECE):
                yield piece
    except ProgramError as error:
        raise BackupError(" ".join(str(error).split())) from error


async def _run_on(
    url: str,
    name: str,
    options: Sequence[str],
    bin_folder: Path | None,
    script: _Script | None = None,
) -> None:
    """Run a program on a database; its password is not shown in a list of processes."""
    address, password = split_password(url)
    environment = _libpq_environment() | ({"PGPASSWORD": password} if password else {})
    paths = client_programs(name, bin_folder, remote=not is_local(address))
    if is_local(address):
        paths = paths[:1]
    await _run_first(paths, (*options, f"--dbname={address}"), environment, script)


async def _run_first(
    paths: Sequence[Path],
    options: Sequence[str],
    environment: Mapping[str, str] | None = None,
    script: _Script | None = None,
) -> str:
    """Run programs until one succeeds, and return its path; raise BackupError."""
    complaints = []
    for path in paths:
        code, complaint = await run_program(
            (str(path), *options),
            account=None,
            niceness=NICENESS,
            environment=environment,
            reads=script() if script else None,
        )
        if code == 0:
            return str(path)
        complaints.append(" ".join(complaint.split()) or f"{path}: {describe_end(code)}")
    raise BackupError("; ".join(complaints))


def _libpq_environment() -> dict[str, str]:
    """Return the variables that libpq reads, as in the pool: passwords, certificates, services.

    With an embedded PostgreSQL none is left (`EmbeddedPostgres.start`).
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name == "HOME" or (name.startswith("PG") and not name.startswith("PGDATA"))
    }
