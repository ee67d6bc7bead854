"""Two machines and a witness: whichever of them dies, writes go on, and nothing is lost."""

import random
import time
from collections.abc import Iterator

import pytest

from tests.deploy.cluster import CLIENT_SETTINGS, Cluster, address_for_clients, cluster_of_machines
from tests.deploy.machines import Machine
from tests.faults.checker import Findings, check
from tests.faults.ledger import writing
from tests.support.server_process import wait_until

FAILOVER_WITHIN = 60.0  # seconds; 17 on machines that do nothing else


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with cluster_of_machines(databases=("db1", "db2"), settings=CLIENT_SETTINGS) as machines:
        machines.start()
        machines.machines[2].execute("userdel", "postgres")  # as where no PostgreSQL is
        machines.play("site.yml")
        yield machines


def test_when_the_witness_dies_writes_go_on(cluster: Cluster, chance: random.Random) -> None:
    primary, _, witness = in_their_roles(cluster)
    assert_writes_go_on(cluster, chance, dies=witness, primary=primary)


def test_when_the_standby_dies_writes_go_on(cluster: Cluster, chance: random.Random) -> None:
    primary, standby, _ = in_their_roles(cluster)
    assert_writes_go_on(cluster, chance, dies=standby, primary=primary)


def test_when_the_primary_dies_the_standby_takes_the_writes(
    cluster: Cluster, chance: random.Random
) -> None:
    primary, standby, _ = in_their_roles(cluster)
    assert_writes_go_on(cluster, chance, dies=primary, primary=standby)


def in_their_roles(cluster: Cluster) -> tuple[Machine, Machine, Machine]:
    """Turn all on; return the primary, its synchronous standby and the witness."""
    cluster.start()
    db1, db2, witness = cluster.machines
    primary = cluster.wait_for_primary()
    standby = db2 if primary is db1 else db1
    # PostgreSQL has one some seconds before Patroni, which promotes no other.
    wait_until(lambda: cluster.may_be_promoted(standby))
    return primary, standby, witness


def assert_writes_go_on(
    cluster: Cluster, chance: random.Random, *, dies: Machine, primary: Machine
) -> None:
    with address_for_clients(cluster) as address:
        with writing(address, chance) as ledger:
            dies.kill()
            killed_at = time.monotonic()
            wait_until(lambda: ledger.acknowledged[-1][0] > killed_at + 1, FAILOVER_WITHIN)
            ledger.wait_for_writes()
        ledger.measure_longest_pause()
        assert cluster.patroni(primary, "/primary") == 200
        url = cluster.url(primary, "taskapp")
        assert check(ledger, url) == Findings()
        ledger.settle()
        assert check(ledger, url) == Findings()
