"""The commands for whoever runs taskapp: accounts, migrations, settings, and what is wrong.

Results go to standard output; a failure is one plain sentence on standard error.
"""

import asyncio
import functools
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import click

from taskapp.backups.repository import BackupError
from taskapp.config.settings import (
    PREFIX,
    Settings,
    SettingsError,
    describe_settings,
    load_settings,
)
from taskapp.core.errors import Invalid, TaskappError
from taskapp.db.migrations import HEAD, MigrationError, NewerDatabaseError
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.doctor.checks import run_checks
from taskapp.forms.fields import FieldError, normalize_email
from taskapp.observability.logs import configure_logging
from taskapp.operations.accounts import add_user, purge_sessions, remove_user, set_password
from taskapp.postgres.server import DataFolderInUse, EmbeddedPostgresError
from taskapp.queries.users import User, list_users
from taskapp.runtime.database_server import (
    MigrationResult,
    OlderDatabaseError,
    database_server,
    prepare_database,
    require_prepared_database,
)
from taskapp.runtime.listeners import ListenError
from taskapp.runtime.startup import install_loop_error_handler
from taskapp.services import Services, make_services

EPILOG = "Exit codes: 0 success; 1 failure; 2 wrong usage or wrong settings."
MAX_PASSWORD_LINE = 64 * 1024  # bytes of a password line; what may be accepted is far shorter
_COLORS = {Level.OK: "green", Level.WARNING: "yellow", Level.PROBLEM: "red"}
_REPORTED_ERRORS = (
    BackupError,
    DataFolderInUse,
    EmbeddedPostgresError,
    ListenError,
    MigrationError,
    NewerDatabaseError,
    OlderDatabaseError,
    TaskappError,
)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


class CliError(click.ClickException):
    """A command failed; the message is all there is to say."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message as it is, by default to standard error."""
        click.echo(self.format_message(), file=file, err=True)


class WrongSettings(CliError):
    """The settings are wrong: the message has a line for each that is."""

    exit_code = 2


def report_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Make every error of ours that leaves a command a plain sentence and an exit code."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            raise WrongSettings("\n".join(error.problems)) from error
        except Invalid as error:
            names = {"email": "E-mail address", "password": "Password"}
            raise CliError(
                "\n".join(f"{names.get(name, name)}: {text}" for name, text in error.errors.items())
            ) from error
        except _REPORTED_ERRORS as error:
            raise CliError(str(error)) from error

    return run


def read_settings(**changes: str | None) -> Settings:
    """Read the settings from the environment, and from a `.env` file in the working directory.

    What the environment says wins, and a change of a variable that is not None over both.

    Raises:
        SettingsError: one or more are wrong; it lists all of them at once.
    """
    from_file = _read_env_file(Path(".env"))
    changed = {name: text for name, text in changes.items() if text is not None}
    return load_settings({**_without_overridden(from_file), **os.environ, **changed})


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        if not path.is_file():
            return {}
        from dotenv.parser import parse_stream  # noqa: PLC0415  # few have such a file

        with path.open(encoding="utf-8") as file:
            bindings = list(parse_stream(file))
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError([f"The file {path} cannot be read: {error}"]) from error
    values = {binding.key or "": binding.value for binding in bindings}
    lines = [binding.original.line for binding in bindings if binding.error]
    problems = [f"The file {path}: line {line} is not NAME=value" for line in lines]
    problems += [
        f"The file {path}: {name} has no value"
        for name, value in values.items()
        if name.startswith(PREFIX) and value is None
    ]
    if problems:
        raise SettingsError(problems)
    return {name: value for name, value in values.items() if value is not None}


def _without_overridden(values: dict[str, str]) -> dict[str, str]:
    """Drop what the environment sets, be it as NAME or as NAME_FILE."""
    return {
        name: value
        for name, value in values.items()
        if not {name.removesuffix("_FILE"), f"{name.removesuffix('_FILE')}_FILE"} & {*os.environ}
    }


def load_cli_settings() -> Settings:
    """Read the settings, and log only what somebody at a terminal needs, unless asked for more.

    Raises SettingsError.
    """
    settings = read_settings()
    level = "warning" if settings.log_level == "info" else settings.log_level
    form = "text" if settings.log_format == "auto" else settings.log_format
    configure_logging(replace(settings, log_level=level, log_format=form))
    if level != "debug":
        # What PostgreSQL says matters to a server; the error of a command holds its last words.
        logging.getLogger("taskapp.postgresql").setLevel(logging.CRITICAL)
    return settings


def _run(settings: Settings, work: Callable[[Services], Awaitable[Result]]) -> Result:
    """Do something with the services, beside a running server or without one."""

    async def run() -> Result:
        install_loop_error_handler()
        async with database_server(settings, share=True) as url:
            await require_prepared_database(settings, url)
            services = make_services(settings)
            try:
                await services.database.open(url)
                return await work(services)
            finally:
                await services.database.close()
                services.passwords.close()

    return asyncio.run(run())


@click.command("migrate", epilog=EPILOG)
@report_errors
def migrate() -> None:
    """Bring the database to this version of taskapp.

    The server does the same when it starts. An embedded database that holds accounts is backed up
    first, into the folder `backups` of the data folder.
    """
    settings = load_cli_settings()

    async def run() -> MigrationResult:
        async with database_server(settings, share=True) as url:
            return await prepare_database(settings, url)

    done = asyncio.run(run())
    if not done.migrated:
        click.echo(f"The database is at revision {HEAD} already.")
        return
    if done.backup:
        click.echo(f"Backed the database up to {done.backup}.")
    click.echo(f"Migrated the database to revision {HEAD}.")


@click.command("settings", epilog=EPILOG)
@report_errors
def show_settings() -> None:
    """List all settings; secrets are masked.

    Set them as environment variables, or in a file `.env` in the working directory. A secret may
    stand in a file that NAME_FILE names.
    """
    rows = [
        (name, value or "-", meaning) for name, value, meaning in describe_settings(read_settings())
    ]
    click.echo(table(rows))


def _normal_email(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return normalize_email(value)
    except FieldError as refusal:
        raise click.BadParameter(str(refusal)) from refusal


_email_argument = click.argument("email", callback=_normal_email)


@click.group("user", epilog=EPILOG)
def user() -> None:
    """Add, list and delete accounts, and set their passwords."""


@user.command("add", epilog=EPILOG)
@_email_argument
@report_errors
def add(email: str) -> None:
    """Make an account; also where registration is closed.

    The password is asked for, or read as one line from standard input.
    """
    settings = load_cli_settings()
    password = _read_password()
    _run(settings, lambda services: add_user(services, email, password))
    click.echo(f"Added {email}.")


@user.command("set-password", epilog=EPILOG)
@_email_argument
@report_errors
def change_password(email: str) -> None:
    """Set the password of an account, end its sessions and revoke its API tokens.

    The password is asked for, or read as one line from standard input.
    """
    settings = load_cli_settings()
    password = _read_password()
    ended = _run(settings, lambda services: set_password(services, email, password))
    click.echo(
        f"Set the password of {email}, ended {pluralize(ended.sessions, 'session')}"
        f" and revoked {pluralize(ended.tokens, 'API token')}."
    )


@user.command("list", epilog=EPILOG)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@report_errors
def show_users(*, as_json: bool) -> None:
    """List all accounts by their addresses."""
    users = _run(load_cli_settings(), lambda services: list_users(services.database))
    if as_json:
        for account in users:
            click.echo(_as_json(account))
    else:
        rows = [(account.email, account.created_at, account.user_id) for account in users]
        click.echo(table([("E-MAIL", "CREATED", "ID"), *rows]))


@user.command("delete", epilog=EPILOG)
@_email_argument
@click.option("--yes", is_flag=True, help="Do not ask.")
@report_errors
def delete(email: str, *, yes: bool) -> None:
    """Delete an account with all of its tasks."""
    settings = load_cli_settings()
    if not yes:
        click.confirm(f"Delete {email} with all tasks, for ever?", abort=True, err=True)
    _run(settings, lambda services: remove_user(services, email))
    click.echo(f"Deleted {email} with all tasks.")


@click.group("sessions", epilog=EPILOG)
def sessions() -> None:
    """Look after sessions."""


@sessions.command("purge", epilog=EPILOG)
@report_errors
def purge() -> None:
    """Delete the sessions and API tokens that have ended; the server does so every hour."""
    count = _run(load_cli_settings(), purge_sessions)
    click.echo(f"Deleted {pluralize(count, 'session')} that had ended.")


@click.command("doctor", epilog=EPILOG)
@click.pass_context
@report_errors
def doctor(context: click.Context) -> None:
    """Say what is right, what is wrong, and the fix.

    The exit code is 1 when something fails; warnings alone leave it at 0.
    """
    findings = asyncio.run(run_checks(load_cli_settings()))
    for finding in findings:
        click.echo(_describe(finding))
    levels = [finding.level for finding in findings]
    problems, warnings = levels.count(Level.PROBLEM), levels.count(Level.WARNING)
    click.echo(f"\n{pluralize(problems, 'problem')}, {pluralize(warnings, 'warning')}.")
    context.exit(1 if problems else 0)


COMMANDS: Sequence[click.Command] = (migrate, show_settings, user, sessions, doctor)


def _read_password() -> str:
    """Ask twice at a terminal; else read one line, exactly as it is but for its end."""
    if sys.stdin is not None and sys.stdin.isatty():
        prompted: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt="The same again", err=True
        )
        return prompted
    line = sys.stdin.buffer.readline(MAX_PASSWORD_LINE) if sys.stdin is not None else b""
    if not line:
        raise CliError("Give the password as one line on standard input, or run at a terminal.")
    end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
    try:
        return line.removesuffix(end).decode("utf-8")
    except UnicodeDecodeError:
        raise CliError("The password on standard input is not UTF-8.") from None


def _as_json(account: User) -> str:
    return json.dumps(
        {"id": account.user_id, "email": account.email, "createdAt": account.created_at},
        ensure_ascii=False,
    )


def table(rows: Sequence[tuple[str, str, str]]) -> str:
    """Set rows of three in columns, the last one as long as it may be."""
    first, second = (max(len(row[column]) for row in rows) for column in (0, 1))
    return "\n".join(f"{one:{first}}  {two:{second}}  {three}" for one, two, three in rows)


def _describe(finding: CheckResult) -> str:
    label = click.style(f"{finding.level.value:4}", fg=_COLORS.get(finding.level))
    line = f"{label}  {finding.subject:12}  {finding.text}"
    return f"{line}\n{'':20}{finding.fix}" if finding.fix else line


def pluralize(number: int, noun: str) -> str:
    """Say how many there are, in words such as "2 sessions"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
