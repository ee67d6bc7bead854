"""Prometheus metrics, in a registry for each application, so that tests do not mix."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import NamedTuple

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from taskapp.config.installation import version

_OPENMETRICS = "application/openmetrics-text"
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10)
_DELAY_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
_STATEMENT_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1, 5)


class DatabaseStatistics(NamedTuple):
    """PostgreSQL's statistics of a database; the size is in bytes, a block has 8 KiB."""

    connections: int
    connection_limit: int
    size: int
    blocks_cached: int
    blocks_read: int
    commits: int
    rollbacks: int
    deadlocks: int


class DatabaseCollector(Collector):
    """Exports the statistics that were read last; nothing if there are none."""

    def __init__(self) -> None:
        self.statistics: DatabaseStatistics | None = None

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, sizes as gauges and counts as counters."""
        if (now := self.statistics) is None:
            return
        for name, meaning, value in (
            ("connections", "Connections to this database, of all clients.", now.connections),
            ("connection_limit", "Connections that the server accepts.", now.connection_limit),
            ("size_bytes", "Size of the database on disk.", now.size),
        ):
            yield GaugeMetricFamily(f"taskapp_database_{name}", meaning, value)
        for name, meaning, label, values in (
            (
                "blocks",
                "Blocks that statements read, by source.",
                "source",
                {"cache": now.blocks_cached, "disk": now.blocks_read},
            ),
            (
                "transactions",
                "Transactions, by outcome.",
                "end",
                {"commit": now.commits, "rollback": now.rollbacks},
            ),
        ):
            family = CounterMetricFamily(f"taskapp_database_{name}", meaning, labels=[label])
            for kind, value in values.items():
                family.add_metric([kind], value)
            yield family
        yield CounterMetricFamily(
            "taskapp_database_deadlocks", "Deadlocks that PostgreSQL resolved.", now.deadlocks
        )


def _counter(name: str, meaning: str, *labels: str) -> Counter:
    return field(
        default_factory=partial(Counter, f"taskapp_{name}_total", meaning, labels, registry=None)
    )


def _gauge(name: str, meaning: str, *labels: str) -> Gauge:
    return field(default_factory=partial(Gauge, f"taskapp_{name}", meaning, labels, registry=None))


def _histogram(name: str, meaning: str, *labels: str, buckets: Sequence[float]) -> Histogram:
    return field(
        default_factory=partial(
            Histogram, f"taskapp_{name}", meaning, labels, buckets=buckets, registry=None
        )
    )


def _info(name: str, meaning: str) -> Info:
    return field(default_factory=partial(Info, f"taskapp_{name}", meaning, registry=None))


@dataclass(eq=False)
class Metrics:
    """All counters, gauges and histograms, of which each field is one."""

    requests: Histogram = _histogram(
        "request_duration_seconds",
        "Time from the request's headers until the response is written, by route and status.",
        "method",
        "route",
        "status",
        buckets=_REQUEST_SECONDS,
    )
    in_flight: Gauge = _gauge("requests_in_flight", "Requests in flight.")
    logins: Counter = _counter("logins", "Logins, by result.", "result")
    registrations: Counter = _counter("registrations", "Registrations.")
    limited: Counter = _counter("rate_limited", "Requests rejected with 429.", "limit")
    tasks: Counter = _counter("task_operations", "Task operations.", "operation")
    rejected_tokens: Counter = _counter(
        "rejected_sessions", "Cookies and tokens without a valid signature."
    )
    active_sessions: Gauge = _gauge("active_sessions", "Active sessions.")
    users: Gauge = _gauge("users", "Accounts.")
    active_users: Gauge = _gauge(
        "active_users",
        "Accounts that were used today (UTC) or in the days before, by number of days.",
        "days",
    )
    stored_tasks: Gauge = _gauge("tasks", "Tasks, estimated by the database.")
    database_up: Gauge = _gauge("database_up", "1 if the database responds, else 0.")
    database_writable: Gauge = _gauge(
        "database_writable", "1 if the database responds and accepts writes, else 0."
    )
    writes_stalled: Gauge = _gauge(
        "database_writes_stalled", "1 while the database confirms no writes, else 0."
    )
    unknown_writes: Counter = _counter(
        "database_unknown_writes",
        "Changes that were not confirmed in time, and may have been saved or not.",
    )
    pending_migrations: Gauge = _gauge(
        "database_pending_migrations",
        "Migrations that the database lacks; below 0 if it is newer than this taskapp.",
    )
    limits_up: Gauge = _gauge("rate_limits_up", "1 if the rate limits can be counted, else 0.")
    build: Info = _info("build", "The version of taskapp.")
    postgresql: Info = _info("postgresql", "The PostgreSQL in use.")
    newer_minor: Gauge = _gauge(
        "postgresql_newer_minor",
        "1 if this machine has a newer minor version than the embedded PostgreSQL in use.",
    )
    pool_size: Gauge = _gauge("database_pool_size", "Open connections of the pool.")
    pool_used: Gauge = _gauge("database_pool_used", "Connections of the pool in use.")
    pool_waiting: Gauge = _gauge("database_pool_waiting", "Statements waiting for a connection.")
    backup_problems: Gauge = _gauge(
        "backup_problems", "Problems of the backups; the log and `doctor` name them."
    )
    job_failures: Counter = _counter("job_failures", "Failed runs of background jobs.", "job")
    backup_timestamp: Gauge = _gauge(
        "backup_last_success_timestamp_seconds", "Start of the newest backup; 0: none."
    )
    backup_failures: Counter = _counter("backup_failures", "Failed backups.")
    backup_command_failures: Counter = _counter(
        "backup_command_failures", "Failed runs of TASKAPP_BACKUP_COMMAND."
    )
    waiting_wal: Gauge = _gauge("wal_archive_waiting", "WAL segments waiting to be archived.")
    archive_failures: Gauge = _gauge(
        "wal_archive_failures", "Failed attempts to archive a WAL segment."
    )
    disk_size: Gauge = _gauge("disk_size_bytes", "Size of the data folder's disk.")
    disk_free: Gauge = _gauge("disk_free_bytes", "Free space on the data folder's disk.")
    database: DatabaseCollector = field(default_factory=DatabaseCollector)
    loop_delay: Histogram = _histogram(
        "event_loop_delay_seconds",
        "Delay of the event loop: how late a timer fires, measured once a second.",
        buckets=_DELAY_SECONDS,
    )
    statements: Histogram = _histogram(
        "statement_duration_seconds",
        "Duration of a statement, including the wait for a connection, by name.",
        "statement",
        buckets=_STATEMENT_SECONDS,
    )

    def __post_init__(self) -> None:
        collectors: list[Collector] = [getattr(self, metric.name) for metric in fields(self)]
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        for collector in collectors:
            self.registry.register(collector)
        self.build.info({"version": version()})

    def render(self, accepted: str = "") -> tuple[str, bytes]:
        """Return the type and the text of all metrics: OpenMetrics has the ids of traces too."""
        if _OPENMETRICS in accepted:
            body = openmetrics.generate_latest(self.registry)  # type: ignore[no-untyped-call]  # theirs
            return openmetrics.CONTENT_TYPE_LATEST, body
        return CONTENT_TYPE_LATEST, generate_latest(self.registry)
