"""The compose files are valid and hardened, and their services work together.

No container engine runs here: taskapp runs from the image of the Dockerfile's steps, with the
environment of the compose file; PostgreSQL, Redis and nginx are Debian's.
"""

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial, reduce
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.image import Image, exec_form, first_process_of
from tests.deploy.postgres import OwnPostgres, running_postgres
from tests.deploy.proxy import HOST, running_proxy
from tests.deploy.tools import run_tool
from tests.support.database_fixtures import execute
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, Client, reserved_port, wait_until

DEPLOY = CHECKOUT / "deploy"
FILES = ["compose.yaml", "compose.development.yaml"]
NAMES = ["taskapp-1", "taskapp-2"]


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    return found


@pytest.mark.parametrize("name", FILES)
def test_compose_files_have_the_form_of_the_specification(name: str) -> None:
    done = run_tool("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / name)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", FILES)
def test_every_file_that_is_named_is_there_or_made(name: str, tmp_path: Path) -> None:
    subprocess.run(["sh", str(DEPLOY / "compose-secrets.sh"), str(tmp_path)], check=True)
    text = (DEPLOY / name).read_text()
    assert re.findall(r"\./secrets/[\w-]+", text) or name != "compose.yaml"
    for path in re.findall(r"(?<![\w.])(\.\.?/[\w./-]+)", text):
        made = tmp_path / Path(path).name if path.startswith("./secrets/") else DEPLOY / path
        assert made.exists() or path == "./tls", path


def test_every_service_is_hardened(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "no-new-privileges:true" in service["security_opt"], name
    assert [name for name, service in services.items() if "ports" in service] == ["nginx"]


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    make = ["sh", str(DEPLOY / "compose-secrets.sh"), str(tmp_path / "secrets")]
    subprocess.run(make, check=True)
    before = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    subprocess.run(make, check=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == before
    assert len(set(before.values())) == len(before) == 6
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    assert before["taskapp-password"].strip() in before["database-url"]


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def secrets(folder: Path) -> Path:
    made = folder / "secrets"
    subprocess.run(["sh", str(DEPLOY / "compose-secrets.sh"), str(made)], check=True)
    return made


@pytest.fixture
def postgres(folder: Path, secrets: Path) -> Iterator[OwnPostgres]:
    """A server after the two scripts that the database's service runs at first start."""
    (folder / "pg").mkdir()
    with running_postgres(folder / "pg") as server:
        passwords = (DEPLOY / "compose-passwords.sql").read_text()
        script = folder / "passwords.sql"
        script.write_text(passwords.replace("/run/secrets", str(secrets)))
        for path in (DEPLOY / "postgresql-roles.sql", script):
            command = ["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(path)]
            subprocess.run([*command, server.administrator()], check=True)
        for path in secrets.glob("*-url"):
            path.chmod(0o644)
            path.write_text(path.read_text().replace("@database/", f"@127.0.0.1:{server.port}/"))
        yield server


@pytest.fixture
def redis_url(folder: Path) -> Iterator[str]:
    with reserved_port() as port:
        yield from counting(folder, port)


def counting(folder: Path, port: int) -> Iterator[str]:
    """Run the Redis of the compose file at a port."""
    command = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["limits"]["command"]
    moved = [*command, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with subprocess.Popen(moved, stdout=subprocess.DEVNULL) as redis:
        responses = ["redis-cli", "-p", str(port), "ping"]
        wait_until(
            lambda: subprocess.run(responses, capture_output=True, check=False).returncode == 0
        )
        yield f"redis://127.0.0.1:{port}/0"
        redis.terminate()


def environment_of(service: dict[str, Any], redis: str, port: int) -> dict[str, str]:
    """Return a service's environment, with the addresses of this test for other services."""
    moved = {
        "redis://limits:6379/0": redis,
        "${TASKAPP_DOMAIN:?the name of the site, such as tasks.example.com}": HOST,
        "172.30.0.0/24": "127.0.0.1",
    }
    found: dict[str, str] = {}
    for name, text in service["environment"].items():
        found[name] = reduce(lambda shown, pair: shown.replace(*pair), moved.items(), text)
    return found | {"TASKAPP_HOST": "127.0.0.1", "TASKAPP_PORT": str(port)}


def meets(client: Client, status: int) -> bool:
    return client.status("/login") == status


def give_secrets(image: Image, secrets: Path) -> None:
    inside = f"{image.stage.root}/run/secrets"
    copied = f"mkdir -p {inside} && cp -r {secrets}/. {inside} && chmod -R u=rwX,go=rX {inside}"
    subprocess.run([*image.enter, "sh", "-euc", copied], check=True)


def test_what_compose_starts_works_together(
    services: dict[str, Any],
    image: Image,
    folder: Path,
    secrets: Path,
    postgres: OwnPostgres,
    redis_url: str,
) -> None:
    give_secrets(image, secrets)

    def command(name: str, words: list[str], port: int) -> list[str]:
        environment = environment_of(services[name], redis_url, port)
        data = {"TASKAPP_DATA_DIR": f"/var/lib/taskapp/{name}"}  # one for each container
        return image.command(words, environment | data)

    migration = command("migration", services["migration"]["command"], 1)
    done = subprocess.run(migration, capture_output=True, text=True, check=False)
    assert "Migrated the database" in done.stdout, done.stderr
    with ExitStack() as stack:
        ports = [stack.enter_context(reserved_port()) for _ in NAMES]
        serve = exec_form(image.stage.said["CMD"])
        containers = []
        for name, port in zip(NAMES, ports, strict=True):
            log = stack.enter_context((folder / name).open("wb"))
            container = subprocess.Popen(command(name, serve, port), stdout=log, stderr=log)
            stack.callback(container.kill)  # does nothing after its end
            containers.append(container)
        for port in ports:
            with Client(str(port)) as client:
                wait_until(lambda: client.status("/api/health/ready") == 200)  # at once
        for switch, status in (("on", 503), ("off", 200)):  # switched by one, seen by both
            words = ["python", "server.py", "maintenance", switch]
            subprocess.run(command("taskapp-1", words, 1), check=True, capture_output=True)
            for port in ports:
                with Client(str(port)) as client:
                    wait_until(partial(meets, client, status))  # at once
        (folder / "nginx").mkdir()
        proxy = stack.enter_context(running_proxy(folder / "nginx", [*map(str, ports)]))
        for number in range(10):  # both count together: six wrong passwords, on any process
            wrong = '{"email": "alice@example.com", "password": "wrong"}'
            sent = ("-H", "Content-Type: application/json", "-d", wrong)
            status = proxy.curl("/api/auth/login", *sent).status
            assert status == (401 if number < 5 else 429)
        for container in containers:
            os.kill(first_process_of(container), signal.Signals[image.stage.said["STOPSIGNAL"]])
            assert container.wait(LONG_ENOUGH) == 0


def test_a_backup_of_one_process_is_restored_by_the_one_who_may_change_tables(
    services: dict[str, Any],
    image: Image,
    secrets: Path,
    postgres: OwnPostgres,
) -> None:
    give_secrets(image, secrets)
    [volume] = services["taskapp-1"]["volumes"]
    assert services["taskapp-2"]["volumes"] == services["migration"]["volumes"] == [volume]
    assert volume == "backups:" + services["taskapp-1"]["environment"]["TASKAPP_BACKUP_DIR"]

    def run(name: str, *words: str) -> str:
        environment = environment_of(services[name], "", 1)
        command = image.command(["python", "server.py", *words], environment)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("migration", "migrate")
    count = "SELECT count(*) FROM users"
    add = "INSERT INTO users VALUES (gen_random_uuid(), '{}', 'hash', now(), now())"
    execute(postgres.administrator("taskapp"), add.format("alice@example.com"))
    assert "-dump, " in run("taskapp-1", "backup")
    execute(postgres.administrator("taskapp"), add.format("bob@example.com"))
    assert "It holds 1 account" in run("migration", "restore", "--replace")
    process = (secrets / "database-url").read_text().strip()
    assert execute(process, count) == [(1,)]  # it may still read the restored tables
    assert len(run("taskapp-2", "backup", "list").splitlines()) == 3  # a header, and an earlier one
