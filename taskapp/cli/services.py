"""The settings, the log and the services of a command."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TypeVar

from taskapp.config.environment import read_settings
from taskapp.config.settings import Settings
from taskapp.observability.logs import configure_logging
from taskapp.runtime.database_server import database_server, require_prepared_database
from taskapp.runtime.startup import install_loop_error_handler
from taskapp.services import Services, make_services

Result = TypeVar("Result")


def load_cli_settings() -> Settings:
    """Return the settings, and configure the log to show warnings only unless they ask for more.

    Raises:
        SettingsError: one or more are wrong.
    """
    settings = read_settings()
    level = "warning" if settings.log_level == "info" else settings.log_level
    form = "text" if settings.log_format == "auto" else settings.log_format
    configure_logging(replace(settings, log_level=level, log_format=form))
    if level != "debug":
        # A command's error message includes the last lines of PostgreSQL's log.
        logging.getLogger("taskapp.postgresql").setLevel(logging.CRITICAL)
    return settings


def run_with_services(settings: Settings, work: Callable[[Services], Awaitable[Result]]) -> Result:
    """Run `work` with opened services, beside a running server or without one."""

    async def run() -> Result:
        install_loop_error_handler()
        async with database_server(settings, share=True) as url:
            await require_prepared_database(settings, url)
            services = make_services(settings)
            try:
                await services.database.open(url)
                return await work(services)
            finally:
                await services.database.close()
                services.passwords.close()

    return asyncio.run(run())
