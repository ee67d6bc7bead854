"""Prometheus with the rules of deploy/: every alert fires, has its metrics and its runbook."""

import re
import subprocess

import pytest

from tests.deploy.monitored_server import CONFIGURATION
from tests.support.server_process import CHECKOUT

ALERT_TESTS = CHECKOUT / "tests" / "deploy" / "alerts_test.yml"
RULES = (CONFIGURATION / "alerts.yml").read_text()
ALERTS = re.findall(r"- alert: (\w+)", RULES)
HELP = CHECKOUT / "docs" / "how-to" / "monitoring.md"


@pytest.mark.parametrize(
    "command",
    [
        ("promtool", "check", "config", CONFIGURATION / "prometheus.yml"),
        ("promtool", "test", "rules", ALERT_TESTS),
        ("amtool", "check-config", CONFIGURATION / "alertmanager.yml"),
    ],
    ids=lambda command: " ".join(map(str, command[:3])),
)
def test_the_configuration_passes_its_own_programs(command: tuple[str, ...]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_to_fire_and_to_stay_quiet() -> None:
    blocks = ALERT_TESTS.read_text().split("  - name: ")[1:]
    tried = set()
    for block in blocks:
        name, verb = block.split(maxsplit=2)[:2]
        assert f"alertname: {name}\n" in block
        assert ("exp_alerts: []" in block) == (verb == "is")
        tried.add((name, verb))
    assert tried == {(alert, verb) for alert in ALERTS for verb in ("fires", "is")}


def test_every_alert_leads_to_what_can_be_done() -> None:
    runbooks = re.findall(r"runbook: (\S+)#(\S+)", RULES)
    assert [anchor for _, anchor in runbooks] == [alert.lower() for alert in ALERTS]
    assert {CHECKOUT / path for path, _ in runbooks} == {HELP}
    assert re.findall(r"^### (\w+)$", HELP.read_text(), re.MULTILINE) == ALERTS
