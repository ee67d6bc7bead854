"""The OpenAPI document: valid, complete, made of what validates, and kept by the server."""

import gzip
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import msgspec
import pytest
from tornado.httpclient import HTTPResponse

from handlers.api import openapi
from handlers.api.openapi import FORMS, make_document
from handlers.routes import ROUTES
from taskapp.queries.tasks import Task
from tests.conftest import PASSWORD
from tests.support.api_tools import NO_TASK, with_settings
from tests.support.clients import ApiClient
from tests.support.environment import inherited_environment
from tests.support.server_process import LONG_ENOUGH, server_process

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = make_document("")
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


def component(part: dict[str, Any]) -> dict[str, Any]:
    """Return what a reference leads to, or the part itself."""
    if "$ref" not in part:
        return part
    _, _, kind, name = part["$ref"].split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def responses() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, _, operation in operations():
        for status, response in operation["responses"].items():
            yield path, status, component(response)


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


def test_every_component_is_used_and_every_reference_leads_to_one() -> None:
    named = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        if kind != "securitySchemes"
        for name in components
    }
    references = {
        part["$ref"] for part in parts(DOCUMENT) if isinstance(part, dict) and "$ref" in part
    }
    assert references == named


def test_every_object_has_a_name() -> None:
    """Generators name a class after its component; one without a component gets a made-up name."""
    named = DOCUMENT["components"]["schemas"]
    inner = [
        part
        for schema in named.values()
        for part in parts(list(schema.values()))
        if isinstance(part, dict) and part.get("type") == "object"
    ]
    assert inner == []
    for part in parts(DOCUMENT["paths"]):
        if isinstance(part, dict) and "application/json" in part.get("content", {}):
            assert set(part["content"]["application/json"]["schema"]) == {"$ref"}


def test_every_example_is_valid() -> None:
    with_components = {"components": DOCUMENT["components"]}
    count = 0
    for part in parts(DOCUMENT):
        if not isinstance(part, dict):
            continue
        schema = part.get("schema", part)
        for value in examples_of(part):
            jsonschema_rs.validator_for(with_components | schema).validate(value)
            count += 1
    assert count > len(DOCUMENT["components"]["schemas"])


def examples_of(part: dict[str, Any]) -> list[Any]:
    """List the examples of a schema, a parameter, a header or a body."""
    single = [part["example"]] if "example" in part else []
    match part.get("examples"):
        case list(several):  # of a schema
            return single + several
        case dict(named):
            return single + [example["value"] for example in named.values()]
    return single


def test_everything_is_described() -> None:
    components = DOCUMENT["components"]
    for _, _, operation in operations():
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
        assert component(operation.get("requestBody", {"description": "-"}))["description"]
    schemas = components["schemas"].values()
    properties = [each for schema in schemas for each in schema.get("properties", {}).values()]
    described = [*schemas, *properties, *components["headers"].values()]
    described += [*components["parameters"].values(), *DOCUMENT["tags"]]
    described += [operation for _, _, operation in operations()]
    described += [response for _, _, response in responses()]
    for part in described:
        text = component(part)["description"]
        assert text[0].isupper() or text[0] == "`", text
        assert text[-1] == ".", text


def test_a_property_has_an_example_or_leads_to_a_schema_that_has() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, part in schema.get("properties", {}).items():
            links = "$ref" in part or "$ref" in part.get("items", {})
            is_told = links or part.keys() & {"examples", "example", "readOnly"}
            assert is_told, f"{name}.{field}"


def test_every_operation_has_a_name_of_its_own_and_its_parameters() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    for path, _, operation in operations():
        parameters = [component(parameter) for parameter in operation.get("parameters", [])]
        declared = {each["name"] for each in parameters if each["in"] == "path"}
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
    for form in FORMS:
        described = schemas[form.name]
        for field, rules in form.schema()["properties"].items():
            assert rules.items() <= component(described["properties"][field]).items()
        others = {name: rule for name, rule in form.schema().items() if name != "properties"}
        assert others.items() <= described.items()
        assert form.schema()["properties"].keys() == described["properties"].keys()
    used = {
        operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].split("/")[-1]
        for _, _, operation in operations()
        if "requestBody" in operation
    }
    assert used == {form.name for form in FORMS}


def test_a_task_is_described_as_it_is_sent() -> None:
    described = DOCUMENT["components"]["schemas"]["Task"]
    task = msgspec.to_builtins(Task("1", "2", "3", "4", "5", "6", "7"))
    assert list(described["properties"]) == described["required"] == list(task)


def test_the_static_part_repeats_nothing_that_the_code_declares(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    static_part = tmp_path / "openapi.json"
    static_part.write_text('{"components": {"schemas": {"Task": {"required": ["id"]}}}}')
    monkeypatch.setattr(openapi, "_STATIC_PART", static_part)
    with pytest.raises(TypeError, match="repeats what the code declares"):
        make_document("/another")


def test_every_error_is_described_as_a_problem() -> None:
    problem = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for path, status, response in responses():
        if status >= "400" and not ("/health" in path and status == "503"):
            assert response["content"] == problem
        assert ("Retry-After" in response["headers"]) == (response["description"] in RETRIED)


RETRIED = {
    DOCUMENT["components"]["responses"][name]["description"]
    for name in ("TooManyRequests", "ServiceUnavailable")
}


async def headers_and_description(
    user: ApiClient, method: str, path: str, status: int, **sent: Any
) -> tuple[set[str], set[str]]:
    """Return the headers that a response has, and those that the document names for it."""
    response = await user.send(method, path, **sent)
    assert response.status == status
    route = re.sub(r"/tasks/[^/?]+", "/tasks/{id}", path.partition("?")[0])
    described = component(DOCUMENT["paths"][route][method.lower()]["responses"][str(status)])
    return {*response.headers}, {name.title() for name in described["headers"]}


@pytest.mark.gen_test
@pytest.mark.usefixtures("app")
@with_settings(REGISTER_LIMIT="1/hour")
async def test_responses_have_the_headers_that_are_described(
    alice: ApiClient,
) -> None:
    await alice.add_task()
    task = (await alice.post("/api/tasks", {"title": "Buy bread"})).json
    path = f"/api/tasks/{task['id']}"
    version = f'"{task["updatedAt"]}"'
    body = {"title": "Buy milk"}
    known, changed = {"If-None-Match": version}, {"If-Match": '"2020-01-01T00:00:00Z"'}
    stranger = {"Authorization": ""}
    for given, described in [
        await headers_and_description(alice, "GET", "/api/tasks?limit=1", 200),
        await headers_and_description(alice, "POST", "/api/tasks", 201, body=body),
        await headers_and_description(alice, "GET", path, 200),
        await headers_and_description(alice, "GET", path, 304, headers=known),
        await headers_and_description(alice, "PATCH", path, 412, body={}, headers=changed),
        await headers_and_description(alice, "PUT", path, 200, body=body),
        await headers_and_description(alice, "GET", f"/api/tasks/{NO_TASK}", 404),
        await headers_and_description(alice, "GET", "/api/tasks", 401, headers=stranger),
        await headers_and_description(alice, "GET", "/api/health", 200),
        await headers_and_description(alice, "GET", "/api/health/live", 200),
        await headers_and_description(alice, "GET", "/api/health/ready", 200),
        await headers_and_description(alice, "DELETE", path, 200),
        await headers_and_description(alice, "POST", "/api/auth/logout", 200),
        await headers_and_description(
            alice,
            "POST",
            "/api/auth/register",
            429,
            body={"email": "carol@example.com", "password": PASSWORD},
        ),
    ]:
        assert {name.title() for name in described} <= {name.title() for name in given}


@pytest.mark.gen_test
async def test_the_document_is_served_to_everybody(api: ApiClient) -> None:
    response = await api.get("/api/openapi.json")
    assert response.status == 200
    assert response.headers["Content-Type"] == "application/json"
    assert response.json == DOCUMENT


@pytest.mark.gen_test
async def test_the_document_is_compressed_and_sent_once(api: ApiClient) -> None:
    async def fetch(**headers: str) -> HTTPResponse:
        response: HTTPResponse = await api.http_client.fetch(
            f"{api.base_url}/api/openapi.json",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            decompress_response=False,
            raise_error=False,
        )
        assert response.headers["Cache-Control"] == "public, max-age=300"
        assert response.headers["Vary"] == "Accept-Encoding"
        return response

    plain = await fetch(Accept_Encoding="br")
    packed = await fetch(Accept_Encoding="br, gzip")
    assert "Content-Encoding" not in plain.headers
    assert packed.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    assert len(packed.body) * 4 < len(plain.body)
    known = packed.headers["ETag"]
    assert (await fetch(Accept_Encoding="gzip", If_None_Match=known)).code == 304
    assert (await fetch(Accept_Encoding="br", If_None_Match=known)).code == 200


@pytest.mark.gen_test
@pytest.mark.usefixtures("app")
@with_settings(CORS_ORIGINS="https://docs.example")
async def test_a_page_of_another_site_may_read_the_document(api: ApiClient) -> None:
    response = await api.get("/api/openapi.json", headers={"Origin": "https://docs.example"})
    assert response.headers["Access-Control-Allow-Origin"] == "https://docs.example"
    assert {*re.split(", ?", response.headers["Vary"])} == {"Origin", "Accept-Encoding"}


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
    assert not {"`", "**"} & set(re.findall(r"`|\*\*", page.partition("Schemas")[0]))
    assert "Retry after the seconds in <code>Retry-After</code>." in page
    assert "<strong>Retries.</strong>" in page
    links = set(re.findall(r'href="#([^"]+)"', page))
    assert {f"schema-{name}" for name in ("TaskList", "TaskCreate", "Problem")} <= links
    assert links <= set(re.findall(r'id="([^"]+)"', page))
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
