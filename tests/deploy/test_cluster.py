"""deploy/cluster/: the primary is killed, and nothing is lost; its files are right.

`make test-cluster` breaks everything else (tests/cluster/).
"""

import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.faults.checker import Findings, check
from tests.faults.ledger import writing
from tests.support.cluster import DEPLOY, MACHINES, installed_patroni, running_cluster

CLUSTER = DEPLOY / "cluster"
NAMES, ADDRESSES = tuple(MACHINES), tuple(MACHINES.values())


def test_a_killed_primary_is_replaced_and_no_acknowledged_write_is_lost() -> None:
    chance = random.Random(17)  # noqa: S311  # for no secret
    with installed_patroni() as patroni, running_cluster(patroni) as cluster:
        with writing(cluster.address, chance) as ledger:
            cluster.primary().kill()
            ledger.wait_for_writes()
        ledger.measure_longest_pause()
        primary = cluster.primary()
        with primary.host.entered():
            url = primary.url.replace("/postgres?", "/taskapp?")
            assert check(ledger, url) == Findings()
            ledger.settle()
            assert check(ledger, url) == Findings()
        assert [one for each in cluster.machines.values() for one in each.surprises()] == []


@pytest.mark.parametrize("unit", sorted(CLUSTER.glob("*.service")), ids=lambda path: path.name)
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


@pytest.mark.parametrize("name", NAMES)
def test_the_configuration_is_written_for_one_machine_and_closed_to_others(
    name: str, tmp_path: Path
) -> None:
    passwords = {"SUPERUSER_PASSWORD": "s3cret", "REPLICATION_PASSWORD": "an0ther"}
    command = ["sh", str(CLUSTER / "configure.sh"), name, *ADDRESSES, str(tmp_path / "made")]
    subprocess.run(command, env=os.environ | passwords, check=True)
    made = {path.name: path.read_text() for path in (tmp_path / "made").iterdir()}
    assert set(made) == {"etcd.yml", "patroni.yml", "haproxy-database.cfg"}
    assert "@" not in "".join(made.values())
    assert f'name: "{name}"' in made["patroni.yml"]
    assert f'"{ADDRESSES[NAMES.index(name)]}:5432"' in made["patroni.yml"]
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "made").iterdir()} == {0}
    check = ["haproxy", "-c", "-q", "-f", str(tmp_path / "made" / "haproxy-database.cfg")]
    subprocess.run(check, check=True)


@pytest.mark.parametrize(
    ("name", "password", "words"),
    [
        ("db4", "s3cret", "is none of db1"),
        ("db1", "", "is missing"),
        ("db1", "p|w", "letters and digits"),
    ],
)
def test_a_configuration_that_cannot_be_right_is_refused(
    name: str, password: str, words: str, tmp_path: Path
) -> None:
    passwords = {"SUPERUSER_PASSWORD": password, "REPLICATION_PASSWORD": "an0ther"}
    done = subprocess.run(
        ["sh", CLUSTER / "configure.sh", name, *ADDRESSES, tmp_path / "made"],
        env=os.environ | passwords,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "made").exists()
