"""What Prometheus may read: one registry for each application, so that tests do not mix."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

CONTENT_TYPE = CONTENT_TYPE_LATEST
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_STATEMENT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class Metrics:
    """All counters, gauges and histograms of one process."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Histogram(
            "taskapp_request_duration_seconds",
            "Time from the request's last byte to the answer's, by route and status.",
            ("method", "route", "status"),
            buckets=_REQUEST_SECONDS,
            registry=self.registry,
        )
        self.in_flight = self._gauge("requests_in_flight", "Requests being answered.")
        self.logins = self._counter("logins", "Logins, by result.", "result")
        self.registrations = self._counter("registrations", "Accounts made.")
        self.limited = self._counter("rate_limited", "Requests refused with 429.", "limit")
        self.tasks = self._counter("task_operations", "Changes of tasks.", "operation")
        self.rejected_tokens = self._counter(
            "rejected_sessions", "Cookies and tokens that were altered, unknown or ended."
        )
        self.active_sessions = self._gauge("active_sessions", "Sessions that have not ended.")
        self.users = self._gauge("users", "Accounts.")
        self.stored_tasks = self._gauge("tasks", "Tasks, as the database estimates them.")
        self.database_up = self._gauge("database_up", "1 when the database answers, else 0.")
        self.pool_size = self._gauge("database_pool_size", "Connections that are open.")
        self.pool_used = self._gauge("database_pool_used", "Connections that run a statement.")
        self.pool_waiting = self._gauge("database_pool_waiting", "Statements without a connection.")
        self.backup_moment = self._gauge(
            "backup_last_success_timestamp_seconds", "When the newest backup was begun; 0: none."
        )
        self.backup_failures = self._counter("backup_failures", "Backups that failed.")
        self.waiting_wal = self._gauge("wal_archive_waiting", "Files of WAL yet to be archived.")
        self.archive_failures = self._gauge(
            "wal_archive_failures", "Attempts to archive that failed, as PostgreSQL counts them."
        )
        self.statements = Histogram(
            "taskapp_statement_duration_seconds",
            "Time of a statement, with the wait for a connection, by name.",
            ("statement",),
            buckets=_STATEMENT_SECONDS,
            registry=self.registry,
        )

    def render(self) -> bytes:
        """Give all values in the text format of Prometheus."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"taskapp_{name}", meaning, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"taskapp_{name}_total", meaning, labels, registry=self.registry)
