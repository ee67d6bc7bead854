"""Every state of every page meets WCAG 2.2 AA, in each language and theme."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import ElementHandle, Page

from tests.support.browser_fixtures import CHECKOUT
from tests.support.page_site import FILLED, Site, Visit, running_site
from tests.support.page_states import STATES, State

AXE = (CHECKOUT / "tests" / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")
AXE_OPTIONS = {
    "resultTypes": ["violations", "incomplete"],
    "rules": {"target-size": {"enabled": True}},  # of WCAG 2.2, off by default in axe
}
CHECKS = (CHECKOUT / "tests" / "browser" / "page_checks.js").read_text("utf-8")
NARROW, WIDE = 360, 1280  # pixels
# The theme and the width in which axe sees the pages of each language. Colors do not depend on
# words, and German has the longer ones.
LOOKS = {"en-GB": ("dark", WIDE), "de-DE": ("light", NARROW)}
FOCUSED = {"login", "tasks", "edit", "delete", "tasks-help", "account-password"}
FOCUSED_STATES = [state for state in STATES if state.name in FOCUSED]
UNCHECKED = "main :is([role=checkbox][aria-checked=false], li [type=checkbox]:not(:checked))"
CHECKED = "main :is([role=checkbox][aria-checked=true], li [type=checkbox]:checked)"
CONTROLS = "a[href], button, input, textarea, summary, [tabindex]"
MARGIN = 6  # pixels around an element, for its outline


# Not of session scope: Playwright's loop would run in the thread of other tests' loops.
@pytest.fixture(scope="module")
def site(database_url: str, short_folder: Path) -> Iterator[Site]:
    with running_site(short_folder / "accessibility", database_url) as site:
        yield site


@pytest.fixture(
    scope="module",
    params=[(state, locale) for locale in LOOKS for state in STATES],
    ids=lambda parameter: f"{parameter[0].name}-{parameter[1]}",
)
def visit(request: pytest.FixtureRequest, site: Site) -> Iterator[Visit]:
    """Open a page in a state, once for all its tests."""
    state, locale = request.param
    with state.visit(site, locale) as visit:
        yield visit


def look(page: Page, *, width: int, scheme: str) -> None:
    page.set_viewport_size({"width": width, "height": 740})
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")


def ask(page: Page, question: str, *values: object) -> Any:
    """Run a function of page_checks.js. The page's CSP does not apply to Playwright."""
    return page.evaluate(f"async values => {{ {CHECKS}; return {question}(...values); }}", values)


# axe


def test_axe_finds_nothing(visit: Visit) -> None:
    scheme, width = LOOKS[visit.page.evaluate("navigator.language")]
    look(visit.page, width=width, scheme=scheme)
    visit.page.evaluate(f"() => {{ {AXE} }}")
    found = visit.page.evaluate("options => axe.run(options)", AXE_OPTIONS)
    assert [describe(rule) for rule in found["violations"]] == []
    assert [describe(rule) for rule in found["incomplete"]] == []


def describe(rule: dict[str, Any]) -> str:
    places = [f"{node['target']} {node.get('failureSummary', '')}" for node in rule["nodes"][:5]]
    return f"{rule['id']}: {rule['help']}: {places}"


# Small windows, and large text


@pytest.mark.parametrize("width", [320, 360])
def test_no_page_is_wider_than_a_small_telephone(visit: Visit, width: int) -> None:
    look(visit.page, width=width, scheme="light")
    assert ask(visit.page, "findWhatIsTooWide") == []


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_letters_of_twice_the_size_are_all_seen(visit: Visit, width: int) -> None:
    look(visit.page, width=width, scheme="light")
    visit.page.evaluate("document.documentElement.style.fontSize = '200%'")
    found = [
        *ask(visit.page, "findWhatIsTooWide"),
        *ask(visit.page, "findCutText"),
        *ask(visit.page, "findWhatIsSqueezed"),
    ]
    visit.page.evaluate("document.documentElement.style.fontSize = ''")
    assert found == []


@pytest.mark.parametrize(
    ("style", "is_cut"),
    [
        ("line-height: 1.5", False),
        ("line-height: 0.8", False),  # letters are higher than their line, and seen
        ("line-height: 0.8; overflow: hidden", True),
        ("height: 1em; line-height: 1", False),
        ("height: 1.2em; width: 5em; line-height: 1", True),  # a line is below the box
        ("height: 1.2em; width: 5em; line-height: 1; overflow: hidden", True),
        ("height: 1.2em; width: 5em; line-height: 1; overflow: auto", False),
        ("width: 2em; white-space: nowrap", True),
    ],
)
def test_only_text_that_is_cut_off_or_sticks_out_by_a_line_counts_as_cut(
    pixels: Page, style: str, is_cut: bool
) -> None:
    text = "Log in to see all of this"
    pixels.set_content(f"<div style='font: 20px sans-serif; {style}'>{text}</div>")
    assert (ask(pixels, "findCutText") == [f"div: {text}"]) == is_cut


# The last test of a visit, because it checks the whole visit


def test_the_console_has_no_error(visit: Visit) -> None:
    assert visit.console.complaints == []


# Visible focus, checkboxes, and the current page


@pytest.fixture(scope="module")
def pixels(site: Site) -> Page:
    """Return a page that may read pictures; the CSP forbids it on the site's pages."""
    return site.browser.new_page()


@pytest.fixture(params=["light", "dark", "forced colors"])
def colors(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def prepare(page: Page, colors: str) -> None:
    page.set_viewport_size({"width": WIDE, "height": 3000})  # to avoid scrolling
    page.emulate_media(
        color_scheme="dark" if colors == "dark" else "light",
        forced_colors="active" if colors == "forced colors" else "none",
    )


@pytest.mark.parametrize("state", FOCUSED_STATES, ids=lambda state: state.name)
def test_the_focus_is_seen_on_every_kind_of_control(
    site: Site, pixels: Page, state: State, colors: str
) -> None:
    unseen = []
    with state.visit(site) as visit:
        prepare(visit.page, colors)
        for element in tab_stops(visit.page):
            focused = photograph(visit.page, element)
            visit.page.evaluate("document.activeElement.blur()")
            changes = ask(pixels, "countChanges", focused, photograph(visit.page, element))
            if changes < half_perimeter(element):
                unseen.append((ask(visit.page, "nameOf", element), changes))
    assert unseen == []


def test_a_box_is_seen_and_so_is_its_check(site: Site, pixels: Page, colors: str) -> None:
    marks = []
    with site.visit(FILLED) as visit:
        visit.open("/tasks")
        prepare(visit.page, colors)
        visit.page.locator("#completed > summary").click()
        for selector in (UNCHECKED, CHECKED):
            box = visit.page.query_selector(selector)
            assert box
            marks.append(ask(pixels, "countMarks", photograph(visit.page, box)))
            enough = half_perimeter(box)
    assert marks[0] >= enough
    assert marks[1] >= marks[0] + enough / 2


def test_the_part_of_the_list_that_is_shown_is_marked_by_a_line(site: Site, colors: str) -> None:
    with site.visit(FILLED) as visit:
        visit.open("/tasks")
        prepare(visit.page, colors)
        line = """link => {
            const { borderBlockEndWidth, borderBlockEndColor } = getComputedStyle(link);
            return borderBlockEndWidth !== "0px" && borderBlockEndColor !== "rgba(0, 0, 0, 0)";
        }"""
        marked = [link.evaluate(line) for link in visit.page.locator(".filter a").all()]
        assert marked == [True, False, False]


def tab_stops(page: Page) -> Iterator[ElementHandle]:
    """Tab through a page, and yield the first control of each kind."""
    seen = set()
    for _ in range(page.locator(CONTROLS).count()):
        page.keyboard.press("Tab")
        element = page.evaluate_handle("document.activeElement").as_element()
        assert element
        kind = element.evaluate("({ localName, type, className }) => [localName, type, className]")
        if kind[0] != "body" and tuple(kind) not in seen:
            seen.add(tuple(kind))
            yield element


def photograph(page: Page, element: ElementHandle) -> str:
    """Return a PNG of an element and its surroundings in base64, for page_checks.js."""
    box = element.bounding_box()
    assert box
    picture = page.screenshot(
        animations="disabled",
        clip={
            "x": box["x"] - MARGIN,
            "y": box["y"] - MARGIN,
            "width": box["width"] + 2 * MARGIN,
            "height": box["height"] + 2 * MARGIN,
        },
    )
    return base64.b64encode(picture).decode("ascii")


def half_perimeter(element: ElementHandle) -> float:
    box = element.bounding_box()
    assert box
    return box["width"] + box["height"]
