"""docs/security.md covers all of ASVS, and every test that it names exists."""

import ast
import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
DOCUMENT = (CHECKOUT / "docs" / "security.md").read_text(encoding="utf-8")
# The ids of OWASP ASVS 5.0.0: "section: numbers".
LEVEL_1 = """
1.2: 1 2 3 4 5 | 1.3: 1 2 | 1.5: 1
2.1: 1 | 2.2: 1 2 | 2.3: 1
3.2: 1 2 | 3.3: 1 | 3.4: 1 2 | 3.5: 1 2 3
4.1: 1 | 4.4: 1 | 5.2: 1 2 | 5.3: 1 2
6.1: 1 | 6.2: 1 2 3 4 5 6 7 8 | 6.3: 1 2 | 6.4: 1 2
7.2: 1 2 3 4 | 7.4: 1 2
8.1: 1 | 8.2: 1 2 | 8.3: 1
9.1: 1 2 3 | 9.2: 1 | 10.4: 1 2 3 4 5
11.3: 1 2 | 11.4: 1 | 12.1: 1 | 12.2: 1 2
13.4: 1 | 14.2: 1 | 14.3: 1 | 15.1: 1 | 15.2: 1 | 15.3: 1
"""
LEVEL_2 = """
1.1: 1 2 | 1.2: 6 7 8 9 | 1.3: 3 4 5 6 7 8 9 10 11 | 1.4: 1 2 3 | 1.5: 2
2.1: 2 3 | 2.2: 3 | 2.3: 2 3 4 | 2.4: 1
3.3: 2 3 4 | 3.4: 3 4 5 6 | 3.5: 4 5 | 3.7: 1 2
4.1: 2 3 | 4.2: 1 | 4.3: 1 2 | 4.4: 2 3 4 | 5.1: 1 | 5.2: 3 | 5.4: 1 2 3
6.1: 2 3 | 6.2: 9 10 11 12 | 6.3: 3 4 | 6.4: 3 4 | 6.5: 1 2 3 4 5 | 6.6: 1 2 3 | 6.8: 1 2 3 4
7.1: 1 2 3 | 7.3: 1 2 | 7.4: 3 4 5 | 7.5: 1 2 | 7.6: 1 2
8.1: 2 | 8.2: 3 | 8.4: 1 | 9.2: 2 3 4
10.1: 1 2 | 10.2: 1 2 | 10.3: 1 2 3 4 | 10.4: 6 7 8 9 10 11 | 10.5: 1 2 3 4 5
10.6: 1 2 | 10.7: 1 2 3
11.1: 1 2 | 11.2: 1 2 3 | 11.3: 3 | 11.4: 2 3 4 | 11.5: 1 | 11.6: 1
12.1: 2 3 | 12.3: 1 2 3 4
13.1: 1 | 13.2: 1 2 3 4 5 | 13.3: 1 2 | 13.4: 2 3 4 5
14.1: 1 2 | 14.2: 2 3 4 | 14.3: 2 3
15.1: 2 3 | 15.2: 2 3 | 15.3: 2 3 4 5 6 7
16.1: 1 | 16.2: 1 2 3 4 5 | 16.3: 1 2 3 4 | 16.4: 1 2 3 | 16.5: 1 2 3
17.1: 1 | 17.2: 1 2 3 4 | 17.3: 1 2
"""
ROW = re.compile(r"^\| (\d+\.\d+\.\d+) \| ([12]) \| (.+?) \| (.+?) \| (.*?) ?\|$", re.MULTILINE)
ROWS = ROW.findall(DOCUMENT)


EXCUSES = ("does not apply: ", "by the operator: ")


def ids(text: str) -> set[str]:
    """Return the ids of the short notation above."""
    found = set()
    for part in re.split(r"[|\n]", text.strip()):
        section, _, numbers = part.strip().partition(": ")
        found |= {f"{section}.{number}" for number in numbers.split()}
    return found


@cache
def list_tests() -> set[str]:
    return {
        node.name
        for path in (CHECKOUT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_the_lists_of_ids_are_whole() -> None:
    assert (len(ids(LEVEL_1)), len(ids(LEVEL_2))) == (70, 183)


@pytest.mark.parametrize("text", ["| 1.1.1 | 3 | a | b | |", "| 1.1 | 1 | a | b | |"])
def test_a_row_of_another_form_would_be_noticed(text: str) -> None:
    assert not ROW.findall(text)


def test_every_requirement_of_level_1_has_a_row_and_every_other_is_accounted_for() -> None:
    levels = {1: ids(LEVEL_1), 2: ids(LEVEL_2)}
    rows = Counter(identity for identity, *_ in ROWS)
    assert [identity for identity, number in rows.items() if number > 1] == []
    for identity, level, *_ in ROWS:
        assert identity in levels[int(level)]
    assert levels[1] - set(rows) == set()
    checklist = DOCUMENT.partition("## Running the scanners")[0]
    named = set(re.findall(r"\b\d+\.\d+\.\d+\b", checklist)) - {"5.0.0"}
    assert named == levels[1] | levels[2]


@pytest.mark.parametrize(
    ("identity", "how", "proofs"), [(row[0], row[3], row[4]) for row in ROWS], ids=lambda each: ""
)
def test_a_requirement_is_proven_by_tests_that_exist(identity: str, how: str, proofs: str) -> None:
    named = re.findall(r"`(test_\w+)`", proofs)
    assert set(named) <= list_tests(), identity
    assert named or how.startswith(
        ("does not apply: ", "by the operator", "not yet: ", "`sslmode")
    ), identity
