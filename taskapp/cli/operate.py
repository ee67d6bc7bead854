"""The commands for the installation: migrations, settings and doctor."""

import asyncio

import click

from taskapp.cli.common import (
    EPILOG,
    CliError,
    echo_json,
    json_option,
    pluralize,
    report_errors,
    table,
)
from taskapp.cli.progress import shown_progress
from taskapp.cli.services import load_cli_settings
from taskapp.config.environment import read_settings
from taskapp.config.settings import describe_settings
from taskapp.core.threads import run_in_daemon_thread
from taskapp.db.migrations import HEAD, STOPPED, Revision, describe_newer, read_revision
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.doctor.checks import run_checks
from taskapp.runtime.database_server import MigrationResult, database_server, prepare_database
from taskapp.runtime.startup import install_stop_signals, run_until

_COLORS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}


@click.command("migrate", epilog=EPILOG)
@click.option(
    "--only-compatible",
    is_flag=True,
    help="Refuse if the taskapp that runs now could not use the database afterwards.",
)
@report_errors
def migrate(*, only_compatible: bool) -> None:
    """Migrate the database to this version of taskapp.

    The server does the same when it starts. An embedded database that holds accounts is backed up
    first, into the folder `backups` of the data folder. One that an older major version of
    PostgreSQL made is brought to that of this taskapp.
    """
    settings = load_cli_settings()

    done = MigrationResult(migrated=False)
    revision: Revision | None = None

    async def prepare() -> None:
        nonlocal done, revision
        async with database_server(settings, share=True, upgrades=True) as url:
            done = await prepare_database(settings, url, only_compatible=only_compatible)
            revision = await run_in_daemon_thread(read_revision, url)

    async def prepare_until_stopped() -> bool:
        return await run_until(install_stop_signals(), prepare())

    with shown_progress():
        is_done = asyncio.run(prepare_until_stopped())
    if not is_done:
        raise CliError(f"The migration was stopped. {STOPPED}")
    if revision and revision.number > HEAD:
        click.echo(f"Nothing to migrate: {describe_newer(revision)}.")
        return
    if not done.migrated:
        click.echo(f"The database is already at revision {HEAD}.")
        return
    if done.backup:
        click.echo(f"Backed up the database to {done.backup}.")
    click.echo(f"Migrated the database to revision {HEAD}.")


@click.command("settings", epilog=EPILOG)
@json_option
@report_errors
def show_settings(*, as_json: bool) -> None:
    """List all settings; secrets are masked.

    Set them as environment variables, or in a file `.env` in the working directory. A secret can
    also be read from the file named by NAME_FILE.
    """
    settings = describe_settings(read_settings())
    if as_json:
        for name, value, meaning in settings:
            echo_json(name=name, value=value, meaning=meaning)
    else:
        click.echo(table([(name, value or "-", meaning) for name, value, meaning in settings]))


@click.command("doctor", epilog=EPILOG)
@json_option
@click.pass_context
@report_errors
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check the installation, and suggest fixes.

    The exit code is 1 if a check fails, and 0 if there are only warnings.
    """
    results = asyncio.run(run_checks(load_cli_settings()))
    levels = [result.level for result in results]
    problems, warnings = levels.count(Level.PROBLEM), levels.count(Level.WARNING)
    if as_json:
        for result in results:
            echo_json(
                level=result.level.name.lower(),
                subject=result.subject,
                text=result.text,
                fix=result.fix,
            )
    else:
        for result in results:
            click.echo(_describe(result))
        click.echo(f"\n{pluralize(problems, 'problem')}, {pluralize(warnings, 'warning')}.")
    context.exit(1 if problems else 0)


def _describe(result: CheckResult) -> str:
    label = click.style(f"{result.level.value:4}", fg=_COLORS.get(result.level))
    line = f"{label}  {result.subject:12}  {result.text}"
    return f"{line}\n{'':20}{result.fix}" if result.fix else line
