"""Sets machines up with the playbooks of deploy/cluster/, and asks them how they are."""

import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg2

from tests.deploy.built import make
from tests.deploy.machines import Machine, Network, run, running_network
from tests.support.database_fixtures import execute
from tests.support.server_process import (
    CHECKOUT,
    Client,
    NoResponse,
    reserved_port,
    wait_until,
)

PLAYBOOKS = CHECKOUT / "deploy" / "cluster"
ENVIRONMENT = CHECKOUT / ".venv" / "cluster"  # created by `make test-deploy`
PACKAGES = ENVIRONMENT / "packages"  # which the machines install, because they reach no index
LOCKS = (CHECKOUT / "requirements.lock", PLAYBOOKS / "roles" / "patroni" / "files" / "patroni.lock")
PYTHON = "/usr/bin/python3"  # that of the machines
NAMES = ("db1", "db2", "db3")
SITE_NUMBER, FIRST_NUMBER = 10, 11  # the last parts of addresses
STARTED_WITHIN = 120.0  # seconds
WITHOUT_KNOWN_HOSTS = (
    "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
)
IS_READY = (
    "SELECT NOT pg_is_in_recovery() AND count(*) > 0 FROM pg_stat_replication"
    " WHERE sync_state = 'sync'"
)

CLIENT_SETTINGS = {  # as many requests as a test wants, and quick passwords
    "TASKAPP_BCRYPT_ROUNDS": "4",
    "TASKAPP_API_LIMIT": "1000000/minute",
    "TASKAPP_REGISTER_LIMIT": "1000000/minute",
    "TASKAPP_SUCCESSFUL_LOGIN_LIMIT": "1000000/minute",
}
# What a client on this machine connects to: HTTP on loopback, and TLS that verifies the site.
CLIENT_PROXY = """
defaults
    mode tcp
    timeout connect 2s
    timeout client 60s
    timeout server 60s
listen client
    bind 127.0.0.1:{port}
    server site {address}:443 ssl verify required ca-file {authority}
"""


def fetch_packages() -> None:
    """Download what the machines install with pip, once for each content of the lock files."""
    done = PACKAGES / "done"
    wanted = "".join(lock.read_text() for lock in LOCKS)
    if done.exists() and done.read_text() == wanted:
        return
    pip = [sys.executable, "-m", "pip", "-qq", "--python", PYTHON]
    for lock in LOCKS:
        run(*pip, "download", "--no-deps", "--require-hashes", "-r", lock, "-d", PACKAGES)
    run(*pip, "download", "--dest", PACKAGES, "setuptools", "wheel")  # for those without a wheel
    done.write_text(wanted)


class Cluster:
    """Machines, and the playbooks that are run on them."""

    def __init__(
        self,
        network: Network,
        *,
        databases: Sequence[str] = NAMES,
        backups: bool = False,
        settings: dict[str, str] | None = None,
    ) -> None:
        """Take three machines; those that are no databases are witnesses."""
        self.network = network
        self.machines = [
            network.add(name, FIRST_NUMBER + number, PACKAGES) for number, name in enumerate(NAMES)
        ]
        self.backups = [network.add("backup1", 100, PACKAGES)] if backups else []
        self.settings = settings or {}
        self.wheel: Path | None = None  # of this checkout
        self.voters = list(NAMES)
        self.databases = list(databases)

    @property
    def address(self) -> str:
        """Return the address of the site, which moves."""
        return f"{self.network.prefix}.{SITE_NUMBER}"

    @property
    def secrets(self) -> Path:
        return self.network.folder / "secrets"

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    @property
    def all_machines(self) -> list[Machine]:
        return [*self.machines, *self.backups]

    def start(self) -> None:
        """Turn all machines on, and wait until ssh reaches them."""
        for machine in self.all_machines:
            if not machine.is_on:
                machine.start()
        for machine in self.all_machines:
            machine.wait_for_ssh()

    def write_inventory(self) -> Path:
        hosts = {machine.name: {"ansible_host": machine.address} for machine in self.all_machines}
        groups = {
            "voters": self.voters,
            "machines": self.databases,
            "backups": [machine.name for machine in self.backups],
        }
        variables = {
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.network.key),
            "ansible_ssh_common_args": WITHOUT_KNOWN_HOSTS,
            "ansible_control_path_dir": str(self.network.folder),
            "cluster_address": self.address,
            "cluster_updates_packages": False,
            "cluster_pip_environment": {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(PACKAGES)},
            "taskapp_settings": self.settings,
            **({"taskapp_wheel": str(self.wheel)} if self.wheel else {}),
        }
        children = {
            group: {"hosts": {name: hosts[name] for name in names}}
            for group, names in groups.items()
        }
        inventory = {"all": {"hosts": hosts, "children": children, "vars": variables}}
        path = self.network.folder / "inventory.json"
        path.write_text(json.dumps(inventory))
        return path

    def add(self, name: str) -> Machine:
        """Start another machine, which the inventory has from now on."""
        machine = self.network.add(name, FIRST_NUMBER + len(self.machines), PACKAGES)
        self.machines.append(machine)
        self.databases.append(name)
        self.start()
        return machine

    def play(self, playbook: str, *arguments: str) -> str:
        """Run a playbook to its end; return what it prints."""
        log = self.network.folder / f"{playbook}.log"
        command = [ENVIRONMENT / "bin" / "ansible-playbook", "-i", self.write_inventory(), playbook]
        with log.open("wb") as output:
            done = subprocess.run(
                [*map(str, command), *arguments],
                cwd=PLAYBOOKS,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=os.environ | {"ANSIBLE_NOCOLOR": "1"},
                check=False,
            )
        assert done.returncode == 0, log.read_text()[-6000:]
        return log.read_text()

    def etcd(self, machine: Machine, *words: str) -> str:
        """Run etcdctl on a machine, and return what it prints."""
        configuration = Path("/etc/taskapp-cluster")
        return machine.execute(
            *("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints=https://{machine.address}:2379"),
            f"--cacert={configuration}/authority.pem",
            f"--cert={configuration}/machine.pem",
            f"--key={configuration}/machine.pem",
            *words,
        )

    def url(self, machine: Machine, database: str = "postgres") -> str:
        """Return the address of a machine's PostgreSQL, for the superuser."""
        options = f"sslmode=verify-full&sslrootcert={self.secrets}/authority.pem&connect_timeout=2"
        superuser = f"postgres:{self.secret('superuser')}"
        return f"postgresql://{superuser}@{machine.address}/{database}?{options}"

    def answers(self, machine: Machine, query: str) -> list[tuple[Any, ...]]:
        try:
            return execute(self.url(machine), query)
        except psycopg2.OperationalError:
            return []

    def primary(self) -> Machine | None:
        """Return the machine that accepts writes and has a synchronous standby."""
        running = [
            machine for machine in self.machines if machine.is_on and machine.name in self.databases
        ]
        return next((each for each in running if self.answers(each, IS_READY) == [(True,)]), None)

    def wait_for_primary(self) -> Machine:
        wait_until(lambda: self.primary() is not None, STARTED_WITHIN)
        primary = self.primary()
        assert primary is not None
        return primary

    def may_be_promoted(self, machine: Machine) -> bool:
        """Return whether Patroni knows a machine as the synchronous standby."""
        return self.patroni(machine, "/sync") == 200

    def patroni(self, machine: Machine, path: str) -> int:
        """Return the status of Patroni's response; 0 without one."""
        trust = ssl.create_default_context(cafile=str(self.secrets / "authority.pem"))
        connection = HTTPSConnection(machine.address, 8008, timeout=2, context=trust)
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, HTTPException):
            return 0
        finally:
            connection.close()

    def holder(self) -> Machine | None:
        """Return the machine that has the site's address."""
        running = [machine for machine in self.machines if machine.is_on]
        return next(
            (each for each in running if self.address in each.attempt("ip", "address").stdout), None
        )


@contextmanager
def cluster_of_machines(**options: Any) -> Iterator[Cluster]:
    """Prepare machines, which are off; they are gone at the end."""
    make("wheel")
    fetch_packages()
    with running_network() as network:
        yield Cluster(network, **options)


@contextmanager
def running_cluster(**options: Any) -> Iterator[Cluster]:
    """Set up a cluster with site.yml; its machines are gone at the end."""
    with cluster_of_machines(**options) as cluster:
        cluster.start()
        cluster.play("site.yml")
        yield cluster


def acknowledges_writes(address: str) -> bool:
    with Client(address) as client:
        try:
            client.sign_up(f"{uuid4().hex[:12]}@example.com")
        except (NoResponse, AssertionError):
            return False
    return True


@contextmanager
def address_for_clients(cluster: Cluster) -> Iterator[str]:
    """Yield a port on loopback that leads to the site."""
    with reserved_port() as port:
        configuration = cluster.network.folder / "client.cfg"
        authority = cluster.secrets / "authority.pem"
        text = CLIENT_PROXY.format(port=port, address=cluster.address, authority=authority)
        configuration.write_text(text)
        command = ["haproxy", "-q", "-f", str(configuration)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as haproxy:
            try:
                # keepalived may give the address to another machine, until all have started.
                wait_until(lambda: acknowledges_writes(str(port)))
                yield str(port)
            finally:
                haproxy.terminate()
