"""The compose files are valid and hardened, and their services work together in real containers."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.conftest import PASSWORD
from tests.deploy.certificates import Certificate, make_authority, make_certificate
from tests.deploy.compose import Project, running_project
from tests.deploy.containers import Engine
from tests.deploy.proxy import HOST, Proxy
from tests.deploy.test_image import SMOKE_TEST
from tests.deploy.tools import run_tool
from tests.support.server_process import CHECKOUT, wait_until

DEPLOY = CHECKOUT / "deploy"
FILES = ["compose.yaml", "compose.development.yaml"]
NAMES = ("taskapp-1", "taskapp-2")


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


@dataclass(frozen=True)
class Operator:
    """What an operator adds to the compose file: secrets, and a certificate."""

    folder: Path
    authority: Certificate


@pytest.fixture(scope="module")
def operator() -> Iterator[Operator]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        folder = Path(name)
        subprocess.run(["sh", str(DEPLOY / "compose-secrets.sh"), f"{name}/secrets"], check=True)
        (folder / "tls").mkdir()
        authority = make_authority(folder)
        certificate = make_certificate(folder, authority, HOST)
        certificate.path.rename(folder / "tls" / "fullchain.pem")
        certificate.key.rename(folder / "tls" / "privkey.pem")
        yield Operator(folder, authority)


@pytest.fixture(scope="module")
def project(engine: Engine, operator: Operator) -> Iterator[Project]:
    """All services of compose.yaml, after `up`."""
    engine.build_services()
    variables = {"TASKAPP_DOMAIN": HOST}
    with running_project(engine, DEPLOY / "compose.yaml", operator.folder, variables) as started:
        yield started


@pytest.fixture
def proxy(engine: Engine, project: Project, operator: Operator) -> Proxy:
    """Return curl at the ports that nginx publishes, when nginx and the taskapps are ready."""
    assert project
    found = Proxy(operator.folder, 80, 443, operator.authority, engine.inside())
    wait_until(lambda: found.curl("/api/health/ready").status == 200)
    return found


def test_what_compose_starts_does_the_main_job(
    engine: Engine, proxy: Proxy, operator: Operator
) -> None:
    site = (f"https://{HOST}", "--connect", "127.0.0.1:443")
    done = subprocess.run(
        engine.inside(sys.executable, SMOKE_TEST, *site),
        env=os.environ | {"SSL_CERT_FILE": str(operator.authority.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert proxy.curl("/tasks", scheme="http").status == 301
    assert proxy.curl("/api/tasks", scheme="http").status == 403


def test_both_taskapps_count_wrong_passwords_together(
    engine: Engine, project: Project, proxy: Proxy
) -> None:
    assert proxy
    logins = [f"http://{project.address(name)}:8000/api/auth/login" for name in NAMES] * 4
    sent = ("--json", '{"email": "alice@example.com", "password": "wrong"}')
    assert [engine.status(url, *sent) for url in logins] == [401] * 5 + [429] * 3


def test_one_closes_the_site_for_maintenance_and_both_are_closed(
    engine: Engine, project: Project, proxy: Proxy
) -> None:
    assert proxy
    urls = [f"http://{project.address(name)}:8000/login" for name in NAMES]
    for switch, status in (("on", 503), ("off", 200)):
        engine.run("exec", "taskapp-1", "python", "server.py", "maintenance", switch)
        wait_until(partial(answer, engine, urls, status))  # at once


def answer(engine: Engine, urls: list[str], status: int) -> bool:
    return [engine.status(url) for url in urls] == [status] * len(urls)


def test_a_backup_of_one_is_restored_by_the_one_who_may_change_tables(
    engine: Engine, project: Project, proxy: Proxy
) -> None:
    """With the commands of docs/how-to/containers.md."""

    def register(name: str) -> int:
        account = {"email": f"{name}@example.com", "password": PASSWORD}
        return proxy.curl("/api/auth/register", "--json", json.dumps(account)).status

    assert register("alice") == 201
    assert "-dump, " in engine.run("exec", "taskapp-1", "python", "server.py", "backup")
    assert register("bob") == 201
    for name in NAMES:
        engine.run("stop", name)
        assert engine.exit_code(name) == 0, project.log(name)
    restore = ("python", "server.py", "restore", "--replace")
    assert "It holds 1 account" in project.run("migration", *restore)
    for name in NAMES:
        engine.run("start", name)
    wait_until(lambda: proxy.curl("/api/health/ready").status == 200)
    assert [register("alice"), register("bob")] == [409, 201]
