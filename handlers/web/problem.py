"""The problem+json document of an error (RFC 9457)."""

from typing import Any

from taskapp.core.errors import TaskappError


def make_problem(error: TaskappError, request_id: str | None) -> dict[str, Any]:
    """Return the problem document of an error."""
    return {
        "type": "about:blank",
        "title": str(error.title),
        "status": error.status,
        "detail": str(error.detail),
        "requestId": request_id,
    }
