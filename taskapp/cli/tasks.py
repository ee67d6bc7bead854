"""The commands for tasks, on any server, by an API token."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlencode

import click

from taskapp.cli.api_client import ApiClient, Task, TaskList, show
from taskapp.cli.common import EPILOG, CliError, echo_json, json_option, report_errors, table
from taskapp.cli.services import load_cli_settings
from taskapp.config.settings import Settings
from taskapp.runtime.local_client import find_local_url

_PAGE = 100  # tasks, the most that the API sends at once


@click.group("task", epilog=EPILOG)
def task() -> None:
    """Add, list and complete tasks on a server, by an API token.

    The account page of the server creates the token. TASKAPP_CLIENT_TOKEN is the token itself, or
    TASKAPP_CLIENT_TOKEN_FILE a file with it that only you can read. TASKAPP_CLIENT_URL is the
    address of the server, such as https://tasks.example.com; without it, it is the server of
    TASKAPP_HOST and TASKAPP_PORT.
    """


@task.command("add", epilog=EPILOG)
@click.argument("title")
@click.option("--description", default="", help="More about it.")
@json_option
@report_errors
def add(title: str, description: str, *, as_json: bool) -> None:
    """Add a task, and print its id."""
    fields = {"title": title, "description": description}
    made = _client().call("POST", "/tasks", Task, fields)
    if as_json:
        echo_json(**made)
    else:
        click.echo(show(made["id"]))


@task.command("list", epilog=EPILOG)
@click.option(
    "--status",
    type=click.Choice(["pending", "completed", "all"]),
    default="pending",
    show_default=True,
    help="Which tasks.",
)
@json_option
@report_errors
def show_tasks(status: str, *, as_json: bool) -> None:
    """List tasks, the newest first."""
    found = _all_tasks(_client(), status)
    if as_json:
        for each in found:
            echo_json(**each)
    else:
        names = ["id", "status", "completedAt", "title"]
        headings = ["ID", "STATUS", "COMPLETED", "TITLE"]
        if status == "pending":
            del names[2], headings[2]
        rows = [tuple(show(each.get(name) or "-") for name in names) for each in found]
        click.echo(table([tuple(headings), *rows]))


@task.command("done", epilog=EPILOG)
@click.argument("ids", metavar="ID...", nargs=-1, required=True)
@json_option
@report_errors
def complete(ids: tuple[str, ...], *, as_json: bool) -> None:
    """Complete tasks by their ids, which `task list` shows."""
    client = _client()
    for task_id in ids:
        path = f"/tasks/{quote(task_id, safe='')}"
        changed = client.call("PATCH", path, Task, {"status": "completed"})
        if as_json:
            echo_json(**changed)
        else:
            click.echo(f"Completed {show(changed['id'])}: {show(changed['title'])}")


def _client() -> ApiClient:
    settings = load_cli_settings()
    if not settings.client_token:
        raise CliError(
            "Set TASKAPP_CLIENT_TOKEN to an API token of the account page, or "
            "TASKAPP_CLIENT_TOKEN_FILE to a file with one."
        )
    return ApiClient(_address(settings), settings.client_token)


def _address(settings: Settings) -> str:
    address = settings.client_url or find_local_url(settings)
    if address is None:
        raise CliError("The server listens on a Unix socket: set TASKAPP_CLIENT_URL.")
    return address


def _all_tasks(client: ApiClient, status: str) -> Iterator[dict[str, Any]]:
    selection: dict[str, Any] = {"limit": _PAGE} | ({} if status == "all" else {"status": status})
    while True:
        page = client.call("GET", f"/tasks?{urlencode(selection)}", TaskList)
        yield from page["tasks"]
        if page["nextCursor"] is None:
            return
        selection["after"] = page["nextCursor"]
