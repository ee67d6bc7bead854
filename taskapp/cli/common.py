"""What the commands share: error messages, JSON, tables.

Results go to standard output; a failure is one plain sentence on standard error.
"""

import functools
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import IO, Any, ParamSpec, TypeVar

import click

from taskapp.config.settings import SettingsError
from taskapp.core.errors import Invalid, OperatorError, TaskappError
from taskapp.core.printable import printable

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object per line."
)
EPILOG = "Exit codes: 0 success; 1 failure; 2 wrong usage or wrong settings."

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
    """Convert every error of taskapp that a command raises to a message and an exit code.

    With `--json`, the message is also printed as an object.
    """

    @functools.wraps(command)
    def run(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        try:
            return command(*args, **kwargs)
        except (CliError, SettingsError, OperatorError, TaskappError) as error:
            failure = _failure(error)
            if kwargs.get("as_json"):
                echo_json(problem=failure.message)
            if failure is error:
                raise
            raise failure from error

    return run


def _failure(error: CliError | SettingsError | OperatorError | TaskappError) -> CliError:
    if isinstance(error, CliError):
        return error
    if isinstance(error, SettingsError):
        return WrongSettings("\n".join(error.problems))
    if isinstance(error, Invalid):
        names = {"email": "Email address", "password": "Password"}
        lines = (f"{names.get(name, name)}: {text}" for name, text in error.errors.items())
        return CliError("\n".join(lines))
    return CliError(str(error))


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
