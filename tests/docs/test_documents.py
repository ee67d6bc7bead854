"""Every file and heading that a link in the documents names exists."""

import re
from pathlib import Path

import pytest

from tests.support.draw_pictures import PICTURES, picture_path

CHECKOUT = Path(__file__).parents[2]
DOCUMENTS = sorted(
    [*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md"), CHECKOUT / "bench" / "README.md"]
)
MAX_PICTURE_SIZE, ALL_PICTURES = 60_000, 400_000  # bytes
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, in the form of GitHub and GitLab."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for path, anchor in LINK.findall(document.read_text(encoding="utf-8")):
        target = document.parent / path if path else document
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_the_page_of_pictures_shows_each_picture_and_all_are_small() -> None:
    page = (CHECKOUT / "docs" / "pictures.md").read_text(encoding="utf-8")
    shown = [CHECKOUT / "docs" / path for path in re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)]
    taken = [picture_path(name, size, scheme) for name, size, scheme in PICTURES]
    assert shown == taken
    sizes = [path.stat().st_size for path in taken]
    assert max(sizes) < MAX_PICTURE_SIZE
    assert sum(sizes) < ALL_PICTURES


def test_the_index_of_decisions_names_each_once_in_order() -> None:
    index = CHECKOUT / "docs" / "adr" / "README.md"
    named = re.findall(r"^\| \[(\d+)\]\(([^)]+)\)", index.read_text(encoding="utf-8"), re.MULTILINE)
    decisions = sorted(path.name for path in index.parent.glob("0*.md"))
    assert named == [(name[:4], name) for name in decisions]


def test_the_index_names_every_document() -> None:
    index = CHECKOUT / "docs" / "README.md"
    named = {(index.parent / path).resolve() for path, _ in LINK.findall(index.read_text())}
    documents = {path for path in DOCUMENTS if path.parent.name != "adr"} - {index}
    assert documents <= named


# Papers from before the code, which are not in the repository.
ELSEWHERE = re.compile(
    r"high-level design|design, section|\bissue \d|\bshared/(?:design|house|bench)", re.IGNORECASE
)
TEXTS = {".md", ".py", ".yml", ".yaml", ".conf", ".sh", ".toml", ".html", ".js", ".css", ".service"}
FOLDERS = ("bench", "deploy", "docs", "handlers", "schema", "static", "taskapp", "templates")


def test_no_file_refers_to_a_paper_that_is_not_in_the_repository() -> None:
    files = [path for folder in FOLDERS for path in (CHECKOUT / folder).rglob("*")]
    files += [*CHECKOUT.glob("*.*"), *CHECKOUT.glob("tests/*/*.py")]
    texts = [path for path in files if path.suffix in TEXTS and path != Path(__file__)]
    assert len(texts) > 300
    found = {
        f"{path.relative_to(CHECKOUT)}: {match[0]}"
        for path in texts
        for match in ELSEWHERE.finditer(path.read_text(encoding="utf-8"))
    }
    assert found == set()
