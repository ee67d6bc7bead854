"""deploy/cluster/ on three machines: its playbook sets them up, and one that dies loses nothing."""

import os
import random
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from tests.deploy.cluster import (
    CLIENT_SETTINGS,
    ENVIRONMENT,
    PLAYBOOKS,
    address_for_clients,
    running_cluster,
)
from tests.faults.checker import Findings, check
from tests.faults.ledger import Outcome, writing
from tests.support.server_process import wait_until

FAILOVER_WITHIN = 60.0  # seconds; 17 on machines that do nothing else


def test_a_killed_machine_is_replaced_and_no_acknowledged_write_is_lost() -> None:
    chance = random.Random(17)  # noqa: S311  # for no secret
    with (
        running_cluster(settings=CLIENT_SETTINGS) as cluster,
        address_for_clients(cluster) as address,
    ):
        primary = cluster.wait_for_primary()
        others = [machine for machine in cluster.machines if machine is not primary]
        # PostgreSQL has one some seconds before Patroni, which promotes no other.
        wait_until(lambda: any(map(cluster.may_be_promoted, others)))
        with writing(address, chance) as ledger:
            primary.kill()
            killed_at = time.monotonic()
            wait_until(lambda: ledger.acknowledged[-1][0] > killed_at + 1, FAILOVER_WITHIN)
            ledger.wait_for_writes()
        ledger.measure_longest_pause()
        url = cluster.url(cluster.wait_for_primary(), "taskapp")
        assert check(ledger, url) == Findings()
        ledger.settle()
        assert check(ledger, url) == Findings()
        assert ledger.outcomes[Outcome.ACKNOWLEDGED] > 0


def test_the_playbooks_satisfy_ansible_lint() -> None:
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [
                ENVIRONMENT / "bin" / "ansible-lint",
                "--offline",
                "--nocolor",
                "--profile=production",
                ".",
            ],
            cwd=PLAYBOOKS,
            env=os.environ
            | {"ANSIBLE_HOME": home, "PATH": f"{ENVIRONMENT}/bin:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "unit", sorted(PLAYBOOKS.glob("roles/*/files/*.service")), ids=lambda path: path.name
)
def test_a_unit_of_the_cluster_is_valid(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text().replace("/opt/patroni/bin/patroni", "/usr/sbin/haproxy")
    (tmp_path / unit.name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / unit.name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
