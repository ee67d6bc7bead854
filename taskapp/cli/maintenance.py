"""The commands that close the site for a while, and open it again."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from taskapp.cli.common import EPILOG, CliError, echo_json, json_option, report_errors
from taskapp.cli.services import load_cli_settings
from taskapp.maintenance_mode import (
    CHECK_INTERVAL,
    MAX_MESSAGE_LENGTH,
    disable,
    enable,
    maintenance_file,
    read_window,
)

_SOON = f"within {CHECK_INTERVAL * 2:.0f} seconds"


def _short_text(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    if len(value) > MAX_MESSAGE_LENGTH or not value.isprintable():
        raise click.BadParameter(f"must be one line of at most {MAX_MESSAGE_LENGTH} characters")
    return value


@click.group("maintenance", invoke_without_command=True, epilog=EPILOG)
@json_option
@click.pass_context
@report_errors
def maintenance(context: click.Context, *, as_json: bool) -> None:
    """Show whether maintenance is on.

    While it is on, running servers respond with 503 and do not change the database. No restart is
    needed.
    """
    if context.invoked_subcommand is not None:
        return
    window = read_window(maintenance_file(load_cli_settings()))
    if as_json:
        echo_json(isOn=window is not None, since=window.since if window else None)
        return
    click.echo(f"Maintenance is on since {window.since}." if window else "Maintenance is off.")


@maintenance.command("on", epilog=EPILOG)
@click.option(
    "--message",
    default="",
    callback=_short_text,
    help="Message for users, such as the expected end.",
)
@report_errors
def begin(message: str) -> None:
    """Turn maintenance on, or change its message."""
    flag = maintenance_file(load_cli_settings())
    with _report_file_errors(flag):
        enable(flag, message)
    click.echo(f"Maintenance is on: servers that see {flag} respond with 503 {_SOON}.")


@maintenance.command("off", epilog=EPILOG)
@report_errors
def end() -> None:
    """Turn maintenance off."""
    flag = maintenance_file(load_cli_settings())
    with _report_file_errors(flag):
        was_on = disable(flag)
    if was_on:
        click.echo(f"Maintenance is off: servers resume {_SOON}.")
    else:
        click.echo("Maintenance is already off.")


@contextmanager
def _report_file_errors(flag: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CliError(f"Cannot change {flag}: {error.strerror or error}") from error
