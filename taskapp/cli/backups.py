"""The commands that make, list and verify backups, and restore from them."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from taskapp.backups.after_backup import note_command_due, run_due_command
from taskapp.backups.create import make_backup, make_dump_before, read_own_catalog
from taskapp.backups.recovery import format_utc
from taskapp.backups.repository import Backup, BackupError
from taskapp.backups.restore import RestoreResult, restore_embedded, restore_own
from taskapp.backups.unmounted_disk import forget_location
from taskapp.backups.verify import verify_backup
from taskapp.cli.common import EPILOG, echo_json, json_option, pluralize, report_errors, table
from taskapp.cli.progress import shown_progress
from taskapp.cli.services import load_cli_settings
from taskapp.core.printable import printable
from taskapp.core.units import format_size
from taskapp.runtime.database_server import database_server, require_prepared_database


class _Timestamp(click.ParamType[datetime]):
    """A date with a time, in UTC where no offset is given."""

    name = "time"

    def convert(
        self, value: str, _parameter: click.Parameter | None, _context: click.Context | None
    ) -> datetime:
        try:
            timestamp = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f'"{value}" is no time such as "2026-11-23 10:00" or 2026-11-23T11:00+01:00')
        return timestamp if timestamp.tzinfo else timestamp.replace(tzinfo=UTC)


@click.group("backup", invoke_without_command=True, epilog=EPILOG)
@click.option("--init", is_flag=True, help="Begin on a new disk, in place of the one before.")
@click.option("--dump", is_flag=True, help="A dump of the embedded database, for an upgrade.")
@click.pass_context
@report_errors
def backup(context: click.Context, *, init: bool, dump: bool) -> None:
    """Back the database up now; the server does so by itself once a day.

    The server may run. Of the embedded PostgreSQL, every second from then on can be restored; a
    PostgreSQL of your own is dumped as it is at that time. --dump makes what the PostgreSQL of a
    later major version takes back, by `restore --backup`.
    """
    if context.invoked_subcommand is not None:
        return
    settings = load_cli_settings()
    if init:
        forget_location(settings.data_dir)

    async def run() -> Backup | None:
        async with database_server(settings, share=True) as url:
            await require_prepared_database(settings, url)
            if dump and settings.uses_embedded_database:
                made = await make_dump_before(settings, url, "upgrade")
                note_command_due(settings, made)
                return made
            return await make_backup(settings, url)

    with shown_progress():
        made = asyncio.run(run())
    if made:
        click.echo(f"Made {made.path}, {format_size(made.bytes)}.")
    with shown_progress():
        has_run = asyncio.run(run_due_command(settings, waits=True))
    if has_run:
        click.echo("TASKAPP_BACKUP_COMMAND has run.")


@backup.command("list", epilog=EPILOG)
@json_option
@report_errors
def show_backups(*, as_json: bool) -> None:
    """List the backups, the newest first, with those of other databases in the same folder."""
    catalog = read_own_catalog(load_cli_settings())
    if as_json:
        for found in catalog.all:
            _echo_backup(found, is_own=found.database == catalog.database)
    else:
        rows = [
            (
                found.name,
                format_utc(found.timestamp),
                "this one" if found.database == catalog.database else found.database,
                _contents(found),
            )
            for found in catalog.all
        ]
        click.echo(table([("NAME", "STATE OF", "DATABASE", "CONTENTS"), *rows]))
    _warn(catalog.problems())


def _echo_backup(found: Backup, *, is_own: bool) -> None:
    echo_json(
        name=found.name,
        path=str(found.path),
        kind=found.kind,
        timestamp=found.timestamp.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        database=found.database,
        isOwn=is_own,
        rows={name: rows for name, (rows, _) in found.tables.items()},
        bytes=found.bytes,
    )


@backup.command("verify", epilog=EPILOG)
@click.argument("name", default="")
@json_option
@click.pass_context
@report_errors
def verify(context: click.Context, name: str, *, as_json: bool) -> None:
    """Start a backup aside, and compare what it holds with what the database held.

    Without a NAME it is the newest. The archive that follows it is read too. The server may run.
    """
    settings = load_cli_settings()
    try:
        with shown_progress(), _disk_errors_told("verification"):
            verified = asyncio.run(verify_backup(settings, name))
    except BackupError as error:
        if not as_json:
            raise
        echo_json(isGood=False, problem=str(error))
        context.exit(1)
    found = verified.backup
    if as_json:
        echo_json(
            isGood=True,
            isStarted=verified.is_started,
            name=found.name,
            rows=verified.rows,
            walSegments=verified.wal_segments,
        )
        return
    how = "it starts, and holds" if verified.is_started else "its dump holds"
    click.echo(
        f"{found.path} is good: {how} the {verified.rows:,} rows of "
        f"{format_utc(found.timestamp)}, each as it was."
    )
    if not verified.is_started:
        click.echo(f"It was not started: PostgreSQL {found.postgresql} is not on this machine.")
    if verified.backup.kind == "base":
        segments = verified.wal_segments
        click.echo(
            "The archive was not read: a restore has undone what followed."
            if segments is None
            else f"The archive after it is good: {pluralize(segments, 'file')}."
        )


@click.command("restore", epilog=EPILOG)
@click.option(
    "--to",
    "timestamp",
    type=_Timestamp(),
    help="Restore this time, in UTC or with offset.",
)
@click.option("--backup", "name", default="", help="Restore just this backup of `backup list`.")
@click.option("--database", default="", help="Restore this database of `backup list`.")
@click.option("--replace", is_flag=True, help="Your own PostgreSQL: empty it first.")
@report_errors
def restore(timestamp: datetime | None, name: str, database: str, *, replace: bool) -> None:
    """Restore the database, by default to the last change that is kept.

    The time after --to is in UTC, as in the log, unless it has an offset:

    \b
        --to "2026-11-23 10:00"
        --to 2026-11-23T11:00:00+01:00

    Stop the server first. What was there before is kept aside. Everybody has to log in again,
    and to make new API tokens.
    """  # noqa: D301  # click's mark for lines that stay as they are is the character itself
    settings = load_cli_settings()
    if timestamp and name:
        raise click.UsageError("Say --to or --backup, not both.")
    if database and name:
        raise click.UsageError("Say --database or --backup, not both.")
    if settings.uses_embedded_database:
        if replace:
            raise click.UsageError("--replace is for a PostgreSQL of your own.")
        with shown_progress(), _disk_errors_told("restore"):
            done = asyncio.run(restore_embedded(settings, timestamp, name, database))
    else:
        if timestamp:
            raise click.UsageError(
                "A dump holds one state. Your own PostgreSQL restores others: see docs/backup.md."
            )
        with shown_progress(), _disk_errors_told("restore"):
            done = asyncio.run(restore_own(settings, name, database, replace=replace))
    _tell(done)


@contextmanager
def _disk_errors_told(work: str) -> Iterator[None]:
    """Raise BackupError for what a disk or its rights refuse."""
    try:
        yield
    except OSError as error:
        raise BackupError(f"The {work} failed: {error}.") from error


def _tell(done: RestoreResult) -> None:
    _warn(done.problems)
    wanted = done.timestamp
    click.echo(f"Restored {format_utc(wanted) if wanted else 'everything there is'}.")
    users, tasks = pluralize(done.users, "account"), pluralize(done.tasks, "task")
    last = f"; the last change is of {format_utc(done.last_change)}" if done.last_change else ""
    click.echo(f"It holds {users} and {tasks}{last}.")
    ended = pluralize(done.sessions, "session")
    click.echo(f"Everybody has to log in again, and scripts need new tokens: {ended} ended.")
    if done.aside:
        click.echo(f"What was there before is in {done.aside}; remove it when nobody misses it.")


def _warn(problems: Sequence[str]) -> None:
    for problem in problems:
        click.echo(printable(problem), err=True)


def _contents(found: Backup) -> str:
    parts = [
        pluralize(found.tables[name][0], noun)
        for name, noun in (("users", "account"), ("tasks", "task"))
        if name in found.tables
    ]
    parts.append(format_size(found.bytes))
    if found.kind == "base":
        parts.append(f"PostgreSQL {found.postgresql}{' and a dump' if found.has_dump else ''}")
    return ", ".join(parts)
