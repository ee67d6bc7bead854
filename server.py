"""taskapp's command line; without a command it serves."""

import asyncio
import sys
from typing import TYPE_CHECKING

import click

from handlers.web_server import STOP_SECONDS, WebServer
from handlers.worker import worker
from taskapp.cli.commands import COMMANDS
from taskapp.cli.common import EPILOG, read_settings, report_errors
from taskapp.config.installation import IS_ONE_FILE, version
from taskapp.config.settings import Settings
from taskapp.jobs.backup_schedule import run_backup_schedule
from taskapp.jobs.housekeeping import run_health_checks, run_housekeeping
from taskapp.observability.logs import configure_logging, log
from taskapp.runtime.database_server import database_server
from taskapp.runtime.listeners import describe_sockets, listening_sockets
from taskapp.runtime.startup import install_stop_signals, open_database
from taskapp.runtime.supervisor import Workers, running_workers
from taskapp.runtime.systemd import notify_systemd
from taskapp.services import Services, make_services

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

WORKER = (sys.executable, *(() if IS_ONE_FILE else (__file__,)), "worker")


async def serve_until_stopped(settings: Settings, services: Services) -> None:
    """Serve until SIGTERM or Ctrl-C, by itself or by workers, then finish what was begun."""
    stopped = install_stop_signals()
    sockets = listening_sockets(settings)
    front: AbstractAsyncContextManager[WebServer | Workers] = (
        WebServer(services, sockets)
        if settings.processes == 1
        else running_workers(services, sockets, STOP_SECONDS, program=WORKER)
    )
    try:  # serving comes first: health says from the first moment how the database is
        async with (
            front as serving,
            services.maintenance.watching(),
            database_server(settings) as url,
        ):
            if await open_database(services, url, stop=stopped) and await serving.open(
                url, stop=stopped
            ):
                _announce(settings, describe_sockets(settings, sockets))
                async with (
                    run_housekeeping(services),
                    run_health_checks(services),
                    run_backup_schedule(services, url),
                    notify_systemd(services),
                ):
                    await stopped.wait()
            await serving.drain()
            await services.database.close()
    finally:
        services.passwords.close()
    log("stopped")


def _announce(settings: Settings, where: str) -> None:
    data = str(settings.data_dir) if settings.uses_embedded_database else "your PostgreSQL"
    log("ready", address=where, data=data)
    click.echo(f"taskapp is ready at {where}\nYour data is in {data}\nCtrl-C stops it.")


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.option("--version", "asks_version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(context: click.Context, *, asks_version: bool) -> None:
    """Keep your tasks. Without a command: serve."""
    if asks_version:
        click.echo(f"taskapp {version()}")
        context.exit()
    if context.invoked_subcommand is None:
        context.invoke(serve)


@cli.command(epilog=EPILOG)
@click.option("--processes", metavar="N", help="How many serve; TASKAPP_PROCESSES if absent.")
@report_errors
def serve(processes: str | None) -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    settings = read_settings(TASKAPP_PROCESSES=processes)
    configure_logging(settings)
    asyncio.run(serve_until_stopped(settings, make_services(settings)))


for command in (*COMMANDS, worker):
    cli.add_command(command)

if __name__ == "__main__":
    sys.exit(cli())
