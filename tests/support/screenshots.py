"""Save screenshots of every page in every state: `python -m tests.support.screenshots [de-DE]`.

They go to screenshots/, one for each state, width and color scheme, in the language of the locale.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page

from taskapp.postgres.server import EmbeddedPostgres
from tests.support.browser_fixtures import CHECKOUT, running_server
from tests.support.page_site import Site, running_site
from tests.support.page_states import STATES

FOLDER = CHECKOUT / "screenshots"
WIDTHS = (360, 768, 1280)
SCHEMES = ("light", "dark")


def take_all(locale: str) -> None:
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    with site_of_its_own() as site:
        for state in STATES:
            with state.visit(site, locale) as visit:
                take(visit.page, state.name)


@contextmanager
def site_of_its_own() -> Iterator[Site]:
    """Run a site with its own database."""
    parent = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # short, for a socket
    data_dir = parent / "data"
    try:
        with (
            running_server(data_dir),  # runs the database
            running_site(data_dir, EmbeddedPostgres(data_dir).url) as site,
        ):
            yield site
    finally:
        shutil.rmtree(parent)


def take(page: Page, name: str) -> None:
    """Save a page at each width and in each color scheme."""
    for width in WIDTHS:
        for scheme in SCHEMES:
            take_one(page, FOLDER / f"{name}-{width}-{scheme}.png", (width, 740), scheme)


def take_one(
    page: Page, path: Path, size: tuple[int, int], scheme: str, *, whole: bool = True
) -> None:
    """Save a page at a size in pixels, in a color scheme."""
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    page.screenshot(path=path, full_page=whole)


if __name__ == "__main__":
    take_all(*(sys.argv[1:] or ["en-GB"]))
