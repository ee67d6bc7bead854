"""taskapp's command line; without a command it serves."""

import asyncio
import signal
import sys

import click

from handlers.http_server import BoundedServer
from handlers.routes import make_application
from taskapp.backup_commands import BACKUP_COMMANDS
from taskapp.commands import COMMANDS, EPILOG, plain_errors, read_settings
from taskapp.database_server import database_server
from taskapp.logs import configure_logging, log
from taskapp.operations.backups import keep_backed_up
from taskapp.operations.upkeep import keep_up
from taskapp.service_manager import reported
from taskapp.services import Services, make_services
from taskapp.settings import Settings
from taskapp.sockets import describe_sockets, listening_sockets, room_for_connections
from taskapp.startup import open_database

CONNECTIONS = 2_000
HEADER_BYTES = 16 * 1024
BODY_BYTES = 64 * 1024 * 1024  # read and dropped above the application's own limit, then refused
BODY_SECONDS = 30.0
IDLE_SECONDS = 75.0  # longer than nginx keeps a connection, so that it is nginx that closes it
FAREWELL_SECONDS = 1.0  # for clients between two requests, who have not heard of the stop
DRAIN_SECONDS = 8.0  # with the farewell, less than the ten that Docker waits before it kills


async def serve_until_stopped(settings: Settings, services: Services) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish what was begun."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    application = make_application(services)
    server = BoundedServer(
        application,
        connections=room_for_connections(CONNECTIONS, settings.database_pool),
        is_https=settings.is_https,
        max_header_size=HEADER_BYTES,
        max_body_size=BODY_BYTES,
        body_timeout=BODY_SECONDS,
        idle_connection_timeout=IDLE_SECONDS,
    )
    sockets = listening_sockets(settings)
    server.add_sockets(sockets)  # before the database is up: health says so from the first moment
    try:
        async with database_server(settings) as url:
            if await open_database(services, url, unless=stopped):
                application.state = "ready"
                _announce(settings, describe_sockets(settings, sockets))
                async with keep_up(services), keep_backed_up(services, url), reported(services):
                    await stopped.wait()
            application.state = "stopping"
            server.stop()
            log("stopping", inFlight=application.in_flight)
            await server.wait_until_left(FAREWELL_SECONDS)
            if not await application.drain(DRAIN_SECONDS):
                log("requests.cut", "warning", inFlight=application.in_flight)
            await server.close_all_connections()
            await services.database.close()
    finally:
        server.stop()
        await server.close_all_connections()
        services.passwords.close()
    log("stopped")


def _announce(settings: Settings, where: str) -> None:
    data = str(settings.data_dir) if settings.uses_embedded_database else "your PostgreSQL"
    log("ready", address=where, data=data)
    click.echo(f"taskapp is ready at {where}\nYour data is in {data}\nCtrl-C stops it.")


@click.group(invoke_without_command=True, epilog=EPILOG)
@click.pass_context
def cli(context: click.Context) -> None:
    """Keep your tasks. Without a command: serve."""
    if context.invoked_subcommand is None:
        context.invoke(serve)


@cli.command()
@plain_errors
def serve() -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    settings = read_settings()
    configure_logging(settings)
    asyncio.run(serve_until_stopped(settings, make_services(settings)))


for command in (*COMMANDS, *BACKUP_COMMANDS):
    cli.add_command(command)

if __name__ == "__main__":
    sys.exit(cli())
