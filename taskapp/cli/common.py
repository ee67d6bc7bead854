"""What the commands share: settings, error messages, the services, tables.

Results go to standard output; a failure is one plain sentence on standard error.
"""

import asyncio
import functools
import json
import logging
import os
import stat
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, ParamSpec, TypeVar

import click

from taskapp.backups.repository import BackupError
from taskapp.config.settings import (
    PREFIX,
    Settings,
    SettingsError,
    load_settings,
    without_service_links,
)
from taskapp.core.errors import Invalid, TaskappError
from taskapp.db.migrations import MigrationError, NewerDatabaseError
from taskapp.observability.logs import configure_logging, printable
from taskapp.postgres.programs import EmbeddedPostgresError
from taskapp.postgres.server import DataFolderInUse
from taskapp.runtime.database_server import (
    OlderDatabaseError,
    database_server,
    require_prepared_database,
)
from taskapp.runtime.listeners import ListenError
from taskapp.runtime.startup import install_loop_error_handler
from taskapp.services import Services, make_services

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line."
)
EPILOG = "Exit codes: 0 success; 1 failure; 2 wrong usage or wrong settings."
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
    """A command failed; the message says all that the user needs."""

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message without click's "Error: ", by default to standard error."""
        with suppress(OSError):  # the exit code tells it too
            click.echo(self.format_message(), file=file, err=True)


class WrongSettings(CliError):
    """Settings are wrong; the message has a line for each."""

    exit_code = 2


def report_errors(command: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Convert every error of taskapp that a command raises to a message and an exit code."""

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except SettingsError as error:
            raise WrongSettings("\n".join(error.problems)) from error
        except Invalid as error:
            names = {"email": "Email address", "password": "Password"}
            raise CliError(
                "\n".join(f"{names.get(name, name)}: {text}" for name, text in error.errors.items())
            ) from error
        except _REPORTED_ERRORS as error:
            raise CliError(str(error)) from error

    return run


def read_settings() -> Settings:
    """Return the settings of the environment and of a `.env` file in the working directory.

    The environment overrides the file.

    Raises:
        SettingsError: one or more are wrong; it lists all of them.
    """
    environment = without_service_links(os.environ)
    from_file = _read_env_file(Path(".env"))
    return load_settings({**_without_overridden(from_file, environment), **environment})


def _read_env_file(path: Path) -> dict[str, str]:
    try:
        # Unlike Path.is_file before Python 3.14, this passes over a folder that cannot be searched.
        if not os.path.isfile(path):  # noqa: PTH113  # see above
            return {}
        from dotenv.parser import parse_stream  # noqa: PLC0415  # few have such a file

        with path.open(encoding="utf-8") as file:
            _require_own(path.lstat(), path)
            _require_own(os.fstat(file.fileno()), path)
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


def _require_own(status: os.stat_result, path: Path) -> None:
    """Reject a file of settings that another user has written, or may write.

    Raises:
        SettingsError: it is not safe to use.
    """
    if status.st_uid not in {0, os.geteuid()}:
        owner = f"it belongs to user {status.st_uid}. Delete it, or run this in another folder."
        raise SettingsError([f"The file {path} is not safe to use: {owner}"])
    is_link = stat.S_ISLNK(status.st_mode)  # whose mode means nothing
    if not is_link and status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise SettingsError(
            [f"The file {path} is not safe to use: others may write it. Run `chmod go-w {path}`."]
        )


def _without_overridden(values: dict[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that the environment does not set, as NAME or as NAME_FILE."""
    return {
        name: value
        for name, value in values.items()
        if not {name.removesuffix("_FILE"), f"{name.removesuffix('_FILE')}_FILE"} & {*environment}
    }


def load_cli_settings() -> Settings:
    """Return the settings, and configure the log to show warnings only unless they ask for more.

    Raises:
        SettingsError: one or more are wrong.
    """
    settings = read_settings()
    level = "warning" if settings.log_level == "info" else settings.log_level
    form = "text" if settings.log_format == "auto" else settings.log_format
    configure_logging(replace(settings, log_level=level, log_format=form))
    if level != "debug":
        # A command's error message includes the last lines of PostgreSQL's log.
        logging.getLogger("taskapp.postgresql").setLevel(logging.CRITICAL)
    return settings


def run_with_services(settings: Settings, work: Callable[[Services], Awaitable[Result]]) -> Result:
    """Run `work` with opened services, beside a running server or without one."""

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


def echo_json(**members: object) -> None:
    """Print an object as one line of ASCII, which any locale can print and any path can be in."""
    click.echo(json.dumps(members))


def table(rows: Sequence[tuple[str, ...]]) -> str:
    """Return rows in aligned columns; the last column may have any length.

    What a terminal would take for a command, such as in the name of a folder, is escaped.
    """
    from wcwidth import ljust, width  # noqa: PLC0415  # 20 ms that the start need not take

    rows = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(width, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(ljust, row, widths)).rstrip() for row in rows)


def pluralize(number: int, noun: str) -> str:
    """Return a number with its noun, such as "2 sessions"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
