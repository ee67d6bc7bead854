"""How the process is: for people, orchestrators and Prometheus."""

from handlers.api.base import ApiHandler
from taskapp.config.installation import version
from taskapp.core.client_address import is_in
from taskapp.core.errors import NotFound
from taskapp.jobs.health_check import find_database_problem, uptime
from taskapp.jobs.metrics_refresh import refresh_gauges
from taskapp.observability.logs import now_text
from taskapp.observability.metrics import CONTENT_TYPE


class _OperatorHandler(ApiHandler):
    """Of the process itself, with what only the networks that may read /metrics are told."""

    is_public = True
    needs_database = False

    def is_from_operator(self) -> bool:
        """Tell whether the client's network may; a proxy that is not trusted hides which it is."""
        settings = self.services.settings
        is_known = not self.is_forwarded() or is_in(self.peer, settings.trusted_proxies)
        return is_known and is_in(self.address, settings.metrics_allow)


class HealthApi(_OperatorHandler):
    """GET /api/health (docs/design/api.md)."""

    async def get(self) -> None:
        """Say whether the process and its database work: 200 healthy, 503 not."""
        problem = await find_database_problem(self.services)
        for_operators = {}
        if self.is_from_operator():
            problems = self.services.backups.problems
            for_operators = {"version": version(), "backupProblems": problems}
        self.write_json(
            {
                "status": "unhealthy" if problem else "healthy",
                "timestamp": now_text(),
                "uptime": uptime(),
                "database": problem or "connected",
                "backup": self.services.backups.state(),
                "backupAge": self.services.backups.age,
                **for_operators,
            },
            503 if problem else 200,
        )


class LiveApi(ApiHandler):
    """GET /api/health/live: restart the process when this does not answer."""

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Answer, which is all that is asked."""
        self.write_json({"status": "live"})


class ReadyApi(ApiHandler):
    """GET /api/health/ready: send requests while this is 200."""

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Say whether requests can be served: not at start, stop, maintenance, or read-only."""
        state = self.application.state
        if self.services.maintenance.window is not None:
            state = "maintenance"
        elif state == "ready" and await find_database_problem(self.services):
            state = "database unavailable"
        self.write_json({"status": state}, 200 if state == "ready" else 503)


class MetricsHandler(_OperatorHandler):
    """GET /metrics, for the networks that may read it; for others it does not exist."""

    async def get(self) -> None:
        """Give all metrics in the text format of Prometheus."""
        if not self.is_from_operator():
            raise NotFound
        await refresh_gauges(self.services)
        self.set_header("Content-Type", CONTENT_TYPE)
        self.finish(self.services.metrics.render())
