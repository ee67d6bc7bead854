"""The image of the Dockerfile runs in real containers, without privileges, as the how-to says."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.deploy.containers import DOCKERFILE, STAND_INS, Engine
from tests.deploy.tools import run_tool
from tests.deploy.versions import checked_out, earlier_versions
from tests.support.server_process import CHECKOUT, Client, reserved_port, wait_until

HOW_TO = CHECKOUT / "docs" / "how-to" / "containers.md"
SMOKE_TEST = CHECKOUT / "deploy" / "delivery" / "smoke_test.py"
MAX_SIZE = 260  # MB that the build adds to the base image
ALICE = "alice@example.com"
# As in the how-to, without what a test chooses.
HARDENED = ["--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"]
# Of cgroups of the first and of the second version.
LIMITS = {
    "/sys/fs/cgroup/memory/memory.limit_in_bytes": str(512 * 1024**2),
    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000",  # of 100,000
    "/sys/fs/cgroup/memory.max": str(512 * 1024**2),
    "/sys/fs/cgroup/cpu.max": "50000 100000",
}
FILL_MEMORY = "text = b'x' * 200_000_000"


def test_hadolint_has_nothing_to_say() -> None:
    done = run_tool("hadolint", DOCKERFILE)
    assert (done.returncode, done.stdout) == (0, "")


def test_checkov_finds_nothing_unsafe() -> None:
    done = run_tool(
        "checkov", "--file", DOCKERFILE, "--skip-download", "--quiet", "--compact", "-o", "json"
    )
    summary = json.loads(done.stdout)["summary"]
    assert summary["passed"] > 10
    assert summary["failed"] == 0, done.stdout


def test_the_image_is_small(engine: Engine) -> None:
    base, built = (
        int(engine.run("image", "inspect", "--format={{.Size}}", name))
        for name in (engine.build_base(), "taskapp")
    )
    assert (built - base) / 1e6 < MAX_SIZE


def documented_command() -> list[str]:
    """Return the words after `docker` of the how-to's command that runs one container."""
    [block] = re.findall(r"^docker (run -d .*?)\n```", HOW_TO.read_text(), re.DOTALL | re.MULTILINE)
    return shlex.split(block.replace("\\\n", ""))


def test_the_command_of_the_how_to_serves_without_privileges_and_within_its_limits(
    engine: Engine,
) -> None:
    *options, image = documented_command()
    proxy = "--env=http_proxy=http://127.0.0.1:9"  # as Docker's client configuration gives it
    engine.run(*options, proxy, image)
    try:
        health = ("healthcheck", "run", "taskapp")
        wait_until(lambda: engine.try_to_run(*health).returncode == 0)
        done = subprocess.run(
            engine.inside(sys.executable, SMOKE_TEST, "http://127.0.0.1:8000"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert_confined(engine, "taskapp")
        away = ("exec", "--env=TASKAPP_PORT=1", "taskapp", "python", "server.py", "health")
        assert engine.try_to_run(*away).returncode != 0
        engine.run("stop", "taskapp")
        log = engine.try_to_run("logs", "taskapp").stderr
        assert engine.exit_code("taskapp") == 0, log  # 137 if it had to be killed
        assert '"server.stopped"' in log
        assert "Traceback" not in log
    finally:
        engine.run("rm", "--force", "--volumes", "taskapp")


def assert_confined(engine: Engine, container: str) -> None:
    """Fail unless a container runs as 10001, without a capability, read-only, within its limits."""
    status = engine.run("exec", container, "cat", "/proc/1/status")
    for line in ("Uid:\t10001", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"):
        assert line in status
    mounts = engine.run("exec", container, "cat", "/proc/mounts")
    assert re.search(r"^\S+ / \S+ ro[, ]", mounts, re.MULTILINE), mounts
    limits = {
        path: engine.try_to_run("exec", container, "cat", path).stdout.strip() for path in LIMITS
    }
    found = {path: text for path, text in limits.items() if text}
    assert found == {path: LIMITS[path] for path in found}
    assert len(found) == 2, "cgroups of one version"


def test_a_process_that_exceeds_its_memory_is_killed(engine: Engine) -> None:
    memory = ["--memory=64m", "--memory-swap=64m"]
    run = ("run", "--name=full", *memory, "taskapp", "python", "-c", FILL_MEMORY)
    assert engine.try_to_run(*run).returncode == 137
    engine.run("rm", "full")


@contextmanager
def running(engine: Engine, image: str, *options: str) -> Iterator[Client]:
    """Run an image in this machine's network, and stop it as an engine does."""
    with reserved_port() as port:
        settings = ["--env=TASKAPP_HOST=127.0.0.1", f"--env=TASKAPP_PORT={port}"]
        words = ["run", "--detach", "--name=taskapp", "--network=host", "--stop-timeout=30"]
        engine.run(*words, *HARDENED, *settings, *options, image, host_network=True)
        try:
            with Client(str(port)) as client:
                wait_until(lambda: client.status("/api/health/ready") == 200)
                yield client
            engine.run("stop", "taskapp")
            assert engine.exit_code("taskapp") == 0
        finally:
            engine.run("rm", "--force", "taskapp")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that a container may have as its volume."""
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        yield Path(name)


def test_a_volume_of_an_earlier_version_is_upgraded_and_its_backup_restored_elsewhere(
    engine: Engine, folder: Path
) -> None:
    with checked_out(earlier_versions()[-1]) as program:
        engine.build(
            "localhost/taskapp-earlier", program.parent, STAND_INS / "earlier.Containerfile"
        )
    with running(engine, "taskapp-earlier", "--volume=data:/var/lib/taskapp") as alice:
        alice.sign_up(ALICE)
        assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
        token = alice.token
    with running(engine, "taskapp", "--volume=data:/var/lib/taskapp") as alice:
        alice.token = token  # sessions go on
        assert alice.titles() == ["Buy milk"]
        engine.run("exec", "taskapp", "python", "server.py", "backup")
        engine.run("cp", "taskapp:/var/lib/taskapp/data/backups", folder)
    subprocess.run(["chown", "-R", "10001:10001", folder], check=True)
    backups = ["--env=TASKAPP_BACKUP_DIR=/backups", f"--volume={folder}/backups:/backups"]
    elsewhere = ["--volume=elsewhere:/var/lib/taskapp", *backups]
    restore = ("run", "--rm", *HARDENED, *elsewhere, "taskapp", "python", "server.py", "restore")
    assert "It holds 1 account and 1 task" in engine.run(*restore)
    with running(engine, "taskapp", *elsewhere) as alice:
        alice.log_in(ALICE)
        assert alice.titles() == ["Buy milk"]


@pytest.mark.parametrize("user", [1000, 65535, 70000])
def test_it_runs_as_any_user_number_on_a_folder_of_that_user(
    engine: Engine, folder: Path, user: int
) -> None:
    """As with `user: "1000:1000"` and a folder of the host in the place of the volume."""
    os.chown(folder, user, user)
    # The image has names for the numbers up to 65535 (ADR 0036); podman is not to add any.
    options = [*HARDENED, "--passwd=false", f"--user={user}:{user}"]
    volume = f"--volume={folder}:/var/lib/taskapp"
    engine.run("run", "--rm", *options, volume, "taskapp", "python", "server.py", "migrate")
    assert (folder / "data" / "postgres").stat().st_uid == user
    shutil.rmtree(folder / "data")
