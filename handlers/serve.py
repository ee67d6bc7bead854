"""The command `serve`, and the block that starts and stops everything."""

import asyncio
from contextlib import suppress

import click

from handlers.web_server import WebServer
from taskapp.cli.common import EPILOG, report_errors
from taskapp.config.environment import read_settings
from taskapp.config.settings import Settings
from taskapp.jobs.backup_schedule import run_backup_schedule
from taskapp.jobs.health_check import find_database_problem, watch_limits
from taskapp.jobs.housekeeping import run_health_checks, run_housekeeping
from taskapp.observability.logs import configure_logging, log
from taskapp.runtime.listeners import describe_sockets, listening_sockets
from taskapp.runtime.startup import install_stop_signals, open_database
from taskapp.runtime.systemd import notify_systemd
from taskapp.runtime.tracing import start_tracing
from taskapp.services import Services, make_services


@click.command("serve", epilog=EPILOG)
@report_errors
def serve() -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    settings = read_settings()
    configure_logging(settings)
    asyncio.run(serve_until_stopped(settings, make_services(settings, start_tracing(settings))))


async def serve_until_stopped(settings: Settings, services: Services) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests in flight."""
    stopped = install_stop_signals()
    sockets = listening_sockets(settings)
    try:  # serving comes first, so that health reports on the database from the start
        async with (
            WebServer(services, sockets) as web_server,
            services.maintenance.watching(),
            open_database(services, stop=stopped) as url,
        ):
            if url:
                # The first response of /ready is right, too.
                await find_database_problem(services)
                await watch_limits(services)
                web_server.open()
                _announce(settings, describe_sockets(settings, sockets))
                async with (
                    run_housekeeping(services),
                    run_health_checks(services),
                    run_backup_schedule(services, url),
                    notify_systemd(services),
                ):
                    await stopped.wait()
            await web_server.drain()
            await services.database.close()
            await services.limits.close()
    finally:
        services.passwords.close()
        if services.tracing is not None:
            await services.tracing.stop()
    log("server.stopped")


def _announce(settings: Settings, address: str) -> None:
    data = str(settings.data_dir) if settings.uses_embedded_database else "your PostgreSQL"
    log("server.started", address=address, data=data)
    with suppress(OSError):  # a full disk, or nobody who reads it, is no reason not to serve
        # The address is last, where one looks for it.
        click.echo(f"Your data is in {data}\nCtrl-C stops it.\ntaskapp is ready at {address}")
