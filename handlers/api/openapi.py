"""The API's description, made of the declarations that validate."""

from typing import Any

import msgspec

from handlers.api.base import ApiHandler
from taskapp.forms.accounts import LOGIN, REGISTRATION
from taskapp.forms.fields import Form
from taskapp.forms.parameters import DEFAULT_PAGE_SIZE, IDEMPOTENCY_KEY_PATTERN, MAX_PAGE_SIZE
from taskapp.forms.tasks import DESCRIPTION, NEW_TASK, STATUS, TASK_CHANGES, TITLE
from taskapp.queries.tasks import Task

Json = dict[str, Any]

_PROBLEM: Json = {
    "type": "object",
    "description": "A problem, as RFC 9457 defines it.",
    "required": ["type", "title", "status", "detail", "requestId"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "requestId": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "message"],
                "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
_MEANINGS = {
    400: "Something that was sent is wrong; `errors` names the fields.",
    401: "There is no valid token, or the e-mail address or password is wrong.",
    403: "It belongs to somebody else, is not open to you, or the token may only read.",
    404: "There is no such task.",
    409: "The e-mail address is registered already.",
    412: "The task was changed since the version in `If-Match`.",
    413: "The body is too large.",
    415: "The body is not declared to be application/json.",
    429: "A limit is used up; `Retry-After` says when to try again.",
    503: "The database does not answer; `Retry-After` says when to try again.",
}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(**properties: Json) -> Json:
    return {"type": "object", "required": list(properties), "properties": properties}


def _task_schema() -> Json:
    _, components = msgspec.json.schema_components([Task])
    schema: Json = components["Task"]
    schema.pop("title")
    properties = schema["properties"]
    properties["id"] = {"type": "string", "format": "uuid"}
    properties["title"] = TITLE.schema
    properties["description"] = DESCRIPTION.schema
    properties["status"] = STATUS.schema
    for timestamp in ("createdAt", "updatedAt"):
        properties[timestamp] = {"type": "string", "format": "date-time"}
    return schema


def _body(form: Form) -> Json:
    content = {"application/json": {"schema": _reference(form.name)}}
    return {"required": True, "content": content}


def _responses(
    status: int, meaning: str, schema: Json, *problems: int, headers: Any = None
) -> Json:
    good: Json = {"description": meaning, "content": {"application/json": {"schema": schema}}}
    if headers:
        good["headers"] = {name: {"schema": {"type": "string"}} for name in headers}
    responses = {str(status): good}
    for problem in problems:
        content = {"application/problem+json": {"schema": _reference("Problem")}}
        responses[str(problem)] = {"description": _MEANINGS[problem], "content": content}
    return responses


def _header(name: str, meaning: str, schema: Json | None = None) -> Json:
    return {
        "name": name,
        "in": "header",
        "description": meaning,
        "schema": schema or {"type": "string"},
    }


_MESSAGE = _object(message={"type": "string"})
_LOGGED_IN = (401, 429, 503)
_ON_TASK = (401, 403, 404, 429, 503)
_IF_MATCH = _header("If-Match", "Only if the task is at this version: the ETag it was read with.")
_IF_NONE_MATCH = _header("If-None-Match", "304 if it still has this ETag.")
_UNCHANGED = {"304": {"description": "It is what `If-None-Match` names."}}
_TASK_ID: Json = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "format": "uuid"},
}


def _operation(name: str, summary: str, responses: Json, **more: Any) -> Json:
    return {"operationId": name, "summary": summary, "responses": responses, **more}


def _account_paths() -> Json:
    public: Json = {"security": []}
    user = _object(id={"type": "string", "format": "uuid"}, email={"type": "string"})
    return {
        "/api/auth/register": {
            "post": _operation(
                "register",
                "Make an account",
                _responses(
                    201,
                    "The account was made.",
                    _object(
                        message={"type": "string"}, userId={"type": "string", "format": "uuid"}
                    ),
                    *(400, 403, 409, 413, 415, 429, 503),
                ),
                requestBody=_body(REGISTRATION),
                **public,
            )
        },
        "/api/auth/login": {
            "post": _operation(
                "logIn",
                "Begin a session and get its token",
                _responses(
                    200,
                    "The session has begun.",
                    _object(token={"type": "string"}, user=user),
                    *(400, 401, 413, 415, 429, 503),
                ),
                requestBody=_body(LOGIN),
                **public,
            )
        },
        "/api/auth/logout": {
            "post": _operation(
                "logOut",
                "End the session, or revoke the personal token",
                _responses(200, "It is over.", _MESSAGE, *_LOGGED_IN),
            )
        },
    }


def _task_paths() -> Json:
    task = _reference("Task")
    limit = {
        "type": "integer",
        "minimum": 1,
        "maximum": MAX_PAGE_SIZE,
        "default": DEFAULT_PAGE_SIZE,
    }
    key = {"type": "string", "pattern": IDEMPOTENCY_KEY_PATTERN}
    tasks = _object(tasks={"type": "array", "items": task}, nextCursor={"type": ["string", "null"]})
    changes = {
        "parameters": [_TASK_ID, _IF_MATCH],
        "requestBody": _body(TASK_CHANGES),
    }
    problems = (400, 412, 413, 415, *_ON_TASK)
    changed = _responses(200, "The task as it is now.", task, *problems, headers=["ETag"])
    return {
        "/api/tasks": {
            "get": _operation(
                "listTasks",
                "List tasks, newest first",
                _responses(
                    200, "A page of tasks.", tasks, 400, *_LOGGED_IN, headers=["ETag", "Link"]
                )
                | _UNCHANGED,
                parameters=[
                    {"name": "status", "in": "query", "schema": STATUS.schema},
                    {"name": "limit", "in": "query", "schema": limit},
                    {
                        "name": "after",
                        "in": "query",
                        "description": "The `nextCursor` of the page before.",
                        "schema": {"type": "string", "format": "cursor"},
                    },
                    _IF_NONE_MATCH,
                ],
            ),
            "post": _operation(
                "createTask",
                "Make a task",
                _responses(
                    201,
                    "The task; with a key that was used before, the one it made, as it is now.",
                    task,
                    *(400, 403, 413, 415, *_LOGGED_IN),
                    headers=["ETag", "Location"],
                ),
                parameters=[_header("Idempotency-Key", "The same key makes one task.", key)],
                requestBody=_body(NEW_TASK),
            ),
        },
        "/api/tasks/{id}": {
            "get": _operation(
                "getTask",
                "Get a task",
                _responses(200, "The task.", task, *_ON_TASK, headers=["ETag"]) | _UNCHANGED,
                parameters=[_TASK_ID, _IF_NONE_MATCH],
            ),
            "put": _operation(
                "replaceTask", "Change what is sent; the rest stays as it is", changed, **changes
            ),
            "patch": _operation("updateTask", "Do the same as PUT", changed, **changes),
            "delete": _operation(
                "deleteTask",
                "Delete a task",
                _responses(200, "It is deleted.", _MESSAGE, 412, *_ON_TASK),
                parameters=[_TASK_ID, _IF_MATCH],
            ),
        },
    }


def _health_paths() -> Json:
    health = _object(
        status={"enum": ["healthy", "unhealthy"]},
        timestamp={"type": "string", "format": "date-time"},
        uptime={"type": "integer", "description": "Seconds since the process started."},
        database={"enum": ["connected", "disconnected", "read-only"]},
        backup={"enum": ["current", "late", "failing", "none", "off"]},
        backupAge={"type": ["integer", "null"], "description": "Of the newest backup, in seconds."},
    )
    # Not required: strangers are not told.
    health["properties"]["version"] = {
        "type": "string",
        "description": "Of taskapp; only for the networks that may read `/metrics`.",
    }
    health["properties"]["backupProblems"] = {
        "type": "array",
        "items": {"type": "string"},
        "description": "What is wrong with the backups; for the same networks.",
    }
    state = _object(status={"type": "string"})
    public: Json = {"security": []}
    return {
        "/api/health": {
            "get": _operation(
                "getHealth",
                "How the process and its database are",
                _responses(200, "Healthy.", health) | _health_response("Not healthy.", health),
                **public,
            )
        },
        "/api/health/live": {
            "get": _operation(
                "getLive", "Whether the process lives", _responses(200, "It does.", state), **public
            )
        },
        "/api/health/ready": {
            "get": _operation(
                "getReady",
                "Whether requests can be served",
                _responses(200, "They can.", state) | _health_response("Not now.", state),
                **public,
            )
        },
    }


def _health_response(meaning: str, schema: Json) -> Json:
    return {"503": {"description": meaning, "content": {"application/json": {"schema": schema}}}}


def make_document(server: str) -> Json:
    """Describe the API as OpenAPI 3.1, as it is found below the path `server`."""
    forms = (REGISTRATION, LOGIN, NEW_TASK, TASK_CHANGES)
    schemas = {form.name: form.schema() for form in forms}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "taskapp",
            "version": "1",
            "description": "Keep tasks: add, read, filter, change, complete and delete them.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server or "/"}],
        "security": [{"token": []}],
        "paths": _account_paths() | _task_paths() | _health_paths(),
        "components": {
            "schemas": schemas | {"Task": _task_schema(), "Problem": _PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "The token of POST /api/auth/login, or one of the account page.",
                }
            },
        },
    }


class OpenApiApi(ApiHandler):
    """GET /api/openapi.json."""

    is_public = True

    async def get(self) -> None:
        """Give the description."""
        self.write_json(make_document(self.services.settings.base_path))
