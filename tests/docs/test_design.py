"""docs/design: every requirement names its place and its proof, and both exist."""

import re

import pytest

from tests.docs.test_security_docs import list_tests
from tests.support.server_process import CHECKOUT

PAGE = (CHECKOUT / "docs" / "design" / "requirements.md").read_text(encoding="utf-8")
LINES = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line]
ROW = re.compile(r"^\| ([A-Z]+)-(\d+) \| (.+?) \| (.*?) ?\| (.+?) \|$")
ROWS = [match.groups() for match in map(ROW.match, LINES) if match]
HEADS = re.compile(r"^\| id \| (requirement|criterion|measure) \| where \| proven by \|$")
REASONS = ("Not yet", "By the operator: ", "Decided against: ")
TESTS = list_tests()


def test_every_line_of_the_tables_is_a_requirement() -> None:
    assert [line for line in LINES if not ROW.match(line) and not HEADS.match(line)] == []


def test_the_requirements_of_a_kind_are_numbered_without_a_gap() -> None:
    numbers: dict[str, list[int]] = {}
    for kind, number, *_ in ROWS:
        numbers.setdefault(kind, []).append(int(number))
    assert all(found == [*range(1, len(found) + 1)] for found in numbers.values()), numbers
    assert (len(numbers["FR"]), len(numbers["AC"])) == (12, 8)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_a_requirement_has_its_place_and_its_proof(row: tuple[str, ...]) -> None:
    _, _, _, where, proof = row
    for path in re.findall(r"`([^`]+)`", where):
        assert (CHECKOUT / path).exists(), path
    named = re.findall(r"`(test_\w+)`", proof)
    assert set(named) <= TESTS
    assert named or proof.startswith(REASONS)
    assert where or proof.startswith(REASONS)
