"""Prometheus with the rules of deploy/: every alert fires, has its metrics and its runbook."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.deploy.dashboards import OF_CLUSTER
from tests.deploy.monitored_server import CONFIGURATION
from tests.deploy.postgres import as_postgres, give_to_postgres, running_postgres
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


def test_the_metrics_of_pgbackrest_are_those_of_its_newest_backup() -> None:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        places = [folder / "repository", folder / "metrics", folder / "database"]
        for place in places:
            place.mkdir()
        give_to_postgres(*places)
        with running_postgres(folder / "database") as postgres:
            configuration = folder / "pgbackrest.conf"
            configuration.write_text(
                f"[global]\nrepo1-path={folder}/repository\nlock-path={folder}/repository\n"
                "log-level-file=off\narchive-check=n\nstart-fast=y\n"
                f"[taskapp]\npg1-path={postgres.folder}/cluster\npg1-port={postgres.port}\n"
                f"pg1-socket-path={postgres.folder}\npg1-user=postgres\n"
            )

            def run(*command: str) -> None:
                subprocess.run(
                    as_postgres(*command),
                    env=os.environ | {"PGBACKREST_CONFIG": str(configuration)},
                    cwd="/",
                    check=True,
                    capture_output=True,
                )

            script = ["sh", str(CONFIGURATION / "pgbackrest_metrics.sh"), f"{folder}/metrics"]
            run("pgbackrest", "--stanza=taskapp", "stanza-create")
            run(*script)
            file = folder / "metrics" / "pgbackrest.prom"
            assert 'pgbackrest_backups{stanza="taskapp"} 0' in file.read_text()
            run("pgbackrest", "--stanza=taskapp", "--type=full", "backup")
            run(*script)
            written = file.read_text()
        assert [path.name for path in file.parent.iterdir()] == [file.name]
        subprocess.run(["promtool", "check", "metrics"], input=written, text=True, check=True)
        assert 'pgbackrest_backups{stanza="taskapp"} 1' in written
        rules = re.sub(r"^ *#.*$", "", RULES, flags=re.MULTILINE)
        named = {metric for metric in OF_CLUSTER.findall(rules) if metric.startswith("pgbackrest")}
        assert named
        assert all(f"\n{metric}{{" in written for metric in named)
