"""The OpenAPI document: openapi.json, completed with what the code declares.

openapi.json has the words. The rules that the server validates by (types, lengths, patterns) come
from the same declarations that validate.
"""

import gzip
import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from handlers.api.base import ApiHandler
from taskapp.forms.accounts import LOGIN, REGISTRATION
from taskapp.forms.fields import Form
from taskapp.forms.parameters import DEFAULT_PAGE_SIZE, IDEMPOTENCY_KEY_PATTERN, MAX_PAGE_SIZE
from taskapp.forms.tasks import DESCRIPTION, NEW_TASK, STATUS, TASK_CHANGES, TITLE
from taskapp.queries.tasks import Task

Json = dict[str, Any]

FORMS = (REGISTRATION, LOGIN, NEW_TASK, TASK_CHANGES)
_STATIC_PART = Path(__file__).with_name("openapi.json")
_STATUS_REFERENCE = {"$ref": "#/components/schemas/TaskStatus"}


@cache
def make_document(base_path: str) -> Json:
    """Return the OpenAPI 3.1 document of an API below `base_path`. It is shared: do not alter it.

    Raises:
        TypeError: openapi.json repeats what the code declares.
    """
    static_part = json.loads(_STATIC_PART.read_text(encoding="utf-8"))
    document: Json = _merge(static_part, _declared(base_path))
    return document


def _declared(base_path: str) -> Json:
    limit = {"minimum": 1, "maximum": MAX_PAGE_SIZE, "default": DEFAULT_PAGE_SIZE}
    schemas = {form.name: _form_schema(form) for form in FORMS}
    schemas |= {"Task": _task_schema(), "TaskStatus": STATUS.schema}
    return {
        "servers": [{"url": base_path or "/"}],
        "components": {
            "schemas": schemas,
            "parameters": {
                "Limit": {"schema": limit},
                "IdempotencyKey": {"schema": {"pattern": IDEMPOTENCY_KEY_PATTERN}},
            },
        },
    }


def _form_schema(form: Form) -> Json:
    schema = form.schema()
    if "status" in schema["properties"]:
        schema["properties"]["status"] = _STATUS_REFERENCE
    return schema


def _task_schema() -> Json:
    fields = [field.encode_name for field in msgspec.structs.fields(Task)]
    declared = {"title": TITLE.schema, "description": DESCRIPTION.schema}
    declared["status"] = _STATUS_REFERENCE
    return {"required": fields, "properties": {name: declared.get(name, {}) for name in fields}}


def _merge(words: Any, rules: Any) -> Any:
    """Return both in one; where both have an object, its members are merged.

    Raises:
        TypeError: both have a member that is not an object.
    """
    if not (isinstance(words, dict) and isinstance(rules, dict)):
        raise TypeError(f"openapi.json repeats what the code declares: {rules}")
    both = {name: _merge(words[name], rules[name]) for name in words if name in rules}
    return words | rules | both


class _Encoded(NamedTuple):
    digest: str
    codings: dict[str, bytes]


@cache
def _encode(base_path: str) -> _Encoded:
    content = msgspec.json.encode(make_document(base_path))
    compressed = gzip.compress(content, 9, mtime=0)
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _Encoded(digest, {"gzip": compressed, "identity": content})


class OpenApiApi(ApiHandler):
    """GET /api/openapi.json."""

    is_public = True

    async def get(self) -> None:
        """Write the document, or 304 if the client has it."""
        self.cache_control = "public, max-age=300"
        self.finish_encoded(*_encode(self.services.settings.base_path))
