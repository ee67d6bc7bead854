"""Clients made from the OpenAPI document do a user's work on a real server; linters are content.

The document is the one that the server sends. openapi-generator makes clients in Python, Go and
TypeScript, openapi-python-client one in Python; each runs the same story of tests/deploy/clients/.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapp.forms.tasks import TITLE
from tests.deploy.tools import BIN, run_tool
from tests.support.regex_engines import Program, accepts, running_engine
from tests.support.server_process import CHECKOUT, ServerProcess, new_data_folder, server_process
from tests.support.title_texts import ACCEPTED, REJECTED

STORIES = CHECKOUT / "tests" / "deploy" / "clients"
NODE_BIN = CHECKOUT / "tests" / "deploy" / "node_modules" / ".bin"  # `make test-deploy` makes it
# Nothing is downloaded, and nothing is reported to anybody.
OFFLINE = {"GOPROXY": "off", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
OFFLINE |= {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with new_data_folder() as data, server_process(data) as running:
        running.wait_until_ready()
        yield running
        assert running.surprises() == []
        assert running.end() == 0


@pytest.fixture(scope="module")
def document(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document in a file, as the server sends it."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_bytes(server.client().send("GET", "/api/openapi.json").body)
    return path


@pytest.fixture(scope="module")
def go_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Where Go keeps what it has compiled."""
    return {"GOCACHE": str(tmp_path_factory.mktemp("go"))}


def run(*command: str | Path, **more: str) -> str:
    """Run a program in the folder `cwd` to its end, and return what it writes.

    `more` is added to its environment.
    """
    cwd = more.pop("cwd", None)
    done = subprocess.run(
        command,
        cwd=cwd,
        env=os.environ | OFFLINE | more,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def generate(document: Path, language: str, folder: Path, **properties: str) -> None:
    """Make a client by openapi-generator."""
    options = ",".join(f"{name}={value}" for name, value in properties.items())
    done = run_tool(
        "openapi-generator-cli",
        *("generate", "--input-spec", document, "--generator-name", language),
        *("--output", folder, f"--additional-properties={options}"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stdout + done.stderr


# Clients


def test_the_python_client_of_openapi_generator_works(
    document: Path, server: ServerProcess, tmp_path: Path
) -> None:
    generate(document, "python", tmp_path, packageName="taskapp_client")
    story = STORIES / "openapi_generator_story.py"
    assert run(BIN / "python", story, url_of(server), PYTHONPATH=str(tmp_path)) == "done\n"


def test_the_client_of_openapi_python_client_works(
    document: Path, server: ServerProcess, tmp_path: Path
) -> None:
    package = tmp_path / "taskapp_api_client"
    done = run_tool(
        "openapi-python-client",
        *("generate", "--path", document, "--meta", "none", "--output-path", package),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stdout
    story = STORIES / "openapi_python_client_story.py"
    assert run(BIN / "python", story, url_of(server), PYTHONPATH=str(tmp_path)) == "done\n"


def test_the_go_client_of_openapi_generator_works(
    document: Path, server: ServerProcess, tmp_path: Path, go_cache: dict[str, str]
) -> None:
    """It needs the standard library alone, so no module is downloaded."""
    package = tmp_path / "taskapp_client"
    generate(document, "go", package, packageName="taskapp_client", withGoMod="false")
    shutil.rmtree(package / "test")  # empty tests of the generator, which need a module
    shutil.copy(STORIES / "story.go", tmp_path)
    (tmp_path / "go.mod").write_text("module story\n\ngo 1.19\n")
    run("go", "vet", "./...", cwd=str(tmp_path), **go_cache)
    said = run("go", "run", "story.go", url_of(server), cwd=str(tmp_path), **go_cache)
    assert said == "done\n"


def test_the_typescript_client_of_openapi_generator_works(
    document: Path, server: ServerProcess, tmp_path: Path
) -> None:
    generate(document, "typescript-fetch", tmp_path / "client")
    shutil.copy(STORIES / "story.ts", tmp_path)
    options = {"strict": True, "target": "es2022", "module": "commonjs", "lib": ["es2022", "dom"]}
    options |= {"outDir": "compiled", "types": []}
    project = {"compilerOptions": options, "files": ["story.ts"]}
    (tmp_path / "tsconfig.json").write_text(json.dumps(project))
    run(NODE_BIN / "tsc", "--project", tmp_path)
    assert run("node", tmp_path / "compiled" / "story.js", url_of(server)) == "done\n"


def url_of(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.address}"


def test_go_judges_titles_as_the_form_does(tmp_path: Path, go_cache: dict[str, str]) -> None:
    program = tmp_path / "patterns"
    run("go", "build", "-o", program, STORIES / "patterns.go", **go_cache)
    with running_engine(str(program)) as go:
        assert isinstance(go, Program)
        assert [text for text in ACCEPTED if not accepts(go, TITLE.schema, text)] == []
        assert [text for text in REJECTED if accepts(go, TITLE.schema, text)] == []


# Linters


def test_openapi_generator_has_nothing_to_recommend(document: Path) -> None:
    done = run_tool("openapi-generator-cli", "validate", "--recommend", "--input-spec", document)
    assert "No validation issues detected." in done.stdout, done.stdout + done.stderr


def test_spectral_has_nothing_to_say(document: Path, tmp_path: Path) -> None:
    rules = tmp_path / "spectral.json"
    rules.write_text('{"extends": ["spectral:oas"]}')
    said = run(
        NODE_BIN / "spectral", "lint", document, "--ruleset", rules, "--fail-severity", "hint"
    )
    assert "No results" in said


def test_redocly_has_nothing_to_say(document: Path, tmp_path: Path) -> None:
    rules = tmp_path / "redocly.yaml"
    rules.write_text("extends: [recommended-strict]\n")
    said = run(NODE_BIN / "redocly", "lint", document, "--config", rules)
    assert "Your API description is valid" in said


def test_a_linter_would_notice(document: Path, tmp_path: Path) -> None:
    """The same calls find what is wrong in a document that has lost a description."""
    broken = json.loads(document.read_text())
    del broken["paths"]["/api/tasks"]["get"]["description"]
    del broken["paths"]["/api/tasks"]["get"]["operationId"]
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(broken))
    for test in (test_spectral_has_nothing_to_say, test_redocly_has_nothing_to_say):
        with pytest.raises(AssertionError, match="operation"):
            test(path, tmp_path)
