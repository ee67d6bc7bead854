"""Which PostgreSQL runs, and whether this machine has a newer minor version of it."""

from contextlib import suppress

from taskapp.core.errors import Unavailable
from taskapp.core.threads import run_in_daemon_thread
from taskapp.observability.logs import log
from taskapp.postgres.programs import newer_minor
from taskapp.queries.postgresql import require_facts
from taskapp.services import Services


async def watch_postgresql(services: Services) -> None:
    """Bring the metrics up to date, and log that a newer minor version should run."""
    with suppress(Unavailable):  # health says that the database is away
        await _watch(services)


async def _watch(services: Services) -> None:
    settings, metrics = services.settings, services.metrics
    major, minor = divmod((await require_facts(services.database)).version, 10000)
    metrics.postgresql.info({"version": f"{major}.{minor}"})
    if not settings.uses_embedded_database:
        return
    running = (major, minor)
    newer = await run_in_daemon_thread(newer_minor, running, settings.postgresql_bin)
    metrics.newer_minor.set(1 if newer else 0)
    if newer:
        log(
            "postgresql.outdated",
            "warning",
            version=f"{major}.{minor}",
            newer=newer.version,
            folder=str(newer.folder),
        )
