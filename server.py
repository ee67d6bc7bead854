"""taskapp's command line; without a command it serves."""

import asyncio
import os
import platform
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# This folder is first, also with PYTHONSAFEPATH. What PYTHONPATH names is last, for it may hold
# packages of the same names.
sys.path.sort(key=lambda f: f in map(os.path.normpath, os.environ.get("PYTHONPATH", "").split(":")))
sys.path.insert(0, str(Path(__file__).resolve().parent))
if find_spec("click") is None:  # as after an upgrade of Python: the packages are of the one before
    sys.stderr.write(
        f"{sys.executable} (Python {platform.python_version()}) has no packages of taskapp. Run "
        f"`make .venv/.runtime` in {sys.path[0]}.\n"
    )
    sys.exit(2)  # a restart would not help

import click

from handlers.web_server import WebServer
from taskapp.cli.commands import COMMANDS
from taskapp.cli.common import EPILOG, read_settings, report_errors
from taskapp.config.installation import IS_ONE_FILE, version
from taskapp.config.settings import Settings, SettingsError
from taskapp.jobs.backup_schedule import run_backup_schedule
from taskapp.jobs.health_check import find_database_problem, watch_limits
from taskapp.jobs.housekeeping import run_health_checks, run_housekeeping
from taskapp.observability.logs import configure_logging, log
from taskapp.runtime.listeners import describe_sockets, listening_sockets
from taskapp.runtime.privileges import step_down
from taskapp.runtime.standard_streams import output_problem, prepare_standard_streams
from taskapp.runtime.startup import install_stop_signals, open_database
from taskapp.runtime.systemd import notify_systemd
from taskapp.services import Services, make_services


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
    log("server.stopped")


def _announce(settings: Settings, address: str) -> None:
    data = str(settings.data_dir) if settings.uses_embedded_database else "your PostgreSQL"
    log("server.started", address=address, data=data)
    with suppress(OSError):  # a full disk, or nobody who reads it, is no reason not to serve
        # The address is last, where one looks for it.
        click.echo(f"Your data is in {data}\nCtrl-C stops it.\ntaskapp is ready at {address}")


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
@report_errors
def serve() -> None:
    """Serve the pages and the API until SIGTERM or Ctrl-C."""
    settings = read_settings()
    configure_logging(settings)
    asyncio.run(serve_until_stopped(settings, make_services(settings)))


for command in COMMANDS:
    cli.add_command(command)


def main() -> None:
    """Run the command line; root becomes the owner of the data folder first."""
    if sys.getfilesystemencoding() != "utf-8" and not IS_ONE_FILE:
        # Names would reach PostgreSQL's programs in another encoding than its addresses.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  # itself
    prepare_standard_streams()
    try:
        if os.geteuid() == 0:
            with suppress(SettingsError):  # the command reports it
                step_down(read_settings().data_dir)
        cli()
    except OSError:
        if reason := output_problem():
            sys.exit(f"Standard output cannot be written: {reason}")
        raise


if __name__ == "__main__":
    main()
