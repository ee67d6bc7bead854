"""Handlers use what Tornado documents: no private name of a class of Tornado that they extend."""

import ast
import inspect
import textwrap
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts)
    for path in sorted((CHECKOUT / "handlers").rglob("*.py"))
    if path.name != "__init__.py"
]


def is_of(kind: type, package: str) -> bool:
    return kind.__module__.partition(".")[0] == package


def extensions_of_tornado() -> Iterator[type]:
    """Find our classes that extend one of Tornado's."""
    for name in MODULES:
        for kind in vars(import_module(name)).values():
            if (
                isinstance(kind, type)
                and kind.__module__ == name
                and any(is_of(base, "tornado") for base in kind.__mro__)
            ):
                yield kind


@cache
def private_names(kind: type) -> set[str]:
    """List the private attributes that a class reads or sets, and its private methods."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    names |= {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    return {name for name in names if name.startswith("_") and not name.endswith("__")}


@pytest.mark.parametrize("kind", extensions_of_tornado(), ids=lambda kind: kind.__qualname__)
def test_a_class_shares_no_private_name_with_the_class_of_tornado_that_it_extends(
    kind: type,
) -> None:
    ours, theirs = set[str](), set[str]()
    for base in kind.__mro__:
        if is_of(base, "handlers"):
            ours |= private_names(base)
        elif is_of(base, "tornado"):
            theirs |= private_names(base)
    assert ours & theirs == set()


def test_the_private_names_of_tornado_are_found() -> None:
    kinds = {kind.__qualname__: kind for kind in extensions_of_tornado()}
    assert {"Application", "BodyLimit", "LimitedHTTPServer", "RequestStream"} <= set(kinds)
    bases = kinds["RequestStream"].__mro__
    assert "_handle_events" in {name for base in bases[1:-1] for name in private_names(base)}
