"""The style sheet of CONTRIBUTING.md, as far as a program can read it."""

import ast
import re
from collections.abc import Iterator

import pytest

from tests.support.reference_pages import described_events
from tests.support.server_process import CHECKOUT

FOLDERS = ("taskapp", "handlers", "schema", "tests", "bench", "deploy")
SOURCES = [
    CHECKOUT / "server.py",
    *(
        path
        for folder in FOLDERS
        for path in sorted((CHECKOUT / folder).rglob("*.py"))
        if "node_modules" not in path.parts
    ),
]
NGINX_EVENT = re.compile(r'"event":"([^"]+)"')
# The verb says what happened, or what happens now.
NOUN_AND_VERB = re.compile(
    r"[a-z_]+\.([a-z]+_)*"
    r"([a-z]+ed|[a-z]+ing|began|cut|forgotten|found|left|lost|made|out|ran|set|withheld)"
)
BANNED_OPENING = re.compile(r"(Give|Take the|Take a|Tell whether|Say)\b")


def docstrings(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line and the text of every docstring of a module."""
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, nodes) and (text := ast.get_docstring(node)):
            yield node.body[0].lineno, text


def banned(source: str) -> list[int]:
    """Return the lines of the docstrings that begin with a banned opening."""
    return [line for line, text in docstrings(source) if BANNED_OPENING.match(text)]


@pytest.mark.parametrize(
    ("docstring", "is_banned"),
    [
        ("Give the row.", True),
        ("Tell whether it is so.", True),
        ("Take the settings.", True),
        ("Say why.", True),
        ("Given a row, update it.", False),
        ("Return the row.", False),
    ],
)
def test_a_banned_opening_is_found(docstring: str, *, is_banned: bool) -> None:
    assert banned(f'def find():\n    """{docstring}"""\n') == ([2] if is_banned else [])


def test_no_docstring_begins_with_a_banned_opening() -> None:
    found = {
        f"{path.relative_to(CHECKOUT)}:{line}"
        for path in SOURCES
        for line in banned(path.read_text(encoding="utf-8"))
    }
    assert found == set()


@pytest.mark.parametrize(
    ("event", "is_one"),
    [
        ("task.created", True),
        ("database.migration_waiting", True),
        ("ready", False),
        ("stopped", False),
        ("login.ok", False),
        ("created.task", False),
        ("backup.problem", False),
    ],
)
def test_a_log_event_that_is_no_noun_and_verb_is_found(event: str, *, is_one: bool) -> None:
    assert bool(NOUN_AND_VERB.fullmatch(event)) == is_one


def test_every_log_event_is_a_noun_and_a_verb() -> None:
    nginx = NGINX_EVENT.findall((CHECKOUT / "deploy/nginx.conf").read_text(encoding="utf-8"))
    assert nginx
    events = {*described_events(), *nginx}
    assert {event for event in events if not NOUN_AND_VERB.fullmatch(event)} == set()
