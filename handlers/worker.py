"""One of several processes that serve; the keeper starts it (`taskapp/runtime/supervisor.py`)."""

import asyncio
from pathlib import Path

import click

from handlers.web_server import WebServer
from taskapp.cli.common import report_errors
from taskapp.config.settings import load_settings
from taskapp.jobs.housekeeping import run_health_checks
from taskapp.observability.logs import configure_logging, log
from taskapp.runtime.database_server import require_prepared_database
from taskapp.runtime.listeners import shared_sockets
from taskapp.runtime.startup import install_stop_signals, open_database
from taskapp.runtime.worker_channel import Orders, followed_keeper, read_orders
from taskapp.services import Services, make_services


@click.command("worker", hidden=True)
@click.argument("number", type=int)
@report_errors
def worker(number: int) -> None:
    """Serve as the worker of this number, with the orders on standard input."""
    orders = read_orders()
    settings = load_settings(orders.settings)
    configure_logging(settings, process=number)
    asyncio.run(_serve_until_stopped(orders, number, make_services(settings)))


async def _serve_until_stopped(orders: Orders, number: int, services: Services) -> None:
    """Serve until the keeper says stop or has ended, then finish what was begun."""
    stopped = install_stop_signals()
    site = WebServer(services, shared_sockets(orders.sockets))
    services.backups.share(Path(orders.folder))
    exchange = services.exchange.serving(Path(orders.folder), str(number))
    try:
        async with (
            site,
            exchange,
            services.maintenance.watching(),
            followed_keeper(orders, stopped) as keeper,
        ):
            if (url := await keeper.database_url(stop=stopped)) and await open_database(
                services, url, stop=stopped, prepare=require_prepared_database
            ):
                await site.open(url, stop=stopped)
                keeper.tell_ready()
                async with run_health_checks(services):
                    await stopped.wait()
            await site.drain()
            await services.database.close()
    finally:
        services.passwords.close()
    log("stopped")
