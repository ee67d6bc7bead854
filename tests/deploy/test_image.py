"""The Dockerfile's steps are executed as written; the image runs without privileges."""

import json
import os
import re
import signal
import subprocess
import tempfile
from dataclasses import replace

from tests.deploy.conftest import DOCKERFILE
from tests.deploy.image import Image, exec_form, first_process_of
from tests.deploy.tools import run_tool
from tests.support.server_process import LONG_ENOUGH, Client, reserved_port, wait_until

MAX_SIZE = 260  # MiB that the build adds to the base image


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


def test_the_image_is_small(image: Image) -> None:
    done = subprocess.run(
        [*image.enter, "du", "-sm", f"{image.stage.root}/app"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(done.stdout.split()[0]) < MAX_SIZE


def test_what_was_built_serves_without_root_on_a_read_only_file_system(image: Image) -> None:
    stage = image.stage
    assert stage.user == "10001:10001"
    with reserved_port() as port, tempfile.TemporaryFile("w+") as log:
        shown = {"TASKAPP_PORT": str(port), "TASKAPP_HOST": "127.0.0.1"}
        shown |= {"http_proxy": "http://127.0.0.1:9"}  # as Docker's client configuration gives it
        container = subprocess.Popen(
            image.command(exec_form(stage.said["CMD"]), shown), stdout=log, stderr=log
        )
        try:
            with Client(str(port)) as alice:
                wait_until(lambda: alice.status("/api/health/ready") == 200)
                alice.sign_up("alice@example.com")
                assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
            check = image.command(exec_form(stage.said["HEALTHCHECK"]), shown)
            assert subprocess.run(check, check=False).returncode == 0
            away = image.command(exec_form(stage.said["HEALTHCHECK"]), {"TASKAPP_PORT": "1"})
            assert subprocess.run(away, check=False, capture_output=True).returncode != 0
            mounts = subprocess.run(
                image.command(["cat", "/proc/mounts"], {}),
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            assert re.search(r"^\S+ / \S+ ro[, ]", mounts, re.MULTILINE), mounts
            os.kill(first_process_of(container), signal.Signals[stage.said["STOPSIGNAL"]])
            code = container.wait(LONG_ENOUGH)
        finally:
            if container.poll() is None:
                container.kill()
                container.wait()
        log.seek(0)
        text = log.read()
    assert code == 0, text
    assert '"server.stopped"' in text
    assert "Traceback" not in text


def test_it_runs_as_any_user_number_on_a_folder_of_that_user(image: Image) -> None:
    """As with `user: "1000:1000"` and a folder of the host in the place of the volume."""
    volume = image.stage.root + image.stage.said["VOLUME"]
    # Docker allows no user namespace, in which PostgreSQL could have the number of another.
    named = ["python", "-c", "import os, pwd; print(pwd.getpwuid(os.getuid()).pw_name)"]
    for uid in ("12345", "65535"):
        subprocess.run([*image.enter, "rm", "-rf", f"{volume}/data"], check=True)
        subprocess.run([*image.enter, "chown", "-R", f"{uid}:{uid}", volume], check=True)
        theirs = replace(image, stage=replace(image.stage, user=f"{uid}:{uid}"))
        assert subprocess.check_output(theirs.command(named, {}), text=True) == f"user{uid}\n"
        migrated = subprocess.run(
            theirs.command(["python", "server.py", "migrate"], {}),
            capture_output=True,
            text=True,
            check=False,
        )
        assert migrated.returncode == 0, migrated.stderr
    subprocess.run([*image.enter, "rm", "-rf", f"{volume}/data"], check=True)
    subprocess.run([*image.enter, "chown", "-R", "10001:10001", volume], check=True)
