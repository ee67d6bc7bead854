"""The workflows of GitHub and GitLab are valid and safe, and make a complete release."""

import fnmatch
import json
import os
import re
import subprocess
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.tools import run_tool
from tests.support.server_process import CHECKOUT

WORKFLOWS = ".github/workflows"
FORMS = [
    (f"{WORKFLOWS}/ci.yml", "vendor.github-workflows"),
    (f"{WORKFLOWS}/ci.yml", "custom.github-workflows-require-timeout"),
    (f"{WORKFLOWS}/release.yml", "vendor.github-workflows"),
    (f"{WORKFLOWS}/release.yml", "custom.github-workflows-require-timeout"),
    (".github/dependabot.yml", "vendor.dependabot"),
    (".gitlab-ci.yml", "vendor.gitlab-ci"),
]
PINNED = re.compile(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$")
VERSION = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["version"]
TAG = f"v{VERSION}"
NOTES = "What changed for those who use it."
MACHINES = ["x86_64", "aarch64"]
WHEEL = f"taskapp-{VERSION}-py3-none-any.whl"
BINARIES = [f"taskapp-linux-{machine}" for machine in MACHINES]
IMAGES = [f"taskapp-image-linux-{machine}.tar.gz" for machine in MACHINES]
BUILT = [WHEEL, *BINARIES, *IMAGES]
REGISTRY = "registry.example.com/alice/taskapp"
# Stands for Docker, which needs an engine and a registry, and writes down what it is told.
DOCKER = """#!/bin/sh
echo "$*" >>"$DOCKER_TOLD"
case "$*" in *inspect*) echo sha256:abc ;; *) echo "Loaded image: taskapp:latest" ;; esac
"""


def read(path: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((CHECKOUT / path).read_text(encoding="utf-8"))
    return found


def commands(job: str) -> list[str]:
    """Return the commands of a job of the release."""
    steps = read(f"{WORKFLOWS}/release.yml")["jobs"][job]["steps"]
    return [step["run"] for step in steps if "run" in step]


# Validity and safety


@pytest.mark.parametrize(("path", "form"), FORMS)
def test_workflows_have_the_form_of_their_service(path: str, form: str) -> None:
    gitlab = ["--data-transform", "gitlab-ci", "--regex-variant", "nonunicode"]
    options = gitlab if form == "vendor.gitlab-ci" else []
    done = run_tool("check-jsonschema", "--builtin-schema", form, *options, CHECKOUT / path)
    assert done.returncode == 0, done.stdout


def test_zizmor_has_nothing_to_say() -> None:
    done = run_tool("zizmor", "--offline", "--strict-collection", "--format", "json", ".")
    assert (done.returncode, json.loads(done.stdout)) == (0, []), done.stderr


def test_every_action_is_pinned_by_its_digest() -> None:
    for path in (CHECKOUT / WORKFLOWS).iterdir():
        for line in path.read_text(encoding="utf-8").splitlines():
            if "uses: " in line and "uses: $/" not in line:
                assert PINNED.search(line), line


def test_only_what_publishes_may_write_and_it_runs_nothing_that_was_built() -> None:
    jobs: dict[str, Any] = {}
    for name in ("ci", "release"):
        workflow = read(f"{WORKFLOWS}/{name}.yml")
        assert workflow["permissions"] == {}
        jobs |= workflow["jobs"]
    writing = [name for name, job in jobs.items() if "write" in job["permissions"].values()]
    assert writing == ["publish", "publish-image"]
    assert "checkout" not in str(jobs["publish"])
    for name in writing:
        first, *others = commands(name)
        assert first == "cd dist && sha256sum --check --strict SHA256SUMS"
        for command in others:
            assert re.match(
                r"gh release create|docker login|sh deploy/release/push_image.sh", command
            )


def test_every_file_and_the_image_get_two_attestations() -> None:
    attested = [
        step["with"]
        for job in ("publish", "publish-image")
        for step in read(f"{WORKFLOWS}/release.yml")["jobs"][job]["steps"]
        if step.get("uses", "").startswith("actions/attest@")
    ]
    files = [each for each in attested if each.get("subject-checksums") == "dist/SHA256SUMS"]
    image = [each for each in attested if each.get("push-to-registry")]
    for both in (files, image):
        assert [each.get("sbom-path") for each in both] == [None, "dist/taskapp.cdx.json"]
    assert len(attested) == 4


def test_both_machines_and_every_python_that_is_promised_are_tested() -> None:
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.MULTILINE)
    assert project["requires-python"] == f">={promised[0]}"
    jobs = read(FORMS[0][0])["jobs"]
    for name in ("python", "binary", "container-image"):
        assert jobs[name]["strategy"]["matrix"]["runner"] == ["ubuntu-24.04", "ubuntu-24.04-arm"]
    pythons = jobs["python"]["strategy"]["matrix"]["python"]
    assert [python["version"] for python in pythons] == promised
    pipeline = read(".gitlab-ci.yml")
    for name in ("python", "binary", "container-image"):
        (matrix,) = pipeline[name]["parallel"]["matrix"]
        assert [runner.rpartition("-")[2] for runner in matrix["RUNNER"]] == ["amd64", "arm64"]
    (matrix,) = pipeline["python"]["parallel"]["matrix"]
    for images in (matrix["IMAGE"], [python["image"] for python in pythons]):
        named = [image.removeprefix("python:").partition("-")[0] for image in images]
        assert named == promised


def test_both_services_run_the_same_targets_and_everybody_has_them() -> None:
    github, gitlab = ((CHECKOUT / path).read_text() for path in (FORMS[0][0], ".gitlab-ci.yml"))
    release = (CHECKOUT / FORMS[2][0]).read_text()
    targets = wanted_targets(github) | wanted_targets(release)
    assert targets == wanted_targets(gitlab)
    assert {"lint", "types", "pytest", "browser", "test-deploy"} <= targets
    makefile = (CHECKOUT / "Makefile").read_text()
    assert targets <= {*re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)}


def wanted_targets(text: str) -> set[str]:
    found = re.findall(r"(?:run: |- |\" )make ([a-z-][a-z -]*)$", text, re.MULTILINE)
    (several,) = re.findall(r"(?:target|TARGET): \[(.*)\]", text) or [""]
    return {*" ".join(found).split(), *filter(None, several.split(", "))}


# The release


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clean clone with the artifacts of earlier jobs, and a section in the changelog."""
    place = tmp_path_factory.mktemp("release") / "clone"
    subprocess.run(["git", "clone", "--quiet", str(CHECKOUT), str(place)], check=True)
    for path in ("Makefile", "deploy/release", "requirements.lock", "pyproject.toml"):
        # Including uncommitted changes.
        subprocess.run(["cp", "-r", str(CHECKOUT / path), str((place / path).parent)], check=True)
    (place / ".venv").symlink_to(CHECKOUT / ".venv")
    os.utime(
        place / "deploy/release/requirements.lock", (0, 0)
    )  # older than .venv, so that make does not rebuild it
    changelog = place / "CHANGELOG.md"
    changelog.write_text(f"# Changelog\n\n## [{VERSION}] - 2026-11-26\n\n{NOTES}\n\n## [0.0.1]\n")
    (place / "dist").mkdir()
    for name in BUILT:
        (place / "dist" / name).write_bytes(os.urandom(1000))
    return place


def run(command: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def released(clone: Path) -> Path:
    """The clone after the commands of the release."""
    (command,) = commands("files")
    done = run(command, clone, TAG=TAG)
    assert done.returncode == 0, done.stdout + done.stderr
    return clone


def test_every_file_of_a_release_has_a_digest_that_sha256sum_finds_right(released: Path) -> None:
    check = commands("publish")[0]
    done = run(check, released)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (released / "dist").iterdir()}
    assert names == {*BUILT, "taskapp.cdx.json", "SHA256SUMS"}
    assert {line.split(":")[0] for line in done.stdout.splitlines()} == names - {"SHA256SUMS"}
    for name in names - {"SHA256SUMS"}:
        original = (released / "dist" / name).read_bytes()
        (released / "dist" / name).write_bytes(original + b"!")
        assert run(check, released).returncode != 0
        (released / "dist" / name).write_bytes(original)


def test_every_file_that_a_job_uploads_is_one_of_the_release() -> None:
    uploaded: list[str] = []
    for name in ("binary", "wheel", "container-image"):
        (step,) = [
            step for step in read(FORMS[0][0])["jobs"][name]["steps"] if "upload" in str(step)
        ]
        assert step["with"]["name"].startswith("built-")
        assert [step["with"]["path"]] == read(".gitlab-ci.yml")[name]["artifacts"]["paths"]
        matching = fnmatch.filter([f"dist/{name}" for name in BUILT], step["with"]["path"])
        uploaded += matching
    assert sorted(uploaded) == sorted(f"dist/{name}" for name in BUILT)


def test_the_images_of_both_machines_are_pushed_as_one(released: Path, tmp_path: Path) -> None:
    docker, told = tmp_path / "docker", tmp_path / "told"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DOCKER_TOLD": str(told)}
    done = run(f"sh deploy/release/push_image.sh {REGISTRY} {TAG}", released, **environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"name={REGISTRY}\ndigest=sha256:abc\n"
    parts = [f"{REGISTRY}:{VERSION}-{machine}" for machine in sorted(MACHINES)]
    names = [f"--tag {REGISTRY}:{VERSION}", f"--tag {REGISTRY}:latest"]
    assert told.read_text().splitlines() == [
        *(
            line
            for part, file in zip(parts, sorted(IMAGES), strict=True)
            for line in (f"load --input dist/{file}", f"tag taskapp {part}", f"push {part}")
        ),
        " ".join(["buildx imagetools create", *names, *parts]),
        f"buildx imagetools inspect {REGISTRY}:{VERSION} --format {{{{ .Manifest.Digest }}}}",
    ]


def test_the_parts_are_all_packages_of_the_lock_with_their_digests(released: Path) -> None:
    parts = json.loads((released / "dist/taskapp.cdx.json").read_text())
    assert (parts["bomFormat"], parts["specVersion"]) == ("CycloneDX", "1.6")
    about = parts["metadata"]["component"]
    assert (about["name"], about["version"]) == ("taskapp", VERSION)
    lock = (CHECKOUT / "requirements.lock").read_text()
    wanted = dict(re.findall(r"^([a-z0-9._-]+)(?:\[.*\])?==([^ ]+)", lock, re.MULTILINE))
    assert {part["name"]: part["version"] for part in parts["components"]} == wanted
    assert len(wanted) > 20
    listed = re.findall(r'"content": "([0-9a-f]{64})"', json.dumps(parts))
    assert {*listed} == {*re.findall(r"sha256:([0-9a-f]{64})", lock)}


def test_the_notes_are_the_section_of_the_changelog(released: Path) -> None:
    assert (released / "build/release-notes.md").read_text() == f"{NOTES}\n"


def test_another_tag_a_missing_file_or_section_is_no_release(clone: Path, tmp_path: Path) -> None:
    (command,) = commands("files")
    folder = tmp_path / "clone"
    subprocess.run(["cp", "-a", str(clone), str(folder)], check=True)
    for name in (WHEEL, BINARIES[1], IMAGES[0]):
        (folder / "dist" / name).unlink()
    (folder / "CHANGELOG.md").write_text("## [Unreleased]\n\nSomething\n")
    done = run(command, folder, TAG="v9.9.9")
    assert done.returncode != 0
    assert done.stderr.splitlines()[:5] == [
        f"The tag is v9.9.9, and pyproject.toml says {VERSION}.",
        f"There is no dist/taskapp-{VERSION}-*.whl: run make wheel.",
        "There is no dist/taskapp-image-linux-x86_64.tar.gz: run make image on x86_64.",
        "There is no dist/taskapp-linux-aarch64: run make binary on aarch64.",
        f"CHANGELOG.md has no section of version {VERSION}.",
    ]


class GitLab(BaseHTTPRequestHandler):
    """Records the requests to GitLab's API."""

    received: dict[str, bytes]

    def _take(self) -> None:
        assert self.headers["JOB-TOKEN"] == "a-token"
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.received[f"{self.command} {self.path}"] = body
        self.send_response(201)
        self.end_headers()

    do_PUT = do_POST = _take  # noqa: N815  # names of the library's

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def gitlab() -> Iterator[tuple[str, dict[str, bytes]]]:
    received: dict[str, bytes] = {}
    handler = type("Handler", (GitLab,), {"received": received})
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/api/v4", received
        server.shutdown()
        thread.join()


def test_on_gitlab_every_file_is_uploaded_and_the_release_leads_to_it(
    released: Path, gitlab: tuple[str, dict[str, bytes]]
) -> None:
    address, received = gitlab
    project = {"CI_API_V4_URL": address, "CI_PROJECT_ID": "7", "CI_JOB_TOKEN": "a-token"}
    for command in read(".gitlab-ci.yml")["publish"]["script"]:
        done = run(command, released, CI_COMMIT_TAG=TAG, **project)
        assert done.returncode == 0, done.stderr
    release = parse_qsl(received.pop("POST /api/v4/projects/7/releases").decode())
    folder = f"/projects/7/packages/generic/taskapp/{VERSION}"
    files = {path.name: path.read_bytes() for path in (released / "dist").iterdir()}
    assert received == {f"PUT /api/v4{folder}/{name}": files[name] for name in files}
    assert dict(release)["tag_name"] == TAG
    assert dict(release)["description"].strip() == NOTES
    links = {value for name, value in release if name == "assets[links][][url]"}
    assert links == {f"{address}{folder}/{name}" for name in files}
