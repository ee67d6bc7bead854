"""What an operator does with a cluster, by the playbooks of deploy/cluster/, while people work.

One cluster, in the order of the file: each test leaves it whole.
"""

import random
import re
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.deploy.cluster import (
    CLIENT_SETTINGS,
    Cluster,
    address_for_clients,
    running_cluster,
)
from tests.deploy.machines import Machine, run
from tests.faults.checker import Findings, check
from tests.faults.ledger import Ledger, Outcome, going_on, sign_up
from tests.support.database_fixtures import execute
from tests.support.server_process import CHECKOUT, wait_until

NEXT_VERSION = "99.0.0"
IGNORED = shutil.ignore_patterns(
    ".venv", ".git", "node_modules", "dist", "build", "data", "*.egg-info"
)
RECAP = re.compile(
    r"^(\S+) +: ok=\d+ +changed=(\d+) +unreachable=(\d+) +failed=(\d+)", re.MULTILINE
)
THINKING = 0.5  # max seconds between two writes of one writer
INSERT = "INSERT INTO marks VALUES (%s)"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with running_cluster(backups=True, settings=CLIENT_SETTINGS) as running:
        yield running


@pytest.fixture
def address(cluster: Cluster) -> Iterator[str]:
    cluster.wait_for_primary()
    with address_for_clients(cluster) as port:
        yield port


@contextmanager
def people_work(address: str) -> Iterator[Ledger]:
    """Write while the block runs, with pauses, which leave the processor to the playbooks."""
    ledger = Ledger()
    sign_up(ledger, address, 3)
    with going_on(ledger, random.Random(17), thinking=THINKING):  # noqa: S311  # for no secret
        ledger.wait_for_writes()
        yield ledger


def assert_nothing_is_lost(cluster: Cluster, ledger: Ledger) -> None:
    ledger.measure_longest_pause()
    url = cluster.url(cluster.wait_for_primary(), "taskapp")
    assert check(ledger, url) == Findings()
    ledger.settle()
    assert check(ledger, url) == Findings()
    assert ledger.outcomes[Outcome.ACKNOWLEDGED] > 0


def wheel_of_next_version(folder: Path) -> Path:
    """Build the release after this one."""
    shutil.copytree(CHECKOUT, folder / "next", ignore=IGNORED)
    project = folder / "next" / "pyproject.toml"
    version = f'version = "{NEXT_VERSION}"'
    text, count = re.subn(r'(?m)^version = ".*"', version, project.read_text())
    assert count == 1
    project.write_text(text)
    pip = [sys.executable, str(CHECKOUT / "deploy" / "run_pip.py"), "wheel"]
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, folder / "next")
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_a_second_run_of_the_playbook_changes_nothing(cluster: Cluster) -> None:
    recap = RECAP.findall(cluster.play("site.yml"))
    assert recap == [(machine.name, "0", "0", "0") for machine in sorted_by_name(cluster)]


def sorted_by_name(cluster: Cluster) -> list[Machine]:
    return sorted(cluster.all_machines, key=lambda machine: machine.name)


def test_taskapp_is_upgraded_while_people_work(
    cluster: Cluster, address: str, tmp_path: Path
) -> None:
    wheel = wheel_of_next_version(tmp_path)
    with people_work(address) as ledger:
        cluster.play("upgrade-taskapp.yml", "-e", f"taskapp_wheel={wheel}")
        ledger.wait_for_writes()
    cluster.wheel = wheel
    for machine in cluster.machines:
        folder = machine.execute("readlink", "-f", "/opt/taskapp/current").strip()
        assert NEXT_VERSION in machine.execute(f"{folder}/bin/taskapp", "--version")
        show = ("systemctl", "show", "--property=MainPID", "--value", "taskapp@8001")
        pid = machine.execute(*show).strip()
        assert folder in machine.execute("cat", f"/proc/{pid}/cmdline")
    assert_nothing_is_lost(cluster, ledger)
    assert ledger.outcomes[Outcome.REFUSED] == 0
    assert ledger.outcomes[Outcome.UNKNOWN] == 0


def next_package(folder: Path, name: str) -> str:
    """Write a package of Debian with a later version, and the index of a repository; return it."""
    folder.chmod(0o755)  # apt reads it as the user _apt
    run("sh", "-c", f"cd {folder} && apt-get download -qq {name}")
    (package,) = folder.glob("*.deb")
    tree = folder / "tree"
    run("dpkg-deb", "--raw-extract", package, tree)
    package.unlink()
    control = tree / "DEBIAN" / "control"
    text = re.sub(r"(?m)^(Version: .*)$", r"\1+next", control.read_text())
    control.write_text(text)
    built = folder / f"{name}.deb"
    run("dpkg-deb", "--build", "-Znone", tree, built)
    shutil.rmtree(tree)
    digest = run("sha256sum", built).split()[0]
    index = f"{text}Filename: ./{built.name}\nSize: {built.stat().st_size}\nSHA256: {digest}\n"
    (folder / "Packages").write_text(index)
    (version,) = re.findall(r"(?m)^Version: (.*)$", text)
    return str(version)


def test_postgresql_gets_its_next_minor_version_and_nothing_is_lost(
    cluster: Cluster, address: str, tmp_path: Path
) -> None:
    (name,) = set(re.findall(r"postgresql-\d+(?=\s+install)", run("dpkg", "--get-selections")))
    version = next_package(tmp_path, name)
    for machine in cluster.machines:
        machine.copy(tmp_path, "/srv/packages")
        machine.execute("sh", "-c", "rm -rf /etc/apt/sources.list* /var/lib/apt/lists/*")
        machine.write("/etc/apt/sources.list", "deb [trusted=yes] file:/srv/packages ./\n")
    with people_work(address) as ledger:
        cluster.play("upgrade-postgresql.yml", "-e", "cluster_updates_packages=true")
        ledger.wait_for_writes()
    for machine in cluster.machines:
        assert machine.execute("dpkg-query", "-f", "${Version}", "-W", name) == version
        pid = machine.execute("head", "-n", "1", "/var/lib/taskapp-db/postgresql/postmaster.pid")
        assert "deleted" not in machine.execute("readlink", f"/proc/{pid.strip()}/exe")
    assert_nothing_is_lost(cluster, ledger)


def test_a_machine_that_is_lost_with_its_disk_is_replaced(cluster: Cluster, address: str) -> None:
    primary = cluster.wait_for_primary()
    with people_work(address) as ledger:
        primary.kill()
        primary.wipe()
        primary.start()
        primary.wait_for_ssh()
        cluster.play("replace-machine.yml", "-e", f"machine={primary.name}")
        ledger.wait_for_writes()
    wait_until(lambda: cluster.patroni(primary, "/replica") == 200)
    members = cluster.etcd(cluster.machines[0], "member", "list")
    assert sorted(re.findall(r"started, (\w+)", members)) == ["db1", "db2", "db3"]
    assert_nothing_is_lost(cluster, ledger)


def test_a_machine_is_added(cluster: Cluster, address: str) -> None:
    added = cluster.add("db4")
    with people_work(address) as ledger:
        cluster.play("add-machine.yml", "-e", "machine=db4")
        ledger.wait_for_writes()
    wait_until(lambda: cluster.patroni(added, "/replica") == 200)
    for machine in cluster.machines:
        assert f"server db4 {added.address}:8443" in machine.execute(
            "cat", "/etc/haproxy/haproxy.cfg"
        )
    assert_nothing_is_lost(cluster, ledger)


def test_all_is_restored_on_new_machines_up_to_a_moment(cluster: Cluster) -> None:
    url = cluster.url(cluster.wait_for_primary(), "taskapp")
    kept, dropped = str(uuid4()), str(uuid4())
    execute(url, "CREATE TABLE marks (mark text)")
    execute(url, INSERT, kept)
    ((moment,),) = execute(url, "SELECT clock_timestamp()::text")
    time.sleep(1)
    execute(url, INSERT, dropped)
    execute(url, "SELECT pg_switch_wal()")
    archived = "SELECT last_archived_time > %s FROM pg_stat_archiver"
    wait_until(lambda: execute(url, archived, moment) == [(True,)])
    for machine in cluster.machines:
        machine.kill()
        machine.wipe()
    cluster.start()
    cluster.play("restore.yml", "-e", f'{{"cluster_restore_to": "{moment}"}}')
    url = cluster.url(cluster.wait_for_primary(), "taskapp")
    assert execute(url, "SELECT mark FROM marks") == [(kept,)]
    with address_for_clients(cluster) as port, people_work(port) as ledger:
        ledger.wait_for_writes()
    assert_nothing_is_lost(cluster, ledger)


def test_a_restore_onto_machines_that_have_data_is_refused(cluster: Cluster) -> None:
    with pytest.raises(AssertionError, match="has data in /var/lib/taskapp-db"):
        cluster.play("restore.yml")
