"""Each part of deploy/cluster/ is broken under load: nothing is lost, and it goes on by itself.

docs/reliability.md has the results of one run.
"""

import time

import pytest

from tests.cluster.conftest import Experiment
from tests.cluster.load import BACK_WITHIN, POSTGRESQL, Load
from tests.support.cluster import Cluster, Machine
from tests.support.server_process import PASSWORD, Client, wait_until

LEASE = 20.0  # seconds: Patroni's ttl, after which a primary that renews nothing is replaced
LONG_AFTER = 10.0  # seconds that a fault goes on after the cluster has got over it
ETCD, ETCD_PEERS = 2379, 2380  # ports


def timeline_of(machine: Machine) -> int:
    ((timeline,),) = machine.execute("SELECT timeline_id FROM pg_control_checkpoint()")
    return int(timeline)


def wait_for_replacement(load: Load, primary: Machine, timeline: int) -> None:
    """Wait until another primary acknowledges writes, and some seconds more."""
    load.wait_for_timeline(timeline)
    load.wait_for_writes()
    time.sleep(LONG_AFTER)
    assert not any(
        one.timeline > timeline for one in load.probes[0].writes if one.machine == primary.name
    )


def test_a_primary_that_loses_power_is_replaced_within_30_seconds(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("the primary's machine loses power") as load:
        primary = cluster.primary()
        timeline = timeline_of(primary)
        primary.kill()
        wait_for_replacement(load, primary, timeline)
        primary.start()
    assert load.write_pause < BACK_WITHIN


def test_a_postgresql_that_is_killed_is_restarted_within_30_seconds(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("PostgreSQL of the primary is killed") as load:
        cluster.primary().kill("postgresql")
        load.wait_for_writes()
    assert load.write_pause < BACK_WITHIN


def test_a_frozen_primary_is_replaced_within_30_seconds_and_harms_nothing_when_it_wakes_up(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment(
        "the primary's machine freezes, and wakes up 10 s after its replacement"
    ) as load:
        primary = cluster.primary()
        timeline = timeline_of(primary)
        with primary.frozen():
            wait_for_replacement(load, primary, timeline)
    assert load.write_pause < BACK_WITHIN


def test_a_primary_that_pauses_for_less_than_its_lease_stays_primary(
    cluster: Cluster, experiment: Experiment
) -> None:
    pause = 8.0
    with experiment(f"the primary's machine pauses for {pause:.0f} s") as load:
        primary = cluster.primary()
        with primary.frozen():
            time.sleep(pause)
        load.wait_for_writes()
        assert cluster.primary() is primary
    assert load.write_pause < BACK_WITHIN


def test_a_primary_that_is_cut_off_is_replaced_within_30_seconds(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("the primary's machine is cut off from all") as load:
        primary = cluster.primary()
        timeline = timeline_of(primary)
        with primary.host.cut_off():
            wait_for_replacement(load, primary, timeline)
    assert load.write_pause < BACK_WITHIN


def test_a_primary_that_is_cut_off_from_etcd_goes_on_without_a_pause(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("the primary is cut off from etcd for 30 s") as load:
        primary = cluster.primary()
        others = [machine.host for machine in cluster.standbys()]
        with primary.host.cut_off(*others, ports=(ETCD, ETCD_PEERS)):
            time.sleep(LEASE + LONG_AFTER)
            load.wait_for_writes()
            assert cluster.primary() is primary
    assert load.write_pause < LONG_AFTER


def test_a_primary_that_is_cut_off_from_its_standbys_alone_acknowledges_nothing_and_reads_go_on(
    cluster: Cluster, experiment: Experiment
) -> None:
    """Patroni leaves it primary: writes wait until the network is mended."""
    with experiment("the primary is cut off from its standbys alone for 30 s") as load:
        primary = cluster.primary()
        others = [machine.host for machine in cluster.standbys()]
        with primary.host.cut_off(*others, ports=(POSTGRESQL,)):
            time.sleep(LONG_AFTER)
            written, began = len(load.ledger.acknowledged), time.monotonic()
            time.sleep(LEASE)
            assert len(load.ledger.acknowledged) == written
            assert cluster.primary() is primary
            assert any(at > began for reader in load.readers for at in reader.read)
        mended = time.monotonic()
        load.wait_for_writes()
        assert time.monotonic() - mended < BACK_WITHIN
    assert load.read_pause < BACK_WITHIN


def test_a_synchronous_standby_that_loses_power_is_replaced_within_30_seconds(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("the synchronous standby's machine loses power") as load:
        standby = cluster.synchronous_standby()
        standby.kill()
        load.wait_for_writes()
        wait_until(cluster.has_spare)
        assert cluster.synchronous_standby() is not standby
        standby.start()
    assert load.write_pause < BACK_WITHIN


@pytest.mark.parametrize("which", ["one that follows", "the leader", "two of three"])
def test_writes_go_on_without_a_pause_while_etcd_is_away(
    cluster: Cluster, experiment: Experiment, which: str
) -> None:
    with experiment(f"etcd is killed for 30 s: {which}") as load:
        primary = cluster.primary()
        leader = cluster.etcd_leader()
        followers = [each for each in cluster.machines.values() if each is not leader]
        victims = {"the leader": [leader], "one that follows": followers[:1]}.get(
            which, [leader, followers[0]]
        )
        for machine in victims:
            machine.kill("etcd")
            assert machine.ask(ETCD, "GET", "/health")[0] == 0
        time.sleep(LEASE + LONG_AFTER)
        load.wait_for_writes()
        assert cluster.primary() is primary
        for machine in victims:
            machine.start("etcd")
    assert load.write_pause < LONG_AFTER


def test_a_primary_whose_patroni_hangs_is_replaced_within_30_seconds(
    cluster: Cluster, experiment: Experiment
) -> None:
    """Without a watchdog it goes on beside the new one, and acknowledges nothing."""
    with experiment("Patroni of the primary hangs") as load:
        primary = cluster.primary()
        timeline = timeline_of(primary)
        with primary.frozen("patroni"):
            wait_for_replacement(load, primary, timeline)
    assert load.write_pause < BACK_WITHIN


def test_a_switchover_takes_less_than_30_seconds(cluster: Cluster, experiment: Experiment) -> None:
    with experiment("switchover") as load:
        primary, standby = cluster.primary(), cluster.synchronous_standby()
        wanted = {"leader": primary.name, "candidate": standby.name}
        status, said = primary.ask_patroni("POST", "/switchover", wanted)
        assert status == 200, said
        load.wait_for_writes()
        assert cluster.primary() is standby
    assert load.write_pause < BACK_WITHIN


@pytest.mark.parametrize("service", ["taskapp", "database-proxy"])
def test_a_taskapp_or_an_haproxy_that_is_killed_stops_no_write(
    cluster: Cluster, experiment: Experiment, service: str
) -> None:
    with experiment(f"{service} of one machine is killed") as load:
        machine = cluster.standbys()[0]
        machine.kill(service)
        wait_until(lambda: not machine.is_healthy())
        time.sleep(LONG_AFTER)
        load.wait_for_writes()
        machine.start(service)
    assert load.write_pause < LONG_AFTER


def test_without_redis_tasks_are_written_and_nobody_logs_in(
    cluster: Cluster, experiment: Experiment
) -> None:
    with experiment("Redis is killed for 10 s") as load, Client(cluster.address) as bob:
        cluster.kill_redis()
        time.sleep(LONG_AFTER)
        load.wait_for_writes()
        alice = {"email": load.ledger.users[0].email, "password": PASSWORD}
        assert bob.send("POST", "/api/auth/login", alice).status == 503
        cluster.start_redis()
        wait_until(lambda: bob.send("POST", "/api/auth/login", alice).status == 200)
    assert load.write_pause < BACK_WITHIN
