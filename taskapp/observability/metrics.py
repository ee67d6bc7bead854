"""What Prometheus may read: registries for each application, so that tests do not mix."""

from collections.abc import Iterator
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

CONTENT_TYPE = CONTENT_TYPE_LATEST
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_DELAY_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_STATEMENT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class DatabaseStatistics(NamedTuple):
    """What PostgreSQL counts about a database; the size is in bytes, blocks are of 8 KiB."""

    connections: int
    connection_limit: int
    size: int
    blocks_cached: int
    blocks_read: int
    commits: int
    rollbacks: int
    deadlocks: int


class DatabaseCollector(Collector):
    """Shows the statistics that were read last; nothing when there are none."""

    def __init__(self) -> None:
        self.statistics: DatabaseStatistics | None = None

    def collect(self) -> Iterator[Metric]:
        """Give what Prometheus may read, gauges as they are and counts as counters."""
        if (now := self.statistics) is None:
            return
        for name, meaning, value in (
            ("connections", "Connections to this database, of all processes.", now.connections),
            ("connection_limit", "Connections that the server takes.", now.connection_limit),
            ("size_bytes", "What the database takes on the disk.", now.size),
        ):
            yield GaugeMetricFamily(f"taskapp_database_{name}", meaning, value)
        for name, meaning, label, values in (
            (
                "blocks",
                "Blocks that statements needed, by where they were.",
                "source",
                {"cache": now.blocks_cached, "disk": now.blocks_read},
            ),
            (
                "transactions",
                "Transactions, by their end.",
                "end",
                {"commit": now.commits, "rollback": now.rollbacks},
            ),
        ):
            family = CounterMetricFamily(f"taskapp_database_{name}", meaning, labels=[label])
            for kind, value in values.items():
                family.add_metric([kind], value)
            yield family
        yield CounterMetricFamily(
            "taskapp_database_deadlocks", "Deadlocks that PostgreSQL ended.", now.deadlocks
        )


class Metrics:
    """All counters, gauges and histograms: what this process did, and what is true of all.

    `registry` has the former, which differ from process to process; `common` has the latter, which
    every process reads from the database and the disk.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.common = CollectorRegistry()
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
        self.active_sessions = self._common_gauge(
            "active_sessions", "Sessions that have not ended."
        )
        self.users = self._common_gauge("users", "Accounts.")
        self.active_users = Gauge(
            "taskapp_active_users",
            "Accounts that were used today (UTC) or in the days before, by number of days.",
            ("days",),
            registry=self.common,
        )
        self.stored_tasks = self._common_gauge("tasks", "Tasks, as the database estimates them.")
        self.database_up = self._common_gauge("database_up", "1 when the database answers, else 0.")
        self.pool_size = self._gauge("database_pool_size", "Connections that are open.")
        self.pool_used = self._gauge("database_pool_used", "Connections that run a statement.")
        self.pool_waiting = self._gauge("database_pool_waiting", "Statements without a connection.")
        self.backup_timestamp = self._common_gauge(
            "backup_last_success_timestamp_seconds", "When the newest backup was begun; 0: none."
        )
        self.backup_failures = self._counter("backup_failures", "Backups that failed.")
        self.backup_problems = self._common_gauge(
            "backup_problems", "What is wrong with the backups; the log and `doctor` say what."
        )
        self.job_failures = self._counter(
            "job_failures", "Runs of background jobs that failed.", "job"
        )
        self.waiting_wal = self._common_gauge(
            "wal_archive_waiting", "Files of WAL yet to be archived."
        )
        self.archive_failures = self._common_gauge(
            "wal_archive_failures", "Attempts to archive that failed, as PostgreSQL counts them."
        )
        self.disk_size = self._common_gauge("disk_size_bytes", "Size of the data folder's disk.")
        self.disk_free = self._common_gauge(
            "disk_free_bytes", "What is free on the data folder's disk."
        )
        self.database = DatabaseCollector()
        self.common.register(self.database)
        self.loop_delay = Histogram(
            "taskapp_event_loop_delay_seconds",
            "How late the event loop is: the delay of a timer, measured once a second.",
            buckets=_DELAY_SECONDS,
            registry=self.registry,
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
        return generate_latest(self.registry) + generate_latest(self.common)

    def _common_gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"taskapp_{name}", meaning, registry=self.common)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"taskapp_{name}", meaning, registry=self.registry)

    def _counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"taskapp_{name}_total", meaning, labels, registry=self.registry)
