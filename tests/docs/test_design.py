"""docs/design: every section has its requirements, and each names its place and its proof."""

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
# The numbers of the sections: those of the design, and those of the product requirements.
DESIGN = """
1 2.1 2.2 2.3 2.4 2.5 2.6 3.1 3.2 3.3 3.4 4.1 4.2 5 6.1 6.2 6.3 7.1 7.2 7.3 7.4 7.5 7.6
8.1 8.2 8.3 8.4 8.5 8.6 9.1 9.2 9.3 9.4 9.5 9.6 10.1 10.2 10.3 10.4 10.5 10.6
"""
DECISIONS = [f"ADR-{number:03}" for number in range(1, 9)]
FUNCTIONS = [f"FR-{number:03}" for number in range(1, 13)]
QUALITIES = ["7 Performance", "7 Security", "7 Scalability", "7 Reliability"]
SECTIONS = [
    *(DESIGN.split() + DECISIONS),
    *["2", "3", "4", "5", *FUNCTIONS, *QUALITIES, "8", "9", "10"],
]
SECTIONS_PAGE = (CHECKOUT / "docs" / "design" / "sections.md").read_text(encoding="utf-8")
SECTION_ROWS = [
    line.strip("| ").split(" | ")
    for line in SECTIONS_PAGE.splitlines()
    if line.startswith("| ") and not line.startswith(("| section", "|---"))
]


def test_every_section_of_the_design_and_of_the_product_requirements_has_its_row() -> None:
    assert [row[0] for row in SECTION_ROWS] == SECTIONS


@pytest.mark.parametrize("row", SECTION_ROWS, ids=lambda row: row[0])
def test_a_section_leads_to_requirements_that_exist_or_says_what_replaced_it(
    row: list[str],
) -> None:
    _, subject, told = row
    named, _, replaced = told.partition("Replaced: ")
    ids = re.findall(r"[A-Z]+-\d+", named)
    assert subject
    assert re.fullmatch(r"([A-Z]+-\d+(, |; |))*", named)
    assert set(ids) <= {f"{kind}-{number}" for kind, number, *_ in ROWS}
    assert ids or replaced


def test_every_requirement_comes_from_a_section_or_is_of_taskapps_own() -> None:
    """Two come from taskapp itself: logins that slow nobody down, limits of several servers."""
    named = {found for row in SECTION_ROWS for found in re.findall(r"[A-Z]+-\d+", row[2])}
    ours = {"PERF-4", "SCALE-9"}
    assert {f"{kind}-{number}" for kind, number, *_ in ROWS} - named == ours


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
    assert set(named) <= list_tests()
    assert named or proof.startswith(REASONS)
    assert where or proof.startswith(REASONS)
