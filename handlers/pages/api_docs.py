"""The page that shows the API's description."""

import json

from handlers.api.openapi import make_document
from handlers.pages.base import PageHandler
from handlers.rendering.languages import ENGLISH


class DocsPage(PageHandler):
    """/api/docs, in English as the API is."""

    is_public = True
    language = ENGLISH

    async def get(self) -> None:
        """Render the description."""
        document = make_document(self.services.settings.base_path)
        operations = [
            {"path": path, "method": method.upper(), **operation}
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        schemas = {
            name: json.dumps(schema, indent=2)
            for name, schema in document["components"]["schemas"].items()
        }
        self.render_page("api_docs.html", operations=operations, schemas=schemas)
