"""The commands for accounts and their sessions."""

import sys

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
from taskapp.cli.services import load_cli_settings, run_with_services
from taskapp.forms.accounts import read_email
from taskapp.forms.fields import FieldError
from taskapp.operations.accounts import (
    add_user,
    list_accounts,
    purge_sessions,
    remove_user,
    set_password,
)

# Bytes. Far more than a password may have, and little enough to read from any input.
MAX_PASSWORD_LINE = 64 * 1024


def _read_email(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    try:
        return read_email(value)
    except FieldError as error:
        raise click.BadParameter(str(error)) from error


_email_argument = click.argument("email", callback=_read_email)


@click.group("user", epilog=EPILOG)
def user() -> None:
    """Add, list and delete accounts, and set their passwords."""


@user.command("add", epilog=EPILOG)
@_email_argument
@report_errors
def add(email: str) -> None:
    """Add an account, even if registration is closed.

    Prompts for the password, or reads it as one line from standard input.
    """
    settings = load_cli_settings()
    password = _read_password()
    run_with_services(settings, lambda services: add_user(services, email, password))
    click.echo(f"Added {email}.")


@user.command("set-password", epilog=EPILOG)
@_email_argument
@report_errors
def change_password(email: str) -> None:
    """Set the password of an account, end its sessions and revoke its API tokens.

    Prompts for the password, or reads it as one line from standard input.
    """
    settings = load_cli_settings()
    password = _read_password()
    ended = run_with_services(settings, lambda services: set_password(services, email, password))
    click.echo(
        f"Set the password of {email}, ended {pluralize(ended.sessions, 'session')}"
        f" and revoked {pluralize(ended.tokens, 'API token')}."
    )


@user.command("list", epilog=EPILOG)
@json_option
@report_errors
def show_users(*, as_json: bool) -> None:
    """List all accounts, sorted by email address."""
    users = run_with_services(load_cli_settings(), list_accounts)
    if as_json:
        for account in users:
            echo_json(id=account.user_id, email=account.email, createdAt=account.created_at)
    else:
        rows = [(account.email, account.created_at, account.user_id) for account in users]
        click.echo(table([("EMAIL", "CREATED", "ID"), *rows]))


@user.command("delete", epilog=EPILOG)
@_email_argument
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@report_errors
def delete(email: str, *, yes: bool) -> None:
    """Delete an account and all of its tasks."""
    settings = load_cli_settings()
    if not yes:
        click.confirm(f"Delete {email} and all of its tasks permanently?", abort=True, err=True)
    with shown_progress():
        run_with_services(settings, lambda services: remove_user(services, email))
    click.echo(f"Deleted {email} and all of its tasks.")


@click.group("sessions", epilog=EPILOG)
def sessions() -> None:
    """Manage sessions."""


@sessions.command("purge", epilog=EPILOG)
@report_errors
def purge() -> None:
    """Delete expired sessions and API tokens; the server does this every hour."""
    count = run_with_services(load_cli_settings(), purge_sessions)
    click.echo(f"Deleted {pluralize(count, 'expired session')}.")


def _read_password() -> str:
    """Return a password typed twice at a terminal, or else a line of standard input, unstripped."""
    if sys.stdin is not None and sys.stdin.isatty():
        prompted: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt="Repeat for confirmation", err=True
        )
        return prompted
    line = sys.stdin.buffer.readline(MAX_PASSWORD_LINE) if sys.stdin is not None else b""
    if not line:
        raise CliError(
            "No password given. Pass it as one line on standard input, or run in a terminal."
        )
    end = b"\r\n" if line.endswith(b"\r\n") else b"\n"
    try:
        return line.removesuffix(end).decode("utf-8")
    except UnicodeDecodeError:
        raise CliError("The password on standard input must be valid UTF-8.") from None
