"""Reads the code blocks of the documents, and compares their output with real output."""

import re
from dataclasses import dataclass

from tests.support.server_process import CHECKOUT

# Every page for users and operators.
PAGES = sorted([CHECKOUT / "README.md", *(CHECKOUT / "docs").rglob("*.md")])
BLOCK = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A code block of a document, without its indentation in a list."""

    language: str
    text: str

    @property
    def first_line(self) -> str:
        return self.text.partition("\n")[0]


def read_blocks(markdown: str) -> list[Block]:
    """Return the code blocks in the order of the document."""
    return [
        Block(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in BLOCK.findall(markdown)
    ]


def read_sections(markdown: str) -> dict[str, str]:
    """Return the text below each second-level heading."""
    parts = re.split(r"^## (.+)$", markdown, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def shows(shown: str, said: str) -> bool:
    """Return whether an output matches a document, in which … stands for any text."""
    pattern = ".*".join(re.escape(part) for part in shown.strip("\n").split("…"))
    return re.search(pattern, said) is not None
