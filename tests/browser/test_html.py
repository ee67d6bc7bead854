"""The Nu HTML checker finds nothing in the pages, the stylesheet and the pictures."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.browser_fixtures import CHECKOUT
from tests.support.page_site import Site, running_site
from tests.support.page_states import STATES, State
from tests.support.server_process import LONG_ENOUGH

CHECKER = CHECKOUT / "tests" / "node_modules" / "vnu-jar" / "build" / "dist" / "vnu.jar"
START_QUICKLY = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")  # for a run of a few seconds
PAGES = {
    f"{state.name}-{locale}": (state, locale) for state in STATES for locale in ("en-GB", "de-DE")
}
# CSS that the checker does not know yet: CSS View Transitions Module, Level 2 and 1, and CSS
# Conditional Rules Module, Level 5.
UNKNOWN_TO_THE_CHECKER = {
    ("CSS: Unrecognized at-rule “@view-transition”", "@view-transition"),
    ("CSS: Unknown pseudo-element or pseudo-class “::view-transition”.", "::view-transition"),
    ("CSS: “field-sizing”: Property “field-sizing” doesn't exist.", "field-sizing"),
    ("CSS: Parse Error.", "tion-group(root)"),
    ("CSS: Unrecognized at-rule “@container”", "@container"),
    ("CSS: “container-type”: Property “container-type” doesn't exist.", "container-type"),
}
FILES = sorted(path for path in (CHECKOUT / "static").iterdir() if path.suffix in {".css", ".svg"})


@pytest.fixture(scope="module")
def site(database_url: str, short_folder: Path) -> Iterator[Site]:
    with running_site(short_folder / "html", database_url) as site:
        yield site


@pytest.fixture(scope="module")
def findings(site: Site, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Return the checker's findings by name of page or file."""
    folder = tmp_path_factory.mktemp("pages")
    for name, (state, locale) in PAGES.items():
        read = _read_what_scripts_made if state.needs_scripts else _read_page
        (folder / f"{name}.html").write_bytes(read(site, state, locale))
    return _check([*folder.iterdir(), *FILES])


def _read_page(site: Site, state: State, locale: str) -> bytes:
    """Return the bytes of a page as sent by the server, before scripts."""
    with state.visit(site, locale, scripts=False) as visit:
        assert visit.document
        assert visit.document.status == state.status, state.name
        return visit.document.body()


def _read_what_scripts_made(site: Site, state: State, locale: str) -> bytes:
    """Return the HTML of the browser's DOM, after scripts."""
    with state.visit(site, locale) as visit:
        return visit.page.content().encode("utf-8")


def _check(paths: list[Path]) -> dict[str, list[str]]:
    """Run the checker once, because its start takes as long as checking all pages."""
    options = ["--Werror", "--stdout", "--format", "json", "--also-check-css", "--also-check-svg"]
    checked = subprocess.run(
        ["java", *START_QUICKLY, "-Xss8m", "-jar", CHECKER, *options, *paths],
        capture_output=True,
        text=True,
        check=False,
        timeout=5 * LONG_ENOUGH,
    )
    assert checked.returncode in {0, 1}, checked.stderr
    findings: dict[str, list[str]] = {path.name: [] for path in paths}
    for message in json.loads(checked.stdout)["messages"]:
        text = message["message"]
        known = (
            text == what and where in message["extract"] for what, where in UNKNOWN_TO_THE_CHECKER
        )
        if not any(known):
            place = f"line {message.get('lastLine')}: {message.get('extract')!r}"
            findings[Path(message["url"]).name].append(f"{text} ({place})")
    return findings


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_valid(findings: dict[str, list[str]], name: str) -> None:
    assert findings[f"{name}.html"] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_file_is_valid(findings: dict[str, list[str]], path: Path) -> None:
    assert findings[path.name] == []
