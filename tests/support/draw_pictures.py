"""Take the pictures of README.md and docs/pictures.md: `python -m tests.support.draw_pictures`."""

from pathlib import Path

from tests.support.page_site import NEW, Site
from tests.support.page_states import STATES
from tests.support.screenshots import site_of_its_own, take_one
from tests.support.server_process import CHECKOUT

FOLDER = CHECKOUT / "docs" / "pictures"
# The state of a page, the size in pixels, and the color scheme.
PICTURES = [
    ("tasks", (1280, 640), "light"),
    ("tasks", (360, 640), "dark"),
    ("tasks-empty", (768, 480), "light"),
    ("edit", (768, 560), "dark"),
    ("edit-conflict", (768, 640), "light"),
    ("login", (360, 640), "light"),
    ("account-used", (1280, 720), "dark"),
    ("not-found", (360, 480), "light"),
    ("status", (768, 400), "light"),
]
# What the account of the README's picture has beside "Buy milk".
LATER = [
    ("Return the library books", ""),
    ("Water the plants", ""),
    ("Plan the weekend in the mountains", "Train at 7:40, back on Sunday.\nAsk Bob for the map."),
]
DONE = ("Return the library books", "Water the plants")


def picture_path(state: str, size: tuple[int, int], scheme: str) -> Path:
    return FOLDER / f"{state}-{size[0]}-{scheme}.png"


def draw() -> None:
    """Take each picture of what fits into the window."""
    states = {state.name: state for state in STATES}
    with site_of_its_own() as site:
        for name, size, scheme in PICTURES:
            path = picture_path(name, size, scheme)
            with states[name].visit(site) as visit:
                take_one(visit.page, path, size, scheme, whole=False)
        draw_for_readme(site)


def draw_for_readme(site: Site) -> None:
    """Take the picture of a short list."""
    with site.visit(NEW) as visit:
        visit.open("/tasks")
        for title, description in LATER:
            visit.send(title=title, description=description)
            visit.page.get_by_role("checkbox", name=title).wait_for()
        for title in DONE:
            with visit.page.expect_response("**/tasks"):  # the list, which comes after
                visit.page.get_by_role("checkbox", name=title).click()
        visit.open("/tasks")
        take_one(visit.page, FOLDER / "tasks.png", (768, 614), "light", whole=False)


if __name__ == "__main__":
    draw()
