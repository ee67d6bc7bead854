"""deploy/cluster/ on three addresses of loopback: the primary is killed, and nothing is lost."""

import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from tests.deploy.postgres import PROGRAMS, as_postgres, give_to_postgres
from tests.faults.checker import Findings, check
from tests.faults.ledger import Outcome, writing
from tests.support.database_fixtures import execute
from tests.support.server_process import (
    CHECKOUT,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

CLUSTER = CHECKOUT / "deploy" / "cluster"
NAMES = ("db1", "db2", "db3")
ADDRESSES = ("127.77.0.11", "127.77.0.12", "127.77.0.13")
PASSWORD = secrets.token_hex(16)
STARTED_WITHIN = 120.0  # seconds
FAILOVER_WITHIN = 60.0  # seconds; 17 on machines that do nothing else
IS_READY = (
    "SELECT NOT pg_is_in_recovery() AND count(*) > 0 FROM pg_stat_replication"
    " WHERE sync_state = 'sync'"
)
PYTHON = "/usr/bin/python3"  # the user postgres cannot read that of the tests


class Machine:
    """One of the three: its processes, each the leader of a group."""

    def __init__(self, name: str, folder: Path, patroni: Path) -> None:
        self.name, self.address = name, ADDRESSES[NAMES.index(name)]
        self._folder = folder / name
        self._patroni = patroni
        self._processes: list[subprocess.Popen[bytes]] = []
        self._folder.mkdir(mode=0o700)
        words = {"DATA": str(self._folder), "PROGRAMS": str(PROGRAMS)}
        passwords = {"SUPERUSER_PASSWORD": PASSWORD, "REPLICATION_PASSWORD": PASSWORD}
        subprocess.run(
            ["sh", CLUSTER / "configure.sh", name, *ADDRESSES, self._folder],
            env=os.environ | words | passwords,
            check=True,
        )
        give_to_postgres(self._folder, *self._folder.iterdir())

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@{self.address}/postgres?connect_timeout=2"

    @property
    def proxy_configuration(self) -> Path:
        return self._folder / "haproxy-database.cfg"

    def start_etcd(self) -> None:
        self._start("etcd", "--config-file", self._folder / "etcd.yml")

    def start_patroni(self) -> None:
        self._start(self._patroni, self._folder / "patroni.yml")

    def _start(self, *command: str | Path) -> None:
        with Path(f"{self._folder}.log").open("ab") as log:
            process = subprocess.Popen(
                as_postgres(*command), cwd="/", stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append(process)

    def kill(self) -> None:
        """Kill everything at once, as a power cut does; PostgreSQL is in a session of its own."""
        pids = [process.pid for process in self._processes]
        with suppress(OSError):
            postmaster = (self._folder / "postgresql" / "postmaster.pid").read_text().split()[0]
            pids += [int(pid) for pid in [postmaster, *children_of(postmaster)]]
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self._processes:
            process.wait()
        self._processes.clear()

    def answers(self, query: str) -> list[tuple[Any, ...]]:
        try:
            return execute(self.url, query)
        except psycopg2.OperationalError:
            return []

    def may_be_promoted(self) -> bool:
        """Return whether Patroni knows this machine as the synchronous standby."""
        connection = HTTPConnection(self.address, 8008, timeout=2)
        try:
            connection.request("GET", "/sync")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def log(self) -> str:
        return Path(f"{self._folder}.log").read_text(errors="replace")[-3000:]


def children_of(pid: str) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.fixture(scope="module")
def patroni() -> Iterator[Path]:
    """Install Patroni where the user postgres can read it."""
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        install = ["install", "--quiet", "--requirement", str(CLUSTER / "requirements.txt")]
        subprocess.run([*pip, *install], check=True)
        yield python.with_name("patroni")


@contextmanager
def running_machines(patroni: Path) -> Iterator[list[Machine]]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        machines = [Machine(name, folder, patroni) for name in NAMES]
        for machine in machines:
            stack.callback(machine.kill)
        for machine in machines:
            machine.start_etcd()
        for machine in machines:
            machine.start_patroni()
        yield machines


def primary_of(machines: list[Machine]) -> Machine | None:
    """Return the machine that accepts writes and has a synchronous standby."""
    return next((machine for machine in machines if machine.answers(IS_READY) == [(True,)]), None)


@contextmanager
def database_proxy(machine: Machine) -> Iterator[int]:
    """Run the HAProxy beside a taskapp; return its port."""
    with reserved_port() as port:
        configuration = machine.proxy_configuration
        text = configuration.read_text().replace("127.0.0.1:5000", f"127.0.0.1:{port}")
        configuration.write_text(text)
        command = ["haproxy", "-q", "-f", str(configuration)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as haproxy:
            try:
                yield port
            finally:
                haproxy.terminate()


def leads_to_primary(url: str) -> bool:
    """Return whether HAProxy, which takes turns at first, has left out the standbys."""
    with suppress(psycopg2.OperationalError):
        return all(
            execute(url, "SELECT pg_is_in_recovery()") == [(False,)] for _ in range(2 * len(NAMES))
        )
    return False


def test_a_killed_primary_is_replaced_and_no_acknowledged_write_is_lost(patroni: Path) -> None:
    chance = random.Random(17)  # noqa: S311  # for no secret
    with ExitStack() as stack:
        machines = stack.enter_context(running_machines(patroni))
        try:
            wait_until(lambda: primary_of(machines) is not None, STARTED_WITHIN)
        except AssertionError:
            pytest.fail("\n".join(machine.log() for machine in machines))
        primary = primary_of(machines)
        assert primary is not None
        others = [machine for machine in machines if machine is not primary]
        port = stack.enter_context(database_proxy(others[0]))
        through_proxy = f"{{}}:{PASSWORD}@127.0.0.1:{port}"
        administrator = f"postgresql://{through_proxy.format('postgres')}/postgres"
        wait_until(lambda: leads_to_primary(administrator))
        subprocess.run(
            [
                *("psql", "-h", "127.0.0.1", "-p", str(port), "-U", "postgres", "-q", "-X"),
                *("-v", "ON_ERROR_STOP=1", "-f", str(CHECKOUT / "deploy" / "postgresql-roles.sql")),
            ],
            env=os.environ | {"PGPASSWORD": PASSWORD},
            check=True,
        )
        for role in ("taskapp", "taskapp_owner"):
            execute(administrator, f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
        settings = {
            "TASKAPP_DATABASE_URL": f"postgresql://{through_proxy.format('taskapp')}/taskapp",
            "TASKAPP_MIGRATION_DATABASE_URL": (
                f"postgresql://{through_proxy.format('taskapp_owner')}/taskapp"
            ),
            "TASKAPP_BACKUP_EVERY": "off",
        }
        folder = stack.enter_context(new_data_folder())
        server = stack.enter_context(server_process(folder, settings=settings))
        # PostgreSQL has one some seconds before Patroni, which promotes no other.
        wait_until(lambda: any(each.may_be_promoted() for each in others), STARTED_WITHIN)
        with writing(server.wait_until_ready().address, chance) as ledger:
            primary.kill()
            killed_at = time.monotonic()
            wait_until(lambda: ledger.acknowledged[-1][0] > killed_at + 1, FAILOVER_WITHIN)
            ledger.wait_for_writes()
        ledger.measure_longest_pause()
        replaced = primary_of(others)
        assert replaced is not None
        url = replaced.url.replace("/postgres?", "/taskapp?")
        assert check(ledger, url) == Findings()
        ledger.settle()
        assert check(ledger, url) == Findings()
        assert ledger.outcomes[Outcome.ACKNOWLEDGED] > 0
        assert server.surprises() == []


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
