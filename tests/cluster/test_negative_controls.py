"""What loses acknowledged writes is found out by the same checker, and what does not is not."""

import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest

from taskapp.core.errors import OutcomeUnknown
from tests.cluster.load import POSTGRESQL, repeating
from tests.faults.checker import Findings, check
from tests.faults.ledger import (
    Attempt,
    Ledger,
    LedgerTask,
    Writer,
    owner_of,
    sign_up,
    writing,
)
from tests.support.cluster import Cluster, Machine, installed_patroni, running_cluster
from tests.support.server_process import CHECKOUT, wait_until

END_WAITS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
FEW = 5  # writes
EARLIER = "a3e469c"
UNKNOWN_OF_EARLIER = (
    "The database stopped answering while this was being saved: it may or may not have been saved."
    " Look before you send it again."
)
FROZEN = 36.0  # seconds
TRIES = 3


def findings_on_the_primary(cluster: Cluster, ledger: Ledger) -> Findings:
    primary = cluster.primary()
    with primary.host.entered():
        return check(ledger, primary.url.replace("/postgres?", "/taskapp?"))


def wait_for_another_primary(cluster: Cluster, old: Machine) -> None:
    def is_there() -> bool:
        return any(
            machine.ask_patroni("GET", "/primary")[0] == 200
            for machine in cluster.machines.values()
            if machine is not old
        )

    wait_until(is_there)


@contextmanager
def asynchronous(cluster: Cluster) -> Iterator[None]:
    """Let the primary acknowledge what no standby has, while the block runs."""

    def names() -> str:
        ((setting,),) = cluster.primary().execute("SHOW synchronous_standby_names")
        return str(setting)

    cluster.configure(synchronous_mode=False, synchronous_mode_strict=False)
    wait_until(lambda: names() == "")
    try:
        yield
    finally:
        cluster.configure(synchronous_mode=True, synchronous_mode_strict=True)


def test_a_cluster_that_does_not_wait_for_its_standbys_loses(
    cluster: Cluster, chance: random.Random
) -> None:
    cluster.wait_until_healthy()
    with asynchronous(cluster):
        primary = cluster.primary()
        others = [machine.host for machine in cluster.standbys()]
        replication_cut = primary.host.cut_off(*others, ports=(POSTGRESQL,))
        with writing(cluster.address, chance) as ledger, replication_cut:
            ledger.wait_for_writes(FEW)
            primary.kill()
        wait_for_another_primary(cluster, primary)
        wait_until(lambda: cluster.primary() is not primary)
        lost = findings_on_the_primary(cluster, ledger).lost
        primary.start()
    cluster.wait_until_healthy()
    assert len(lost) >= FEW


def delete_while_waits_are_ended(cluster: Cluster, chance: random.Random) -> Ledger:
    """Delete tasks while no standby is there, end what waits for one, and then kill the primary.

    What waited has happened on the primary, and nowhere else; each deletion is sent again.
    """
    cluster.wait_until_healthy()
    primary = cluster.primary()
    others = [machine.host for machine in cluster.standbys()]
    ledger = Ledger()
    sign_up(ledger, cluster.address, FEW)
    writers = [Writer(ledger, user, chance) for user in ledger.users]
    for writer in writers:
        ledger.tasks.append(LedgerTask(owner_of(writer.client), str(uuid4())))
        ledger.tasks[-1].attempt = Attempt("POST", 0)
        assert writer.send(ledger.tasks[-1])
        ledger.tasks[-1].attempt = Attempt("DELETE", None)

    def end_waits() -> None:
        primary.execute(END_WAITS)

    with ExitStack() as stack:
        stack.enter_context(primary.host.cut_off(*others, ports=(POSTGRESQL,)))
        for writer, task in zip(writers, ledger.tasks, strict=True):
            stack.callback(writer.client.close)
            stack.enter_context(repeating(partial(send_if_unsettled, writer, task), 0.1))
        with repeating(end_waits, 0.1):
            time.sleep(6)  # less than what makes Patroni look for another standby
        primary.kill()
    wait_for_another_primary(cluster, primary)
    wait_until(lambda: cluster.primary() is not primary)
    return ledger


def send_if_unsettled(writer: Writer, task: LedgerTask) -> None:
    if task.attempt:
        writer.send(task)


def test_what_happened_on_a_lost_primary_alone_was_told_to_nobody_who_repeated_it(
    cluster: Cluster, chance: random.Random
) -> None:
    old = cluster.primary()
    ledger = delete_while_waits_are_ended(cluster, chance)
    findings = findings_on_the_primary(cluster, ledger)
    old.start()
    cluster.wait_until_healthy()
    assert findings == Findings()


@contextmanager
def earlier_taskapp() -> Iterator[Path]:
    """Yield the program of a version whose repeated changes wait for nothing."""
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        archive = ["git", "-C", str(CHECKOUT), "archive", EARLIER]
        files = subprocess.run(archive, check=True, capture_output=True).stdout
        subprocess.run(["tar", "-x", "-C", name], input=files, check=True)
        yield Path(name, "server.py")


def test_a_taskapp_whose_repeated_changes_wait_for_nothing_loses(
    patroni: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OutcomeUnknown, "detail", UNKNOWN_OF_EARLIER)
    with earlier_taskapp() as program, running_cluster(patroni, program) as cluster:
        for _ in range(TRIES):
            old = cluster.primary()
            ledger = delete_while_waits_are_ended(cluster, chance)
            if findings_on_the_primary(cluster, ledger).lost:
                return
            old.start()
    pytest.fail(f"nothing was lost in {TRIES} tries")


@pytest.fixture(scope="module")
def patroni_of_debian_12() -> Iterator[Path]:
    with installed_patroni("patroni[etcd3]==3.0.2", "psycopg2-binary", "urllib3<2") as program:
        yield program


def test_patroni_of_debian_12_loses_when_a_frozen_primary_wakes_up(
    patroni_of_debian_12: Path, chance: random.Random
) -> None:
    with running_cluster(patroni_of_debian_12) as cluster:
        for _ in range(TRIES):
            primary = cluster.primary()
            with writing(cluster.address, chance) as ledger:
                with primary.frozen("patroni", "postgresql"):
                    time.sleep(FROZEN)
                time.sleep(FROZEN)  # it takes its place back, and the others follow
            wait_until(lambda: "leader" in {each["role"] for each in cluster.members().values()})
            if findings_on_the_primary(cluster, ledger).lost:
                return
            cluster.wait_until_healthy()
    pytest.fail(f"nothing was lost in {TRIES} tries")
