"""The command that a container's health check runs."""

import json
from contextlib import suppress
from typing import Any

import click

from taskapp.cli.common import EPILOG, CliError, echo_json, json_option, report_errors
from taskapp.config.environment import read_settings
from taskapp.runtime.local_client import NoResponse, request_local_server

HEALTH_TIMEOUT = 5.0  # seconds; MON-11 in docs/design/requirements.md promises a response by then


@click.command("health", epilog=EPILOG)
@json_option
@click.pass_context
@report_errors
def health(context: click.Context, *, as_json: bool) -> None:
    """Ask the running server of these settings how it is, for a container's health check.

    It asks on this machine, where TASKAPP_HOST and TASKAPP_PORT say, through no proxy. The exit
    code is 1 if the server is unhealthy or does not answer within 5 seconds.
    """
    settings = read_settings()
    try:
        status, body = request_local_server(settings, "/api/health", HEALTH_TIMEOUT)
        state = _read_state(body)
    except NoResponse as error:
        status, state = 0, {"status": "unreachable", "problem": str(error)}
    if as_json:
        echo_json(**state)
    elif status == 0:
        raise CliError(state["problem"])
    else:
        click.echo(", ".join(f"{name}: {state[name]}" for name in ("status", "database", "backup")))
    context.exit(0 if status == 200 else 1)


def _read_state(body: bytes) -> dict[str, Any]:
    """Return the members of the server's state; raise NoResponse if it is not taskapp's."""
    with suppress(ValueError):
        state = json.loads(body)
        if isinstance(state, dict) and {"status", "database", "backup"} <= state.keys():
            return state
    raise NoResponse("What answers at the address of these settings is not taskapp.")
