"""The one Jinja environment, and the static files that its pages name."""

import hashlib
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined

if TYPE_CHECKING:
    from handlers.application import Application

ROOT = Path(__file__).resolve().parent.parent
STATIC = ROOT / "static"


def make_templates(application: "Application") -> Environment:
    """Make the environment: everything escaped, and a name that is not there is an error."""
    templates = Environment(
        loader=FileSystemLoader(ROOT / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals["path"] = application.path
    templates.globals["static"] = lambda name: application.path(f"/static/{name}?v={_digest(name)}")
    templates.globals["is_open"] = application.services.settings.registration == "open"
    templates.filters["moment"] = show_moment
    templates.filters["duration"] = show_duration
    return templates


def show_moment(text: str) -> str:
    """Show a moment of RFC 3339 for people, in UTC."""
    return datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M UTC")


def show_duration(seconds: int) -> str:
    """Show for people how long something takes, never too short."""
    if seconds < 100:
        return f"{seconds} second{'s' if seconds != 1 else ''}"
    minutes = -(-seconds // 60)
    if minutes < 100:
        return f"{minutes} minutes"
    return f"{-(-minutes // 60)} hours"


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:16]
