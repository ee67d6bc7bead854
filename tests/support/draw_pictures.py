"""Draw the pictures of README.md and docs/pictures.md: `python -m tests.support.draw_pictures`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import FloatRect, Page, expect

from tests.support.animated_picture import Frame, join_frames
from tests.support.browser_fixtures import Account
from tests.support.page_site import Owner, Site, Visit
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
# The README's: a short list in each color scheme, and an animation of two new tasks.
SCHEMES = ("light", "dark")
LIST_SIZE, ADDING_SIZE = (560, 600), (520, 470)  # pixels of a page
DEVICE_SCALE_FACTOR = 2  # pixels of the picture per CSS pixel
ADDING = FOLDER / "adding.png"
LISTED = [
    ("Buy milk", "Oat, two of them"),
    ("Return the library books", ""),
    ("Water the plants", ""),
    ("Plan the weekend in the mountains", "Train at 7:40, back on Sunday.\nAsk Bob for the map."),
]
DONE = ("Return the library books", "Water the plants")
TYPED = ("Water the plants", "Call the dentist")
TYPING, READING, END = 240, 1000, 2500  # milliseconds per frame
LETTERS = 3  # typed from one frame to the next
TEXT_WIDTH = 180  # pixels; fits the longest of these titles


def picture_path(state: str, size: tuple[int, int], scheme: str) -> Path:
    return FOLDER / f"{state}-{size[0]}-{scheme}.png"


def list_path(scheme: str) -> Path:
    return FOLDER / f"list-{scheme}.png"


def draw() -> None:
    """Save every picture; each shows one window."""
    states = {state.name: state for state in STATES}
    with site_of_its_own() as site:
        for name, size, scheme in PICTURES:
            path = picture_path(name, size, scheme)
            with states[name].visit(site) as visit:
                take_one(visit.page, path, size, scheme, whole=False)
        draw_list(site)
        draw_adding(site)


@contextmanager
def sharp_visit(site: Site, email: str, size: tuple[int, int]) -> Iterator[Visit]:
    """Open the list of a new account on a high-resolution screen."""
    context = site.browser.new_context(
        base_url=site.address(),
        locale="en-GB",
        reduced_motion="reduce",
        device_scale_factor=DEVICE_SCALE_FACTOR,
        viewport={"width": size[0], "height": size[1]},
    )
    visit = Visit(site, context.new_page(), Owner(Account(email)))
    visit.open("/register")
    for address in ("**/login", "**/tasks"):
        visit.log_in()
        visit.page.wait_for_url(address)
    visit.open("/tasks")  # without a flash message
    yield visit
    context.close()


def draw_list(site: Site) -> None:
    """Save the pictures of a short list, light and dark."""
    with sharp_visit(site, "alice@example.com", LIST_SIZE) as visit:
        for title, description in LISTED:
            visit.send(title=title, description=description)
            visit.page.get_by_role("checkbox", name=title).wait_for()
        for title in DONE:
            with visit.page.expect_response("**/tasks"):  # the list that is loaded afterwards
                visit.page.get_by_role("checkbox", name=title).click()
        visit.open("/tasks")
        for scheme in SCHEMES:
            take_one(visit.page, list_path(scheme), LIST_SIZE, scheme, whole=False)


def draw_adding(site: Site) -> None:
    """Save the animation: two tasks are typed, and one is completed."""
    with sharp_visit(site, "bob@example.com", ADDING_SIZE) as visit:
        frames = [Frame(visit.page.screenshot(), READING)]
        for title in TYPED:
            frames += _type(visit.page, title)
        with visit.page.expect_response("**/tasks"):
            # click() could scroll the page between two frames.
            visit.page.get_by_role("checkbox", name=TYPED[0]).dispatch_event("click")
        expect(visit.page.locator("main .filter a").last).to_contain_text("1")
        frames.append(_capture_list(visit.page, END))
        ADDING.write_bytes(join_frames(frames))


def _type(page: Page, title: str) -> Iterator[Frame]:
    field = page.locator("main [name=title]").bounding_box()
    assert field
    field["width"] = TEXT_WIDTH
    for start in range(0, len(title), LETTERS):
        page.keyboard.type(title[start : start + LETTERS])
        yield _capture(page, field, TYPING)
    page.keyboard.press("Enter")
    page.get_by_role("checkbox", name=title).wait_for()
    yield _capture_list(page, READING)


def _capture_list(page: Page, milliseconds: int) -> Frame:
    """Return a frame of the field and everything below it."""
    field = page.locator("main [name=title]").bounding_box()
    assert field
    top, (width, height) = field["y"], ADDING_SIZE
    return _capture(page, FloatRect(x=0, y=top, width=width, height=height - top), milliseconds)


def _capture(page: Page, area: FloatRect, milliseconds: int) -> Frame:
    left, top = round(area["x"]), round(area["y"])
    clip = FloatRect(x=left, y=top, width=round(area["width"]), height=round(area["height"]))
    png = page.screenshot(clip=clip)
    return Frame(png, milliseconds, left * DEVICE_SCALE_FACTOR, top * DEVICE_SCALE_FACTOR)


if __name__ == "__main__":
    draw()
