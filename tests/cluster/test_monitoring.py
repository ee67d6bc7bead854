"""Prometheus with the files of deploy/ scrapes a whole cluster."""

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import pytest

from tests.deploy.dashboards import OF_CLUSTER, Panel, read_dashboards
from tests.deploy.monitored_server import CONFIGURATION, Prometheus
from tests.support.cluster import FRONT, MACHINES, TASKAPP_PORT, Cluster
from tests.support.server_process import wait_until

PORT = 9090
PGBACKREST = "pgbackrest"  # tests/deploy/test_monitoring.py
PANELS = [
    pytest.param(panel, id=panel.title)
    for dashboard in read_dashboards()
    for panel in dashboard.panels
    if panel.is_of_cluster and PGBACKREST not in panel.queries[0].expression
]
TARGETS = {"taskapp": 3, "patroni": 3, "etcd": 3, "database-proxy": 3, "haproxy": 1}


@dataclass(frozen=True)
class Monitoring:
    """Prometheus on the host of the balancer."""

    cluster: Cluster
    prometheus: Prometheus

    def ask(self, path: str) -> Any:
        with self.cluster.front.entered():
            return self.prometheus.ask(path)

    def shows(self, expression: str) -> bool:
        with self.cluster.front.entered():
            return bool(self.prometheus.query(expression))

    def targets_up(self) -> dict[str, int]:
        """Return how many targets of each job are scraped."""
        up = dict.fromkeys(TARGETS, 0)
        with suppress(URLError, ConnectionError):
            for target in self.ask("targets")["activeTargets"]:
                if target["health"] == "up":
                    up[target["labels"]["job"]] += 1
        return up


def configured(folder: Path) -> Path:
    """Write the configuration with the machines of the tests; return its path."""
    shutil.copytree(CONFIGURATION, folder)
    addresses = list(MACHINES.values())
    (folder / "machines.yml").write_text(f"- targets: {addresses}\n")
    file = folder / "prometheus.yml"
    text = file.read_text()
    taskapps = ", ".join(f'"{address}:{TASKAPP_PORT}"' for address in addresses)
    for old, new in (
        ('"127.0.0.1:8000"', taskapps),
        ('"$1:8404"', f'"{FRONT}:8404"'),  # one HAProxy in front, on a host of its own
        ("_interval: 15s", "_interval: 1s"),
    ):
        assert old in text
        text = text.replace(old, new)
    file.write_text(text)
    return file


@pytest.fixture(scope="module")
def monitoring(cluster: Cluster) -> Iterator[Monitoring]:
    cluster.wait_until_healthy()
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        command = [
            *(*cluster.front.launcher, "prometheus", "--log.level=error"),
            f"--config.file={configured(folder / 'prometheus')}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{PORT}",
        ]
        with subprocess.Popen(command) as process:
            running = Monitoring(cluster, Prometheus(f"http://127.0.0.1:{PORT}"))
            try:
                wait_until(lambda: process.poll() is not None or running.targets_up() == TARGETS)
                assert running.targets_up() == TARGETS
                yield running
            finally:
                process.terminate()


def test_every_metric_of_the_cluster_that_an_alert_or_a_panel_names_is_there(
    monitoring: Monitoring,
) -> None:
    texts = [(CONFIGURATION / "alerts.yml").read_text()]
    texts += [
        query.expression
        for dashboard in read_dashboards()
        for panel in dashboard.panels
        for query in panel.queries
    ]
    named = {name for text in texts for name in OF_CLUSTER.findall(text)}
    known = set(monitoring.ask("label/__name__/values"))
    assert {name for name in named - known if not name.startswith(PGBACKREST)} == set()
    assert {name.partition("_")[0] for name in named} == {"patroni", "etcd", "haproxy", PGBACKREST}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_of_the_cluster_shows_something(panel: Panel, monitoring: Monitoring) -> None:
    for query in panel.queries:
        wait_until(partial(monitoring.shows, query.expression))


def test_a_healthy_cluster_calls_nobody_and_without_its_standbys_two_alerts_are_due(
    monitoring: Monitoring,
) -> None:
    def due() -> set[str]:
        alerts = monitoring.ask("alerts")["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts} & {
            *("ClusterWithoutPrimary", "ClusterTwoPrimaries", "ClusterWithoutSpare"),
            *("ClusterEtcdWithoutLeader", "ClusterMachineDown", "ClusterReplicationLag"),
        }

    assert due() == set()
    cluster = monitoring.cluster
    standbys = cluster.standbys()
    for machine in standbys:
        machine.kill("patroni", "postgresql")
    wait_until(lambda: due() == {"ClusterWithoutSpare", "ClusterMachineDown"})
    for machine in standbys:
        machine.start("patroni")
    cluster.wait_until_healthy()
    wait_until(lambda: due() == set())
