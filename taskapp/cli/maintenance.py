"""The commands that close the site for a while, and open it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from taskapp.cli.commands import EPILOG, Failure, command_settings, plain_errors
from taskapp.maintenance_mode import LONGEST, PAUSE, flag_of, lower_flag, raise_flag, read_flag

_SOON = f"within {PAUSE * 2:.0f} seconds"


def _short_text(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > LONGEST or not value.isprintable():
        raise click.BadParameter(f"one line of {LONGEST} characters at most is needed")
    return value


@click.group("maintenance", invoke_without_command=True, epilog=EPILOG)
@click.pass_context
@plain_errors
def maintenance(context: click.Context) -> None:
    """Say whether the site is closed for maintenance.

    While it is, running servers answer everybody with 503 and change nothing in the database. The
    server need not be restarted, and may be.
    """
    if context.invoked_subcommand is not None:
        return
    period = read_flag(flag_of(command_settings()))
    click.echo(f"Maintenance is on since {period.since}." if period else "Maintenance is off.")


@maintenance.command("on", epilog=EPILOG)
@click.option(
    "--message", default="", callback=_short_text, help="What people are told, such as until when."
)
@plain_errors
def begin(message: str) -> None:
    """Close the site, or change what people are told."""
    flag = flag_of(command_settings())
    with _plain_errors_of(flag):
        raise_flag(flag, message)
    click.echo(f"Maintenance is on: servers that see {flag} answer 503 {_SOON}.")


@maintenance.command("off", epilog=EPILOG)
@plain_errors
def end() -> None:
    """Open the site again."""
    flag = flag_of(command_settings())
    with _plain_errors_of(flag):
        was_on = lower_flag(flag)
    if was_on:
        click.echo(f"Maintenance is off: servers serve again {_SOON}.")
    else:
        click.echo("Maintenance is off already.")


@contextmanager
def _plain_errors_of(flag: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise Failure(f"{flag} cannot be changed: {error.strerror or error}") from error
