"""Health checks and metrics, for monitoring and orchestrators."""

from base64 import b64decode
from hmac import compare_digest

from handlers.api.base import ApiHandler
from taskapp.config.installation import version
from taskapp.core.client_address import is_in
from taskapp.core.errors import NotAuthenticated, NotFound
from taskapp.core.messages import Message
from taskapp.jobs.health_check import find_problem, uptime
from taskapp.jobs.metrics_refresh import refresh_gauges
from taskapp.observability.availability import STOPPING_READS
from taskapp.observability.logs import now_text

HOUR = 3600  # seconds


class _OperatorHandler(ApiHandler):
    """A route about the process, which tells operators more than others."""

    is_public = True
    needs_database = False

    def is_from_operator(self) -> bool:
        """Return whether the client is in `metrics_allow`; behind an untrusted proxy nobody is."""
        settings = self.services.settings
        is_known = not self.is_forwarded() or is_in(self.peer, settings.trusted_proxies)
        return is_known and is_in(self.address, settings.metrics_allow)


class HealthApi(_OperatorHandler):
    """GET /api/health (docs/design/api.md)."""

    async def get(self) -> None:
        """Write the state of process, database, limits and backups: 200 if healthy, 503 if not."""
        problem = await find_problem(self.services)
        is_counted = problem != "uncounted"
        unit = HOUR  # strangers need not know to the second when this process started
        for_operators = {}
        if self.is_from_operator():
            unit = 1
            problems = self.services.backups.problems
            for_operators = {"version": version(), "backupProblems": problems}
        age = self.services.backups.age
        self.write_json(
            {
                "status": "unhealthy" if problem else "healthy",
                "timestamp": now_text(),
                "uptime": uptime() // unit * unit,
                "database": problem if problem and is_counted else "connected",
                "limits": "available" if is_counted else "unavailable",
                "backup": self.services.backups.state(),
                "backupAge": None if age is None else age // unit * unit,
                **for_operators,
            },
            503 if problem else 200,
        )


class LiveApi(ApiHandler):
    """GET /api/health/live: an orchestrator restarts a process that does not respond."""

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Write 200 for as long as the event loop runs."""
        self.write_json({"status": "live"})


class ReadyApi(ApiHandler):
    """GET /api/health/ready: a load balancer sends requests while this is 200.

    What keeps writes or logins from working keeps them from it on every process: a balancer that
    sent no requests would take the reads away too.
    """

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Write 503 during start, stop and maintenance, and while reads cannot work."""
        state = self.application.state
        if self.services.maintenance.window is not None:
            state = "maintenance"
        elif state == "ready" and await find_problem(self.services) in STOPPING_READS:
            state = "database unavailable"
        self.write_json({"status": state}, 200 if state == "ready" else 503)


class MetricsHandler(_OperatorHandler):
    """GET /metrics, for networks in `metrics_allow`; 404 for others."""

    challenge = 'Basic realm="metrics of taskapp"'

    async def get(self) -> None:
        """Write all metrics in OpenMetrics, if the client accepts that, or as Prometheus's text."""
        if not self.is_from_operator():
            raise NotFound
        if not self._has_password():
            raise NotAuthenticated(Message("The password of the metrics is missing or wrong."))
        await refresh_gauges(self.services)
        content_type, body = self.services.metrics.render(self.header("Accept"))
        self.set_header("Content-Type", content_type)
        self.finish(body)

    def _has_password(self) -> bool:
        """Return whether the request has the password, if there is one, with any user name."""
        wanted = self.services.settings.metrics_password
        scheme, _, sent = self.header("Authorization").partition(" ")
        if not wanted:
            return True
        try:
            _, _, password = b64decode(sent).partition(b":")
        except ValueError:
            return False
        return scheme.lower() == "basic" and compare_digest(password, wanted.encode())
