"""Every panel of every dashboard shows data while a taskapp is used."""

import re
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from tests.deploy.dashboards import FOLDER, NAMES, Panel, Query, read_dashboards
from tests.deploy.monitored_server import CONFIGURATION, People, Prometheus, monitored_server
from tests.support.server_process import wait_until

PANELS = [
    pytest.param(panel, id=f"{dashboard.name}-{panel.title}")
    for dashboard in read_dashboards()
    for panel in dashboard.panels
    if not panel.is_of_cluster  # tests/cluster/test_monitoring.py
]
METRIC = re.compile(r"\b(?:up|(?:taskapp|process|node|pg)_\w+)\b")


@pytest.fixture(scope="module")
def prometheus() -> Iterator[Prometheus]:
    with monitored_server() as (server, it), People(server).at_work():  # what rests has no rate
        wait_until(lambda: bool(it.query("taskapp:request_errors:ratio_rate5m")))
        wait_until(lambda: bool(it.query("taskapp_backup_last_success_timestamp_seconds > 0")))
        yield it


def test_there_are_the_five_dashboards_of_the_design() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in NAMES}


@pytest.mark.parametrize("panel", PANELS)
def test_a_panel_shows_something(panel: Panel, prometheus: Prometheus) -> None:
    assert panel.queries
    for query in panel.queries:
        wait_until(partial(shows_something, prometheus, query))


def shows_something(prometheus: Prometheus, query: Query) -> bool:
    return bool(prometheus.query(query.expression))


def test_every_metric_that_a_rule_names_is_there(prometheus: Prometheus) -> None:
    known = set(prometheus.ask("label/__name__/values"))
    for file in ("recording.yml", "alerts.yml"):
        named = set()
        for line in (CONFIGURATION / file).read_text().splitlines():
            if not line.lstrip().startswith(("#", "- record:", "- alert:", "summary:", "runbook:")):
                named |= set(METRIC.findall(line))
        assert named
        assert named - known == set()


def test_every_rule_can_be_worked_out(prometheus: Prometheus) -> None:
    def rules() -> list[dict[str, Any]]:
        return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

    assert len(rules()) > 20
    wait_until(lambda: "unknown" not in {rule["health"] for rule in rules()})  # not tried yet
    assert {rule["health"] for rule in rules()} == {"ok"}, rules()


def test_of_a_server_that_was_just_started_prometheus_says_that_and_nothing_critical(
    prometheus: Prometheus,
) -> None:
    def firing() -> dict[str, str]:
        labels = [
            alert["labels"]
            for alert in prometheus.ask("alerts")["alerts"]
            if alert["state"] == "firing"
        ]
        return {label["alertname"]: label["severity"] for label in labels}

    wait_until(lambda: "TaskappStarted" in firing())
    assert "critical" not in firing().values()
