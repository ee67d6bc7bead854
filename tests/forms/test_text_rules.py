"""The patterns of the OpenAPI document say what the forms check, in every engine."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.api.openapi import make_document
from schema.tables import TITLE_LENGTH
from taskapp.forms.accounts import NEW_PASSWORD
from taskapp.forms.fields import Field, FieldError
from taskapp.forms.tasks import DESCRIPTION, TITLE
from tests.support.regex_engines import NODE, Engine, Python, Re2, Rust, accepts, running_engine
from tests.support.title_texts import ACCEPTED, JOINERS, REJECTED, SPACES


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[str, Engine]]:
    """Each engine by its name."""
    with running_engine("node", "-e", NODE) as node:
        yield {"Python": Python(), "RE2": Re2(), "Rust": Rust(), "ECMAScript": node}


def verdicts(engines: dict[str, Engine], schema: dict[str, Any], text: str) -> dict[str, bool]:
    return {name: accepts(engine, schema, text) for name, engine in engines.items()}


def is_read(field: Field, text: str) -> bool:
    try:
        field.read(text)
    except FieldError:
        return False
    return True


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        *((text, True) for text in ACCEPTED),
        *((text, False) for text in REJECTED),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_every_engine_judges_a_title_as_the_form_does(
    engines: dict[str, Engine], text: str, *, expected: bool
) -> None:
    assert is_read(TITLE, text) == expected
    assert verdicts(engines, TITLE.schema, text) == dict.fromkeys(engines, expected)


# Often of signs that matter, and often near the limit.
signs = st.sampled_from([*SPACES, *JOINERS, "\0", "\x01", "\xad", "x", "\u05d0", "\U0001f600"])
parts = st.text(signs | st.characters(exclude_categories=["Cs"]), max_size=5)
fillings = st.builds(
    lambda sign, missing: sign * (TITLE_LENGTH - missing), signs, st.integers(-1, 10)
)
titles = st.builds("".join, st.tuples(parts, st.just("") | fillings, parts))


@given(text=titles)
def test_every_engine_judges_any_title_as_the_form_does(
    engines: dict[str, Engine], text: str
) -> None:
    assert verdicts(engines, TITLE.schema, text) == dict.fromkeys(engines, is_read(TITLE, text))


@given(text=parts)
@pytest.mark.parametrize("field", [DESCRIPTION, NEW_PASSWORD], ids=["description", "password"])
def test_every_engine_refuses_only_nul_elsewhere(
    engines: dict[str, Engine], field: Field, text: str
) -> None:
    expected = dict.fromkeys(engines, "\0" not in text)
    assert verdicts(engines, field.schema, text) == expected


def patterns(value: Any) -> Iterator[str]:
    """Yield every pattern in the document."""
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, dict | list):
            yield from patterns(part)
    if isinstance(value, dict) and isinstance(value.get("pattern"), str):
        yield value["pattern"]


def test_every_pattern_of_the_document_compiles_in_every_engine(
    engines: dict[str, Engine],
) -> None:
    found = set(patterns(make_document("")))
    assert len(found) == 4
    for pattern in found:
        assert len({engine.matches(pattern, "x") for engine in engines.values()}) == 1
