"""Two machines and a witness: whichever of them dies, writes go on, and nothing is lost.

The address of the site is on one of the two.
"""

import random
import time
from collections.abc import Iterator

import pytest

from tests.deploy.cluster import CLIENT_SETTINGS, Cluster, address_for_clients, cluster_of_machines
from tests.deploy.machines import Machine
from tests.faults.checker import Findings, check
from tests.faults.ledger import Ledger, writing
from tests.support.server_process import wait_until

FAILOVER_WITHIN = 60.0  # seconds; 17 on machines that do nothing else
STAYS = 10.0  # seconds, in which keepalived would have moved the address three times


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


def test_when_haproxy_hangs_the_address_moves_to_the_other_machine_and_stays_there(
    cluster: Cluster, chance: random.Random
) -> None:
    primary, _, _ = in_their_roles(cluster)
    with address_for_clients(cluster) as address:
        holder = holder_of_address(cluster)
        with writing(address, chance) as ledger:
            move_address(cluster)
            ledger.wait_for_writes()
            other = holder_of_address(cluster)
            time.sleep(STAYS)
            assert holder_of_address(cluster) is other is not holder
        ledger.measure_longest_pause()
        assert_nothing_is_lost(cluster, primary, ledger)


def test_when_the_holder_of_the_address_dies_writes_go_on(
    cluster: Cluster, chance: random.Random
) -> None:
    primary, standby, _ = in_their_roles(cluster)
    if holder_of_address(cluster) is primary:
        move_address(cluster)
    assert holder_of_address(cluster) is standby
    assert_writes_go_on(cluster, chance, dies=standby, primary=primary)
    assert holder_of_address(cluster) is primary


def holder_of_address(cluster: Cluster) -> Machine:
    wait_until(lambda: cluster.holder() is not None)
    holder = cluster.holder()
    assert holder is not None
    return holder


def move_address(cluster: Cluster) -> None:
    """Let HAProxy hang where the address is, until it has moved."""
    holder = holder_of_address(cluster)
    holder.execute("systemctl", "kill", "--signal=STOP", "haproxy")
    try:
        wait_until(lambda: cluster.holder() not in (None, holder))
    finally:
        holder.execute("systemctl", "kill", "--signal=CONT", "haproxy")


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
        assert_nothing_is_lost(cluster, primary, ledger)


def assert_nothing_is_lost(cluster: Cluster, primary: Machine, ledger: Ledger) -> None:
    url = cluster.url(primary, "taskapp")
    assert check(ledger, url) == Findings()
    ledger.settle()
    assert check(ledger, url) == Findings()
