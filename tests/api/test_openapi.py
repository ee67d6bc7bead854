"""The API's description: valid, complete, made of what validates, and held to by the server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from handlers.api.openapi import make_document
from handlers.routes import ROUTES
from taskapp.forms.accounts import LOGIN, REGISTRATION
from taskapp.forms.tasks import NEW_TASK, TASK_CHANGES
from tests.support.clients import ApiClient
from tests.support.environment import inherited_environment
from tests.support.server_process import LONG_ENOUGH, server_process

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = make_document("")
FORMS = [LOGIN, NEW_TASK, REGISTRATION, TASK_CHANGES]
UNDESCRIBED = {"/api/docs", "/api/openapi.json", "/api/:path"}  # about the API, not of it


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def parts(value: Any) -> Iterator[Any]:
    """Yield a value and all that is in it."""
    yield value
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from parts(part)


def test_the_document_is_valid_openapi() -> None:
    # Here, for every worker imports this file, and that takes a second.
    from schemathesis.specs.openapi.definitions import OPENAPI_31

    assert DOCUMENT["openapi"].startswith("3.1.")
    jsonschema_rs.validator_for(OPENAPI_31).validate(DOCUMENT)


def test_every_schema_is_valid_json_schema() -> None:
    for value in parts(DOCUMENT):
        if isinstance(value, dict) and isinstance(value.get("schema"), dict):
            jsonschema_rs.meta.validate(value["schema"])
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_every_reference_leads_somewhere() -> None:
    named = DOCUMENT["components"]["schemas"]
    references = {
        part["$ref"] for part in parts(DOCUMENT) if isinstance(part, dict) and "$ref" in part
    }
    assert references == {f"#/components/schemas/{name}" for name in named}


def test_every_operation_has_a_name_of_its_own_and_its_parameters() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for path, _, operation in operations():
        declared = {
            parameter["name"]
            for parameter in operation.get("parameters", [])
            if parameter["in"] == "path"
        }
        assert declared == set(re.findall(r"{(\w+)}", path))
        assert operation["summary"]


def test_the_document_describes_every_route_and_no_other() -> None:
    routed = {
        (path.replace(":id", "{id}"), method.lower())
        for path, handler in ROUTES
        if path.startswith("/api/") and path not in UNDESCRIBED
        for method in handler.allowed_methods()
        if method not in {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, method, _ in operations()} == routed


def test_an_operation_is_open_to_all_exactly_if_its_handler_is() -> None:
    public = {path.replace(":id", "{id}") for path, handler in ROUTES if handler.is_public}
    for path, _, operation in operations():
        assert (operation.get("security") == []) == (path in public)
        assert ("401" in operation["responses"]) == (path not in public or "login" in path)


def test_bodies_are_described_by_the_forms_that_check_them() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    assert {form.name: form.schema() for form in FORMS}.items() <= schemas.items()
    used = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
        for _, _, operation in operations()
        if "requestBody" in operation
    }
    assert used == {form.name for form in FORMS}


def test_every_error_is_described_as_a_problem() -> None:
    for _, _, operation in operations():
        for status, response in operation["responses"].items():
            assert response["description"]
            if status >= "400" and "/health" not in str(response):
                assert set(response["content"]) <= {"application/problem+json", "application/json"}


@pytest.mark.gen_test
async def test_the_document_is_served_to_everybody(api: ApiClient) -> None:
    response = await api.get("/api/openapi.json")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json == DOCUMENT


@pytest.mark.gen_test
async def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(
    api: ApiClient,
) -> None:
    response = await api.get("/api/docs")
    assert response.status == 200
    page = response.body.decode()
    for path, method, operation in operations():
        assert f"{method.upper()} {path}" in page
        assert operation["operationId"] in page
    assert "`" not in page.partition("Schemas")[0]
    assert "<dd>A limit is used up; <code>Retry-After</code> says when to try again.</dd>" in page
    loaded = re.findall(r'<(?:link|img|script|iframe)[^>]*(?:href|src)="([^"]*)"', page)
    assert loaded
    assert all(re.match(r"/(?!/)", address) for address in loaded)
    assert "http" not in response.headers["Content-Security-Policy"]


def test_schemathesis_finds_nothing(database_url: str, tmp_path: Path) -> None:
    """Run all checks of schemathesis against a served `server.py`; the same requests each time."""
    settings = {"TASKAPP_DATABASE_URL": database_url, "TASKAPP_LOG_FORMAT": "json"}
    with server_process(tmp_path / "data", settings=settings) as server:
        server.wait_until_ready()
        url = f"http://127.0.0.1:{server.address}"
        program = [str(Path(sys.executable).with_name("schemathesis"))]
        program += ["--config-file", str(CHECKOUT / "tests" / "api" / "schemathesis.toml")]
        program += ["run", f"{url}/api/openapi.json", "--no-color"]
        program += ["--checks=all", "--max-examples=20", "--generation-deterministic"]
        program += [f"--request-timeout={LONG_ENOUGH}"]
        hooks = {"SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks", "TASKAPP_TEST_URL": url}
        done = subprocess.run(
            program,
            cwd=tmp_path,
            env=inherited_environment() | hooks | {"PYTHONPATH": str(CHECKOUT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "No issues found" in done.stdout
        assert "WARNINGS" not in done.stdout, done.stdout
        assert server.surprises() == []
        assert server.end() == 0
