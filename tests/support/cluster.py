"""deploy/cluster/ brought up: three machines with everything, and a host with HAProxy and Redis.

`Cluster` and `Machine` are all that the tests know of it.
"""

import json
import os
import re
import secrets
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from http.client import HTTPConnection, HTTPSConnection
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from tests.deploy.certificates import make_authority
from tests.deploy.postgres import PROGRAMS, give_to_postgres
from tests.support.database_fixtures import execute
from tests.support.namespaces import Host, running_hosts
from tests.support.server_process import (
    CHECKOUT,
    PROGRAM,
    ServerProcess,
    stopped_processes,
    wait_until,
)

DEPLOY = CHECKOUT / "deploy"
ROLES = DEPLOY / "cluster" / "roles"
CONFIGURATION = {"etcd": "etcd.yml", "patroni": "patroni.yml", "proxy": "proxy.cfg"}  # by role
MACHINES = {"db1": "10.77.0.11", "db2": "10.77.0.12", "db3": "10.77.0.13"}
FRONT = "10.77.0.20"
PASSWORD = secrets.token_hex(16)
SECRET_KEY = secrets.token_hex(32)
STARTED_WITHIN = 180.0  # seconds
PYTHON = "/usr/bin/python3"  # the user postgres cannot read that of the tests
# Becomes the program, while runuser would wait for it: who is killed is the program itself.
AS_POSTGRES = ("setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups")
DATABASE_PROXY = "127.0.0.1:5000"
TASKAPP_PORT, PATRONI_PORT, ETCD_PORT = 8000, 8008, 2379
FOLLOWING = {"streaming", "running"}  # Patroni says "running" before 3.1
SERVICES = ("etcd", "patroni", "database-proxy", "taskapp")  # in the order in which they start


@contextmanager
def installed_patroni(*requirements: str) -> Iterator[Path]:
    """Install Patroni where the user postgres can read it; return the program."""
    wanted = requirements or ("--requirement", str(ROLES / "patroni" / "files" / "patroni.lock"))
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        subprocess.run([PYTHON, "-m", "venv", "--without-pip", folder / "venv"], check=True)
        python = folder / "venv" / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(python)]
        subprocess.run([*pip, "install", "-qq", *wanted], check=True)
        yield python.with_name("patroni")


class Machine:
    """One of the three: etcd, Patroni with PostgreSQL, HAProxy and a taskapp."""

    def __init__(self, host: Host, folder: Path, patroni: Path, program: Path) -> None:
        self.host, self.name, self.address = host, host.name, host.address
        self._folder = folder / host.name
        self._patroni, self._program = patroni, program
        self._processes: dict[str, subprocess.Popen[Any]] = {}
        self._off = ExitStack()
        self._taskapp: ServerProcess | None = None
        self._folder.mkdir(mode=0o700)
        self._write_configuration(folder)
        give_to_postgres(self._folder, *self._folder.iterdir())

    def _write_configuration(self, secrets_folder: Path) -> None:
        """Fill in the templates of the playbook, with a certificate of the cluster's authority."""
        script = str(ROLES / "tls" / "files" / "make_certificate.sh")
        make = ["sh", script, str(secrets_folder), self.name, self.address, self.address]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL)
        shutil.copy(secrets_folder / f"{self.name}.pem", self._folder / "machine.pem")
        shutil.copy(secrets_folder / "authority.pem", self._folder)
        values = {
            "inventory_hostname": self.name,
            "ansible_host": self.address,
            "groups": {"voters": list(MACHINES), "machines": list(MACHINES), "backups": []},
            "hostvars": {name: {"ansible_host": address} for name, address in MACHINES.items()},
            "etcd_state": "new",
            "cluster_data": self._folder,
            "cluster_authority": self._folder / "authority.pem",
            "cluster_certificate": self._folder / "machine.pem",
            "cluster_postgresql_version": PROGRAMS.parent.name,
            "cluster_superuser_password": PASSWORD,
            "cluster_replication_password": PASSWORD,
            "cluster_redis_password": PASSWORD,
        }
        environment = Environment(  # noqa: S701  # what is written is no HTML
            undefined=StrictUndefined, trim_blocks=True, keep_trailing_newline=True
        )
        environment.filters["to_json"] = json.dumps
        for role, file in CONFIGURATION.items():
            template = (ROLES / role / "templates" / f"{file}.j2").read_text()
            (self._folder / file).write_text(environment.from_string(template).render(values))

    @property
    def url(self) -> str:
        """Return the address of its own PostgreSQL for the superuser."""
        return f"postgresql://postgres:{PASSWORD}@{self.address}/postgres?connect_timeout=2"

    def execute(self, statement: str, *values: object, database: str = "") -> list[tuple[Any, ...]]:
        """Run a statement in its own PostgreSQL."""
        url = self.url.replace("/postgres?", f"/{database}?") if database else self.url
        with self.host.entered():
            return execute(url, statement, *values)

    def ask_patroni(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Return status and body of a response of Patroni; the status is 0 without one."""
        return self.ask(PATRONI_PORT, method, path, body)

    def ask(self, port: int, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = self._connection_to(port)
        try:
            with self.host.entered():
                connection.request(method, path, json.dumps(body) if body else None)
                response = connection.getresponse()
                content = response.read()
            with suppress(ValueError):
                return response.status, json.loads(content)
            return response.status, content.decode()
        except OSError:
            return 0, None
        finally:
            connection.close()

    def _connection_to(self, port: int) -> HTTPConnection:
        """Return a connection, with certificates of both sides where there are some."""
        if port not in {PATRONI_PORT, ETCD_PORT}:
            return HTTPConnection(self.address, port, timeout=10)
        context = ssl.create_default_context(cafile=str(self._folder / "authority.pem"))
        context.load_cert_chain(self._folder / "machine.pem")
        return HTTPSConnection(self.address, port, timeout=10, context=context)

    def start(self, *services: str) -> None:
        """Start services, or after a power cut all of them."""
        if not services:
            self._off.close()
        for service in services or SERVICES:
            self._start(service)

    def _start(self, service: str) -> None:
        if service == "taskapp":
            self._taskapp = self._start_taskapp()
            self._processes[service] = self._taskapp.process
            return
        command: dict[str, tuple[str | Path, ...]] = {
            "etcd": ("etcd", "--config-file", self._folder / "etcd.yml"),
            "patroni": (self._patroni, self._folder / "patroni.yml"),
            "database-proxy": ("haproxy", "-q", "-f", self._folder / "proxy.cfg"),
        }
        with Path(f"{self._folder}.log").open("ab") as log:
            self._processes[service] = subprocess.Popen(
                [*self.host.launcher, *AS_POSTGRES, *command[service]],
                cwd="/",
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _start_taskapp(self) -> ServerProcess:
        def url(role: str) -> str:
            return f"postgresql://{role}:{PASSWORD}@{DATABASE_PROXY}/taskapp"

        settings = {
            "TASKAPP_DATABASE_URL": url("taskapp"),
            "TASKAPP_MIGRATION_DATABASE_URL": url("taskapp_owner"),
            "TASKAPP_SECRET_KEY": SECRET_KEY,
            "TASKAPP_LIMIT_STORAGE": f"redis://{FRONT}:6379",
            "TASKAPP_TRUSTED_PROXIES": FRONT,
            "TASKAPP_METRICS_ALLOW": FRONT,
            "TASKAPP_BACKUP_EVERY": "off",
            "TASKAPP_HOST": self.address,
            "TASKAPP_PORT": str(TASKAPP_PORT),
        }
        warnings = ["-W", "error"] if self._program == PROGRAM else []  # of an earlier version
        return ServerProcess(
            Path(f"{self._folder}-taskapp"),
            settings=settings,
            launcher=[*self.host.launcher, sys.executable, *warnings],
            program=self._program,
        )

    def is_running(self, service: str) -> bool:
        return service in self._processes

    def kill(self, *services: str) -> None:
        """Kill services as kill -9 does, "postgresql" too; or all at once, as a power cut does."""
        if not services:
            self._off.enter_context(self.host.cut_off())
            self.host.kill_all()
        for pid in self.pids(*services):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for service in services or SERVICES:
            if process := self._processes.pop(service, None):
                process.wait()
                self._keep_surprises(service)

    def frozen(self, *services: str) -> AbstractContextManager[None]:
        """Stop services, or the whole machine, while the block runs."""
        find = (lambda: self.pids(*services)) if services else self.host.processes
        return stopped_processes(find)

    def pids(self, *services: str) -> list[int]:
        own = [self._processes[name].pid for name in services if name in self._processes]
        return own + (self._postgresql_pids() if "postgresql" in services else [])

    def _postgresql_pids(self) -> list[int]:
        with suppress(OSError):
            words = (self._folder / "postgresql" / "postmaster.pid").read_text().split()
            children = Path(f"/proc/{words[0]}/task/{words[0]}/children").read_text().split()
            return [int(pid) for pid in (words[0], *children)]
        return []

    def _keep_surprises(self, service: str) -> None:
        if service == "taskapp" and self._taskapp:
            assert self._taskapp.surprises() == []
            self._taskapp.clean_up()
            self._taskapp = None

    def is_healthy(self) -> bool:
        """Return whether etcd takes part, and taskapp reads and writes."""
        health = {ETCD_PORT: "/health", TASKAPP_PORT: "/api/health"}
        return all(self.ask(port, "GET", path)[0] == 200 for port, path in health.items())

    def state(self) -> str:
        """Return what etcd and taskapp say of themselves, and the last lines of the logs."""
        said = [self.ask(ETCD_PORT, "GET", "/health"), self.ask(TASKAPP_PORT, "GET", "/api/health")]
        taskapp = self._taskapp.log_text[-2000:] if self._taskapp else "no taskapp"
        return f"{said}\n{taskapp}\n{self.log()}"

    def surprises(self) -> list[str]:
        return self._taskapp.surprises() if self._taskapp else []

    def stop(self) -> None:
        self._off.close()
        self.host.kill_all()
        for process in self._processes.values():
            process.wait()
        if self._taskapp:
            self._taskapp.clean_up()

    def log(self) -> str:
        return Path(f"{self._folder}.log").read_text(errors="replace")[-3000:]


class Cluster:
    """Three machines, and `address`, by which clients reach their taskapps."""

    def __init__(self, folder: Path, hosts: dict[str, Host], patroni: Path, program: Path) -> None:
        self.machines = {name: Machine(hosts[name], folder, patroni, program) for name in MACHINES}
        self.front = hosts["front"]
        self._folder = folder
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def address(self) -> str:
        return f"unix:{self._folder}/front.sock"

    def start(self) -> None:
        """Start everything, and create the roles and the database."""
        for service in ("etcd", "patroni", "database-proxy"):
            for machine in self.machines.values():
                machine.start(service)
        try:
            wait_until(self.has_spare, STARTED_WITHIN)
        except AssertionError as error:
            raise AssertionError(
                "\n".join(each.log() for each in self.machines.values())
            ) from error
        self._create_database()
        self.start_redis()
        for machine in self.machines.values():
            machine.start("taskapp")
        self._start_front()
        self.wait_until_healthy()

    def _create_database(self) -> None:
        primary = self.primary()
        script = str(DEPLOY / "postgresql-roles.sql")
        primary.host.run("psql", primary.url, "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", script)
        for role in ("taskapp", "taskapp_owner"):
            primary.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")

    def start_redis(self) -> None:
        words = [
            "--bind",
            FRONT,
            "--protected-mode",
            "no",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._run_in_front("redis", "redis-server", *words)

    def kill_redis(self) -> None:
        process = self._processes.pop("redis")
        process.kill()
        process.wait()

    def _start_front(self) -> None:
        """Run deploy/haproxy/haproxy.cfg with three taskapps, on a socket that tests can reach."""
        text = (DEPLOY / "haproxy" / "haproxy.cfg").read_text()
        text = text.replace("/etc/haproxy/errors", str(DEPLOY / "haproxy" / "errors"))
        text = text.replace("127.0.0.1:8404", f"{FRONT}:8404")
        text = text.replace("bind :80", f"bind {self.address.replace(':', '@')} mode 666")
        of_https = r"^ *(bind :443|http-request (redirect|deny deny_status 403)) .*\n"
        text = re.sub(of_https, "", text, flags=re.MULTILINE)
        text = re.sub(r"^ *server taskapp2.*\n", "", text, flags=re.MULTILINE)
        for proxy, option in (("api", "check"), ("pages", "track api/taskapp1")):
            first = f"    server taskapp1 127.0.0.1:8001 {option}\n"
            assert first in text, proxy
            servers = [
                f"    server taskapp{number} {address}:{TASKAPP_PORT} "
                + option.replace("taskapp1", f"taskapp{number}")
                for number, address in enumerate(MACHINES.values(), 1)
            ]
            text = text.replace(first, "\n".join(servers) + "\n")
        configuration = self._folder / "front.cfg"
        configuration.write_text(text)
        self._run_in_front("haproxy", "haproxy", "-q", "-f", str(configuration))

    def _run_in_front(self, name: str, *command: str) -> None:
        with (self._folder / f"{name}.log").open("ab") as log:
            launched = [*self.front.launcher, *command]
            self._processes[name] = subprocess.Popen(launched, stdout=log, stderr=log)

    def stop(self) -> None:
        for machine in self.machines.values():
            machine.stop()
        self.front.kill_all()
        for process in self._processes.values():
            process.wait()

    def members(self) -> dict[str, dict[str, Any]]:
        """Return what Patroni says of each machine, from whichever answers first."""
        for machine in self.machines.values():
            status, body = machine.ask_patroni("GET", "/cluster")
            if status == 200:
                return {member["name"]: member for member in body["members"]}
        return {}

    def _with_role(self, role: str) -> Machine | None:
        members = self.members().values()
        return next((self.machines[each["name"]] for each in members if each["role"] == role), None)

    def primary(self) -> Machine:
        found = self._with_role("leader")
        assert found
        return found

    def synchronous_standby(self) -> Machine:
        found = self._with_role("sync_standby")
        assert found
        return found

    def standbys(self) -> list[Machine]:
        primary = self.primary()
        return [machine for machine in self.machines.values() if machine is not primary]

    def etcd_leader(self) -> Machine:
        """Return the machine whose etcd leads."""
        for machine in self.machines.values():
            _, text = machine.ask(ETCD_PORT, "GET", "/metrics")
            if text and "etcd_server_is_leader 1" in text:
                return machine
        raise AssertionError("no etcd leads")

    def has_spare(self) -> bool:
        """Return whether all machines are there, and Patroni may promote one at any time."""
        roles = {member["role"]: member["state"] for member in self.members().values()}
        return roles.get("leader") == "running" and roles.get("sync_standby") in FOLLOWING

    def is_healthy(self) -> bool:
        states = [member["state"] for member in self.members().values()]
        if len(states) < len(MACHINES) or {*states} - FOLLOWING or not self.has_spare():
            return False
        return all(machine.is_healthy() for machine in self.machines.values())

    def wait_until_healthy(self) -> None:
        try:
            wait_until(self.is_healthy, STARTED_WITHIN)
        except AssertionError as error:
            states = {machine.name: machine.state() for machine in self.machines.values()}
            raise AssertionError(f"{self.members()}\n{states}") from error

    def configure(self, **changes: object) -> None:
        """Change the configuration that all Patronis share."""
        status, _ = self.primary().ask_patroni("PATCH", "/config", changes)
        assert status == 200


@contextmanager
def running_cluster(patroni: Path, program: Path = PROGRAM) -> Iterator[Cluster]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name, ExitStack() as stack:
        folder = Path(name)
        folder.chmod(0o755)
        hosts = stack.enter_context(running_hosts({**MACHINES, "front": FRONT}))
        make_authority(folder)
        cluster = Cluster(folder, hosts, patroni, program)
        stack.callback(cluster.stop)
        cluster.start()
        yield cluster
