"""What is away is seen: health, readiness, log, metrics, status page and doctor say the same.

They say it within a minute, and the contrary within a minute after the return. The log has one line
for each change, and none for each request.
"""

import asyncio
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from taskapp.config.settings import Settings, load_settings
from taskapp.db.migrations import HEAD
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.doctor.checks import check_limits, run_checks
from taskapp.jobs.health_check import MIN_FREE_SPACE
from taskapp.jobs.housekeeping import HEALTH_CHECKS
from tests.auth.test_rate_limits import redis_server
from tests.faults.test_exhausted import fill, namespaces
from tests.support.database_fixtures import execute, new_database
from tests.support.server_process import (
    PROGRAM,
    Client,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

MINUTE = 60.0  # seconds
BEFORE, AFTER = f"{int(HEAD) - 1:04}", f"{int(HEAD) + 1:04}"  # revisions
OFTEN = "{work: 0.3 for work in taskapp.jobs.housekeeping.HEALTH_CHECKS}"
CONSTANT = ("taskapp.jobs.housekeeping", "HEALTH_CHECKS", OFTEN)
SECRET = "opensesame"


def test_all_that_is_watched_is_looked_at_several_times_a_minute() -> None:
    assert len(HEALTH_CHECKS) == 4
    assert max(HEALTH_CHECKS.values()) <= MINUTE / 3


@dataclass
class Site:
    """A taskapp on a PostgreSQL and a Redis of its own, and a user who is logged in."""

    server: ServerProcess
    settings: Settings
    database: str
    redis: Redis
    redis_process: "Restartable"
    user: Client
    administration: str  # the URL of another database of the same server

    def status_page(self) -> str:
        page = self.user.send("GET", "/status").body.decode()
        match = re.search("<h1>(.*?)</h1>", page)
        assert match
        return match[1]

    def health(self) -> dict[str, Any]:
        response = self.user.send("GET", "/api/health")
        assert response.status == (200 if response.json["status"] == "healthy" else 503)
        body: dict[str, Any] = response.json
        return body

    def readiness(self) -> str:
        response = self.user.send("GET", "/api/health/ready")
        assert (response.status == 200) == (response.json["status"] == "ready")
        return str(response.json["status"])

    def metric(self, name: str) -> float:
        text = self.user.send("GET", "/metrics").body.decode()
        match = re.search(rf"^taskapp_{name} (\S+)$", text, re.MULTILINE)
        assert match
        return float(match[1])

    def changes(self) -> list[tuple[str, str | None]]:
        lines = [line for line in self.server.log if line["event"] == "availability.changed"]
        return [(line["part"], line["problem"]) for line in lines]

    def doctor(self) -> list[CheckResult]:
        return asyncio.run(run_checks(self.settings))

    def complaints(self, subject: str) -> list[str]:
        wrong = [one for one in self.doctor() if one.level is Level.PROBLEM]
        return [one.text for one in wrong if one.subject == subject]

    def is_well(self) -> bool:
        health = self.health()
        return (health["status"], health["database"], health["limits"], self.readiness()) == (
            *("healthy", "connected", "available", "ready"),
        )

    def end_sessions(self) -> None:
        name = self.database.rpartition("/")[2].partition("?")[0]
        end = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s"
        execute(self.administration, end, name)

    def alter_database(self, how: str) -> None:
        name = self.database.rpartition("/")[2].partition("?")[0]
        execute(self.administration, f"ALTER DATABASE {name} {how}")


class Restartable:
    """A Redis that can be stopped and started again."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: Any = None
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        self._running = redis_server(self._folder)
        self.process = self._running.__enter__()

    def stop(self) -> None:
        self._running.__exit__(None, None, None)
        self.process.wait()


@pytest.fixture(scope="module")
def site(database_url: str, short_folder: Path) -> Iterator[Site]:
    folder = short_folder / "away"
    folder.mkdir()
    redis = Restartable(folder)
    redis.start()
    with new_database(database_url) as url:
        texts = {
            "TASKAPP_DATABASE_URL": url,
            "TASKAPP_LIMIT_STORAGE": f"redis+unix://{folder}/redis.sock",
            "TASKAPP_DATA_DIR": str(folder / "data"),
            "TASKAPP_SECRET_KEY": "only-for-tests-0123456789-abcdefghijklmnop",
        }
        with server_process(folder / "data", settings=texts, constant=CONSTANT) as server:
            user = server.wait_until_ready().client().sign_up("alice@example.com")
            client = Redis(unix_socket_path=f"{folder}/redis.sock")
            texts["TASKAPP_PORT"] = server.address
            yield Site(server, load_settings(texts), url, client, redis, user, database_url)
            client.close()
            assert server.surprises() == []
    redis.stop()


# What breaks, each for the length of a block


@contextmanager
def redis_gone(site: Site) -> Iterator[None]:
    site.redis_process.stop()
    yield
    site.redis_process.start()


@contextmanager
def redis_hanging(site: Site) -> Iterator[None]:
    site.redis_process.process.send_signal(signal.SIGSTOP)
    yield
    site.redis_process.process.send_signal(signal.SIGCONT)


@contextmanager
def redis_with_a_password(site: Site) -> Iterator[None]:
    site.redis.config_set("requirepass", SECRET)
    site.redis.client_kill_filter(_type="normal")
    yield
    site.redis.auth(SECRET)
    site.redis.config_set("requirepass", "")


@contextmanager
def configured(site: Site, name: str, wrong: str, right: str) -> Iterator[None]:
    site.redis.config_set(name, wrong)
    yield
    site.redis.config_set(name, right)


@contextmanager
def redis_a_replica(site: Site) -> Iterator[None]:
    site.redis.replicaof("127.0.0.1", 1)
    yield
    site.redis.replicaof("NO", "ONE")


@contextmanager
def database_away(site: Site) -> Iterator[None]:
    site.alter_database("ALLOW_CONNECTIONS false")
    site.end_sessions()
    yield
    site.alter_database("ALLOW_CONNECTIONS true")


@contextmanager
def database_read_only(site: Site) -> Iterator[None]:
    site.alter_database("SET default_transaction_read_only = on")
    site.end_sessions()
    yield
    site.alter_database("RESET default_transaction_read_only")
    site.end_sessions()


@contextmanager
def database_at(site: Site, revision: str) -> Iterator[None]:
    [[now]] = execute(site.database, "SELECT version_num FROM alembic_version")
    execute(site.database, "UPDATE alembic_version SET version_num = %s", revision)
    yield
    execute(site.database, "UPDATE alembic_version SET version_num = %s", now)


@contextmanager
def table_away(site: Site) -> Iterator[None]:
    execute(site.database, "ALTER TABLE tasks RENAME TO gone")
    yield
    execute(site.database, "ALTER TABLE gone RENAME TO tasks")


@dataclass(frozen=True)
class State:
    """A way to break something, and what each place says of it then."""

    breaking: Callable[[Site], Any]
    part: str
    problem: str
    health: tuple[str, str]  # a member and its value
    readiness: str
    metric: tuple[str, float]
    page: str
    doctor: tuple[str, str]  # a subject, and words
    status: int = 503  # of a request of the API that reads


def without_redis(breaking: Callable[[Site], Any], words: str) -> State:
    return State(
        *(breaking, "limits", "uncounted", ("limits", "unavailable"), "ready"),
        *(("rate_limits_up", 0), "Logging in is temporarily unavailable"),
        doctor=("limits", f"Redis does not count: .*{words}"),
        status=200,
    )


STATES = {
    "Redis gone": without_redis(redis_gone, "connect"),
    "Redis hanging": without_redis(redis_hanging, "[Tt]imeout"),
    "Redis with another password": without_redis(redis_with_a_password, "authenticate"),
    "Redis full": without_redis(lambda site: configured(site, "maxmemory", "1", "0"), "maxmemory"),
    "Redis a replica": without_redis(redis_a_replica, "read only replica"),
    "Redis without its replicas": without_redis(
        lambda site: configured(site, "min-replicas-to-write", "1", "0"), "replicas"
    ),
    "database away": State(
        *(database_away, "database", "disconnected", ("database", "disconnected")),
        *("database unavailable", ("database_up", 0), "taskapp is temporarily unavailable"),
        doctor=("database", "not currently accepting connections"),
    ),
    "a table out of reach": State(
        *(table_away, "database", "disconnected", ("database", "disconnected")),
        *("database unavailable", ("database_up", 0), "taskapp is temporarily unavailable"),
        doctor=("tables", 'leads to no table "tasks"'),
    ),
    "database read-only": State(
        *(database_read_only, "database", "read-only", ("database", "read-only")),
        *("ready", ("database_writable", 0), "Tasks are temporarily read-only"),
        doctor=("database", "is read-only"),
        status=200,
    ),
    "a migration that waits": State(
        *(lambda site: database_at(site, BEFORE), "schema", "outdated", ("database", "outdated")),
        *("database unavailable", ("database_pending_migrations", 1)),
        page="taskapp is temporarily unavailable",
        doctor=("migrations", f"the database is at revision {BEFORE}"),
        status=200,
    ),
    "a database of a newer version": State(
        *(lambda site: database_at(site, AFTER), "schema", "newer", ("database", "connected")),
        *("ready", ("database_pending_migrations", -1), "taskapp is up and running"),
        doctor=("migrations", f"The database is at revision {AFTER}"),
        status=200,
    ),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_all_places_say_the_same_of_what_is_wrong_and_of_its_return(
    site: Site, state: State
) -> None:
    wait_until(site.is_well, MINUTE)
    before = len(site.changes())
    with state.breaking(site):
        wait_until(lambda: site.changes()[before:] == [(state.part, state.problem)], MINUTE)
        member, value = state.health
        wait_until(lambda: site.health()[member] == value, MINUTE)
        assert site.readiness() == state.readiness
        assert site.metric(state.metric[0]) == state.metric[1]
        assert site.status_page() == state.page
        subject, words = state.doctor
        [complaint] = site.complaints(subject)
        assert re.search(words, complaint), complaint
        assert_requests_are_not_logged_one_by_one(site, state.status)
    wait_until(site.is_well, MINUTE)
    wait_until(lambda: site.metric(state.metric[0]) == (0 if "pending" in state.metric[0] else 1))
    assert site.status_page() == "taskapp is up and running"
    assert site.complaints(subject) == []
    assert site.changes()[before:] == [(state.part, state.problem), (state.part, None)]
    assert site.user.status("/api/tasks") == 200
    assert SECRET not in site.server.log_text


def assert_requests_are_not_logged_one_by_one(site: Site, status: int) -> None:
    """Send requests, and check that the log has their own lines only."""

    def others() -> list[str]:
        events = [line["event"] for line in site.server.log]
        return [event for event in events if event not in {"request.completed", "task.created"}]

    def send() -> None:
        assert site.user.status("/api/tasks") == status
        assert site.user.send("POST", "/api/tasks", {"title": "x"}).status in {201, 503}

    send()
    before = others()
    for _ in range(3):
        send()
    assert others() == before


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:{port}/99", "DB index|[Ii]nvalid"),
        ("rediss://127.0.0.1:{port}/0", "connect"),
        ("redis://127.0.0.1:1/0", "refused|connect"),
        ("redis://nobody.invalid:6379/0", "nobody.invalid"),
    ],
)
def test_a_wrong_address_of_redis_is_said_by_doctor(
    short_folder: Path, url: str, words: str
) -> None:
    with reserved_port() as port, redis_server(short_folder, "--port", str(port)):
        address = url.format(folder=short_folder, port=port)
        settings = load_settings({"TASKAPP_LIMIT_STORAGE": address})
        found = asyncio.run(check_limits(settings))
    assert found.level is Level.PROBLEM
    assert re.search(words, found.text), found.text


# Disks, each a small one of its own that only the server and its tools see


# Mounts two disks, for data and for backups, in a new mount namespace.
WITH_TWO_DISKS = (
    'mount -t tmpfs -o size=200m,mode=0700 data "$0" && mount -t tmpfs -o size=120m,mode=0700 '
    'backups "$0.backups" && exec "$@"'
)


@dataclass
class Disks:
    """A taskapp with PostgreSQL inside, whose data and backups are each on a disk of its own."""

    server: ServerProcess
    folder: Path
    settings: dict[str, str]

    @property
    def backups(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}.backups")

    def seen(self, path: Path) -> Path:
        """Return a path of the server as the test sees it."""
        return Path(f"/proc/{self.server.pid}/root{path}")

    def run(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Run a command that sees what the server sees."""
        user = [] if "--map-current-user" not in namespaces() else ["-U", "--preserve-credentials"]
        return subprocess.run(
            ["nsenter", "-t", str(self.server.pid), *user, "-m", *command],
            capture_output=True,
            text=True,
            check=False,
            env=self.server.environment,
        )

    def mount(self, *options: str) -> None:
        done = self.run("mount", *options)
        assert done.returncode == 0, done.stderr

    def complaints(self, subject: str) -> str:
        said = self.run(sys.executable, str(PROGRAM), "doctor").stdout
        return "\n".join(re.findall(rf"^FAIL  {subject} +(.*)$", said, re.MULTILINE))

    def state(self) -> dict[str, Any]:
        with self.server.client() as client:
            health = client.send("GET", "/api/health").json
            ready = client.send("GET", "/api/health/ready").status
            metrics = client.send("GET", "/metrics").body.decode()
        names = ("database_writable", "backup_problems")
        found = {
            name: re.search(rf"^taskapp_{name} (\S+)$", metrics, re.MULTILINE) for name in names
        }
        return {
            **{member: health[member] for member in ("database", "backup")},
            "ready": ready,
            **{name: float(match[1]) for name, match in found.items() if match},
        }

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.server.log if line["event"] == name]


WELL = {
    "database": "connected",
    "backup": "current",
    "ready": 200,
    "database_writable": 1.0,
    "backup_problems": 0.0,
}
NOT_BACKED_UP = WELL | {"backup": "failing", "backup_problems": 1.0}


@pytest.fixture(scope="module")
def disks() -> Iterator[Disks]:
    with new_data_folder() as folder:
        folder.mkdir()
        folder.with_name(f"{folder.name}.backups").mkdir()
        launcher = ["unshare", *namespaces(), "sh", "-c", WITH_TWO_DISKS, str(folder)]
        settings = {"TASKAPP_BACKUP_DIR": f"{folder}.backups", "TASKAPP_BACKUP_EVERY": "1d"}
        with server_process(
            folder,
            settings=settings,
            launcher=[*launcher, sys.executable, "-W", "error"],
            constant=CONSTANT,
        ) as server:
            disks = Disks(server, folder, settings)
            server.wait_until_ready().client().sign_up("alice@example.com")
            done = disks.run(sys.executable, str(PROGRAM), "backup")
            assert done.returncode == 0, done.stderr
            yield disks
            assert server.end() == 0
            assert server.surprises() == []


def full(disks: Disks) -> Callable[[], None]:
    filling = disks.seen(disks.backups / "filling")
    fill(filling)
    return filling.unlink


def read_only(disks: Disks) -> Callable[[], None]:
    disks.mount("-o", "remount,ro", str(disks.backups))
    return lambda: disks.mount("-o", "remount,rw", str(disks.backups))


def away(disks: Disks) -> Callable[[], None]:
    """Cover the disk by an empty one, as the folder looks when it is not mounted."""
    disks.mount("-t", "tmpfs", "empty", str(disks.backups))

    def give_back() -> None:
        assert disks.run("umount", str(disks.backups)).returncode == 0

    return give_back


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        (full, "less than 64 MiB are free on its disk"),
        (read_only, "Read-only file system"),
        (away, "are gone. Mount their disk"),
    ],
)
def test_all_places_say_the_same_of_the_disk_of_the_backups(
    disks: Disks, breaking: Callable[[Disks], Callable[[], None]], words: str
) -> None:
    wait_until(lambda: disks.state() == WELL, MINUTE)
    before = len(disks.events("backup.problem_found")), len(disks.events("backup.recovered"))
    give_back = breaking(disks)
    wait_until(lambda: disks.state() == NOT_BACKED_UP, MINUTE)
    [line] = disks.events("backup.problem_found")[before[0] :]
    assert words in line["problem"]
    assert words in disks.complaints("backups")
    give_back()
    wait_until(lambda: disks.state() == WELL, MINUTE)
    wait_until(lambda: len(disks.events("backup.recovered")) == before[1] + 1, MINUTE)
    assert len(disks.events("backup.problem_found")) == before[0] + 1
    assert disks.complaints("backups") == ""


def test_all_places_say_the_same_of_a_full_disk_of_the_data(disks: Disks) -> None:
    wait_until(lambda: disks.state() == WELL, MINUTE)
    before = len(disks.events("availability.changed"))
    filling = disks.seen(disks.folder / "filling")
    free = shutil.disk_usage(filling.parent).free
    filling.write_bytes(bytes(free - MIN_FREE_SPACE // 2))  # PostgreSQL itself goes on
    read_only = WELL | {"database": "read-only", "database_writable": 0.0}
    wait_until(lambda: disks.state() == read_only, MINUTE)
    assert "too little to keep writing" in disks.complaints("disk")
    filling.unlink()
    wait_until(lambda: disks.state() == WELL, MINUTE)
    assert disks.complaints("disk") == ""
    lines = disks.events("availability.changed")[before:]
    assert [(line["part"], line["problem"]) for line in lines] == [
        ("database", "read-only"),
        ("database", None),
    ]
    assert lines[0]["reason"] == "less than 64 MiB are free on the disk"
