"""The page that shows the OpenAPI document."""

import json
from functools import cache
from typing import Any

from handlers.api.openapi import make_document
from handlers.pages.base import PageHandler
from handlers.rendering.languages import ENGLISH


class DocsPage(PageHandler):
    """/api/docs, in English as the API is."""

    is_public = True
    language = ENGLISH

    async def get(self) -> None:
        """Render the document."""
        self.render_page("api_docs.html", **_read_document())


@cache
def _read_document() -> dict[str, Any]:
    """Return what the page shows, with each reference replaced by what it leads to."""
    document = make_document("")
    operations = [
        _resolve(document, operation) | {"path": path, "method": method.upper()}
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    responses = [response for each in operations for response in each["responses"].values()]
    return {
        "introduction": document["info"]["description"].split("\n\n"),
        "tags": document["tags"],
        "operations": operations,
        "headers": {
            name: header
            for response in responses
            for name, header in response.get("headers", {}).items()
        },
        "schemas": {
            name: json.dumps(schema, indent=2)
            for name, schema in document["components"]["schemas"].items()
        },
    }


def _resolve(document: dict[str, Any], part: Any) -> Any:
    """Replace references by components; one to a schema becomes its name, which the page links."""
    if isinstance(part, list):
        return [_resolve(document, each) for each in part]
    if not isinstance(part, dict):
        return part
    if "$ref" not in part:
        return {name: _resolve(document, each) for name, each in part.items()}
    _, _, kind, name = part["$ref"].split("/")
    if kind == "schemas":
        return {"name": name}
    return _resolve(document, document["components"][kind][name])
