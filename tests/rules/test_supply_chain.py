"""What we depend on: why, under which licence, in which very files; and no secret in any file."""

import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package
from packaging.requirements import Requirement
from packaging.version import Version

CHECKOUT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
NEEDED: list[str] = [*PROJECT["dependencies"], *EXTRAS["postgres"], *EXTRAS["tracing"]]
LOCKS = ("requirements.lock", "requirements-dev.lock")
PERMISSIVE = re.compile(
    r"MIT( License)?|ISC|BSD( License)?|BSD-[23]-Clause|3-Clause BSD License"
    r"|Apache( Software License|-2\.0)|PSF-2\.0"
    r"|The Unlicense \(Unlicense\)"
)
PINNED = re.compile(r"^([a-z0-9._-]+)(?:\[.*\])?==[^\n]*\n(?:    --[^\n]*\n)*", re.MULTILINE)
FIND = Path(sys.executable).with_name("detect-secrets-hook")
DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
ECOSYSTEMS = {
    "pyproject.toml": "pip",
    "package.json": "npm",
    "Dockerfile": "docker",
    "compose.yaml": "docker-compose",
}
BUILT_HERE = {"taskapp"}  # `make image`
# LGPL with exceptions, and the MPL; docs/licences.md says what that means.
LESSER = {"psycopg2-binary", "certifi"}


def read_files() -> dict[str, str]:
    """Return the text of every file of the repository, by its path."""
    listed = subprocess.check_output(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=CHECKOUT, text=True
    )
    paths = [path for path in listed.splitlines() if (CHECKOUT / path).is_file()]
    return {path: (CHECKOUT / path).read_text("utf-8", errors="replace") for path in paths}


def images_of_dockerfile(text: str) -> Iterator[str]:
    stages = re.findall(r"^FROM .* AS (\S+)$", text, re.MULTILINE)
    for name in re.findall(r"^(?:FROM|COPY --from=)\s*(\S+)", text, re.MULTILINE):
        if name not in stages:
            yield name


def images_of_yaml(value: Any, key: str = "") -> Iterator[str]:
    """Yield the images of a compose file, a workflow of GitHub or a pipeline of GitLab."""
    if isinstance(value, dict):
        for name, part in value.items():
            yield from images_of_yaml(part, key if name == "name" else str(name).lower())
    elif isinstance(value, list):
        for part in value:
            yield from images_of_yaml(part, key)
    elif key in {"image", "container", "services"} or str(value).startswith("docker://"):
        yield str(value).removeprefix("docker://")


def list_images() -> dict[str, set[str]]:
    """Return the images that each file names, without those in a variable or built here."""
    found: dict[str, set[str]] = {}
    for path, text in read_files().items():
        if re.search(r"(Docker|Container)file", Path(path).name):
            images = images_of_dockerfile(text)
        elif path.endswith((".yaml", ".yml")) and "/chart/templates/" not in path:  # no YAML yet
            images = (
                image for document in yaml.safe_load_all(text) for image in images_of_yaml(document)
            )
        else:
            continue
        own = ("$", "localhost/")  # no registry has the latter
        named = {image for image in images if not image.startswith(own)} - BUILT_HERE
        if named:
            found[path] = named
    return found


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~ ;\[]", text)[0].lower() for text in requirements}


def locked(lock: str) -> dict[str, str]:
    """Return what a lock says of each package, without comments."""
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    return {
        match[1]: match[0]
        for match in re.finditer(
            r"^([a-z0-9._-]+)(?:\[.*\])?==[^\n]*\n(?:    --[^\n]*\n)*", text, re.MULTILINE
        )
    }


def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", CHECKOUT / "deploy" / "licences.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_table_of_dependencies_is_the_real_one() -> None:
    guide = (CHECKOUT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = guide.partition("## Dependencies")[2]
    rows = re.findall(r"^\| ([a-z0-9, -]+) \| (.+) \|$", table, re.MULTILINE)
    explained = [name for packages, _ in rows for name in packages.split(", ") if name != "package"]
    assert len(explained) == len(set(explained))
    assert set(explained) == names(NEEDED)
    assert all(reason for _, reason in rows)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_pinned_by_its_hash(lock: str) -> None:
    packages = locked(lock)
    wanted = names(NEEDED)
    if lock != "requirements.lock":
        wanted |= names(PROJECT["optional-dependencies"]["dev"])
    assert wanted <= set(packages)
    for name, text in packages.items():
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", text), name
    text = (CHECKOUT / lock).read_text(encoding="utf-8")
    assert "://" not in re.sub(r"#.*", "", text)
    assert "--require-hashes" in (CHECKOUT / "Makefile").read_text()


@pytest.mark.parametrize("folder", ["tests", "tests/deploy"])
def test_every_package_of_npm_is_pinned_by_its_hash_and_without_an_address(folder: str) -> None:
    wanted = json.loads((CHECKOUT / folder / "package.json").read_text(encoding="utf-8"))
    packages = json.loads((CHECKOUT / folder / "package-lock.json").read_text(encoding="utf-8"))
    packages = packages["packages"]
    assert packages.pop("")["devDependencies"] == wanted["devDependencies"]
    for name, package in packages.items():
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_every_image_is_pinned_by_its_digest_and_each_tag_has_one() -> None:
    images = list_images()
    assert {"Dockerfile", "deploy/compose.yaml", ".gitlab-ci.yml"} < set(images)
    digests: dict[str, str] = {}
    for path, named in images.items():
        for image in named:
            assert DIGEST.search(image), f"{path}: {image}"
            tag, _, digest = image.partition("@")
            assert digests.setdefault(tag, digest) == digest, f"{path}: {image}"
    # Whatever else names one of them, such as a command in a document, names the digest too.
    known = "|".join({re.escape(tag.partition(":")[0]) for tag in digests})
    used = re.compile(rf"(?<![\w./-])(?:{known}):\d{{1,2}}(?!\d)[\w.-]*(?!\S*@sha256:)")
    for path, text in read_files().items():
        assert not used.search(text), f"{path}: {used.search(text)}"


def test_dependabot_reads_every_image_and_every_manifest() -> None:
    updates = yaml.safe_load((CHECKOUT / ".github/dependabot.yml").read_text())["updates"]
    read = {
        (update["package-ecosystem"], folder)
        for update in updates
        for folder in update.get("directories", [update.get("directory")])
    }
    wanted = {
        (ECOSYSTEMS[name], str(Path("/", path).parent))
        for path in read_files()
        if (name := Path(path).name) in ECOSYSTEMS
    }
    assert read == wanted | {("github-actions", "/")}
    # It does not read the images of workflows: it finds them in a Dockerfile instead.
    images = list_images()
    workflows = {path for path in images if path.startswith((".github/workflows/", ".gitlab-ci"))}
    assert len(workflows) > 1
    assert images[".github/images/Dockerfile"] == {i for path in workflows for i in images[path]}


def test_make_images_copies_the_digests_to_where_they_are_used(tmp_path: Path) -> None:
    for path in ("Makefile", ".gitlab-ci.yml", ".github", "deploy"):
        subprocess.run(["cp", "-r", str(CHECKOUT / path), str(tmp_path / path)], check=True)
    source = tmp_path / ".github/images/Dockerfile"
    source.write_text(re.sub(r"sha256:\w{64}", f"sha256:{64 * '0'}", source.read_text()))
    services = tmp_path / "deploy/compose.yaml"
    services.write_text(re.sub(r"sha256:\w{64}", f"sha256:{64 * '0'}", services.read_text()))
    subprocess.run(["make", "images"], cwd=tmp_path, check=True, capture_output=True)
    kubernetes = ["base/limits.yaml", "chart/values.yaml"]
    for path in (
        *(".gitlab-ci.yml", ".github/workflows/ci.yml"),
        *(f"deploy/kubernetes/{name}" for name in kubernetes),
    ):
        digests = set(re.findall(r"@sha256:(\w+)", (tmp_path / path).read_text()))
        assert digests == {64 * "0"}, path


def test_each_dependency_ends_before_the_next_release_that_may_be_incompatible() -> None:
    extras = PROJECT["optional-dependencies"]
    optional = [text for name in extras if name != "dev" for text in extras[name]]
    packages = locked("requirements.lock")
    for text in PROJECT["dependencies"] + optional:
        requirement = Requirement(text)
        (match,) = re.findall(r"==([^\s;]+)", packages[requirement.name])[:1]
        version = Version(match)
        following = f"{version.major + 1}" if version.major else f"0.{version.minor + 1}"
        (upper,) = [each.version for each in requirement.specifier if each.operator == "<"]
        assert version < Version(upper) <= Version(following), text
        assert any(each.operator == ">=" for each in requirement.specifier), text


def test_both_locks_agree() -> None:
    runtime, development = (locked(lock) for lock in LOCKS)
    for name, text in runtime.items():
        assert text.partition("==")[2] == development[name].partition("==")[2], name


def test_the_list_of_licences_is_the_real_one() -> None:
    module = licences()
    assert module.DOCUMENT.read_text(encoding="utf-8") == module.render()


def test_every_licence_lets_everybody_do_everything() -> None:
    module = licences()
    for name in locked("requirements.lock"):
        parts = re.split(r" (?:AND|OR) |, ", module.licence_of(name))
        assert name in LESSER or all(PERMISSIVE.fullmatch(part) for part in parts), (name, parts)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("tests/x.py", 'aws = "AKIA' + 'IOSFODNN7EXAMPLF"'),
        ("tests/x.py", "-----BEGIN RSA PRIVATE" + " KEY-----"),
        ("server.py", 'url = "postgresql://alice:' + 'fhK3jsd8Qz@db.example.com/x"'),
        ("server.py", 'password = "correct' + 'horse9battery"'),
    ],
)
def test_a_secret_in_a_file_would_be_noticed(tmp_path: Path, name: str, line: str) -> None:
    for content, code in [("x = 1", 0), (line, 1)]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content + "\n", encoding="utf-8")
        found = subprocess.run(
            ["sh", CHECKOUT / "deploy" / "find_secrets.sh", FIND],
            cwd=tmp_path,
            input=name + "\n",
            capture_output=True,
            text=True,
            check=False,
        )
        assert found.returncode == code, found.stderr


CHECKSUMS = {"checksums.py"}  # of rows, to compare a backup with what it is of: against accidents


def test_no_weak_hash_is_used() -> None:
    for package in ("taskapp", "handlers", "schema"):
        for path in (CHECKOUT / package).rglob("*.py"):
            found = re.search(r"\b(md5|sha1|sha)\b|import random\b", path.read_text())
            assert not found or path.name in CHECKSUMS, path
