"""The main stories in Firefox, in WebKit, and in a Chromium that lacks what browsers of 2022 lack.

Whatever depends on the browser is here: events, focus, forms, history, styles. Chromium has the
stories in full (test_stories.py and others).
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.browser_fixtures import (
    running_browser,
    running_firefox,
    running_server,
)
from tests.support.browser_of_2022 import make_old
from tests.support.window_stories import ROWS, add, sign_up
from tests.support.windows import (
    Window,
    playwright_window,
    running_display,
    running_webkit,
)

TITLE_OF_FIRST = "document.querySelector('.task .title').textContent"
SHOWS_ALL = """(field => field.scrollHeight <= field.clientHeight)
    (document.querySelector('{}'))"""
# The side at which the text of the first title is nearer to the edge of its box
SIDE_OF_TITLE = """(title => {
    const range = document.createRange();
    range.selectNodeContents(title);
    const [text, box] = [range, title].map((part) => part.getBoundingClientRect());
    return text.left - box.left < box.right - text.right ? "left" : "right";
})(document.querySelector('.task .title'))"""
WindowOpener = Callable[[], AbstractContextManager[Window]]


@pytest.fixture(scope="module")
def address(database_url: str, short_folder: Path) -> Iterator[str]:
    with running_server(short_folder / "other", TASKAPP_DATABASE_URL=database_url) as url:
        yield url


@pytest.fixture(scope="module", params=["Firefox", "WebKit", "Chromium as of 2022"])
def open_window(request: pytest.FixtureRequest, address: str) -> Iterator[WindowOpener]:
    """Yield a function that opens a window with a new profile."""
    with ExitStack() as ends:
        if request.param == "Firefox":
            firefox = ends.enter_context(running_firefox())
            yield partial(playwright_window, firefox, address)
        elif request.param == "WebKit":
            display = ends.enter_context(running_display())
            yield partial(running_webkit, display, address)
        else:
            chromium = ends.enter_context(running_browser())
            yield partial(playwright_window, chromium, address, make_old)


@pytest.fixture
def window(open_window: WindowOpener) -> Iterator[Window]:
    """Yield a window of a stranger."""
    with open_window() as opened:
        yield opened


def add_at_once(window: Window, number: int) -> None:
    """Add many tasks by the field for several."""
    window.click("#several summary")
    # The driver of WebKit types no line ends.
    lines = "\\n".join(f"Task {line}" for line in range(1, number + 1))
    window.evaluate(f"document.querySelector('[name=titles]').value = '{lines}'")
    window.click("#several button")
    window.wait_for(f"{ROWS} === {min(number, 50)}")


def test_a_new_account_logs_in_sees_the_password_and_logs_out(window: Window) -> None:
    account = sign_up(window)
    assert account.email in window.evaluate("document.body.textContent")
    window.click("header button")
    window.wait_for("location.pathname === '/login'")
    window.back()
    window.wait_for("location.pathname === '/login'")  # the list is asked for again
    assert account.email not in window.evaluate("document.body.textContent")
    window.fill("[name=password]", "typed")
    window.click("[data-reveal]")
    window.wait_for("document.querySelector('[name=password]').type === 'text'")
    assert window.evaluate("document.querySelector('[data-reveal]').getAttribute('aria-pressed')")


def test_tasks_are_added_ticked_and_filtered(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    assert window.evaluate(TITLE_OF_FIRST) == "Water the plants"
    window.click(".task .check")
    # Until then it is shown, and may not be stored yet.
    window.wait_for("document.querySelector('#flash').textContent.includes('Task completed.')")
    window.click(".filter a:last-child")
    window.wait_for(f"location.search === '?status=completed' && {ROWS} === 1")
    window.click(".task .check")
    window.wait_for("document.querySelector('.filter a:last-child .count').textContent === '0'")


def test_a_task_is_edited_in_the_list_in_fields_that_grow(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    window.click(".task .links a")
    window.wait_for("document.activeElement.name === 'title'")
    for name in ("title", "description"):
        window.fill(f".editor [name={name}]", "Many words that need several lines. " * 15)
        window.wait_for(SHOWS_ALL.format(f".editor [name={name}]"))
    for width in (400, 1280):
        window.resize(width)
        for name in ("title", "description"):
            window.wait_for(SHOWS_ALL.format(f".editor [name={name}]"))
    window.fill(".editor [name=description]", "Rain water")
    window.fill(".editor [name=title]", "Water the plants twice")
    window.press("Enter")
    window.wait_for(f"{TITLE_OF_FIRST} === 'Water the plants twice'")


def test_a_field_that_opens_with_a_long_text_shows_it_whole(window: Window) -> None:
    sign_up(window)
    for text in ("A line\n" * 15, "Words of a long sentence. " * 30, "漢字" * 200):
        window.open(f"/tasks?title=Minutes&description={quote(text)}")
        window.wait_for(SHOWS_ALL.format("#new-description"))


def test_a_hebrew_title_begins_at_the_right(window: Window) -> None:
    sign_up(window)
    add(window, "לקנות חלב")
    assert window.evaluate(SIDE_OF_TITLE) == "right"


def test_a_task_is_deleted_after_a_question(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    window.click(".task .links a:last-child")
    window.click("button.danger")
    window.wait_for(f"{ROWS} === 1 && {TITLE_OF_FIRST} === 'Buy milk'")


def test_keys_add_complete_edit_and_give_up(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk", "Water the plants")
    window.evaluate("document.activeElement.blur()")
    window.press("j")
    window.wait_for("document.activeElement.matches('.task .check')")
    window.press("j")
    window.wait_for("document.activeElement.closest('.task').textContent.includes('Buy milk')")
    window.press("x")
    window.wait_for("document.querySelectorAll('.check[aria-checked=true]').length === 1")
    window.press("e")
    window.wait_for("document.activeElement.name === 'title'")
    window.press("Escape")
    window.wait_for(
        "!document.querySelector('.editor') && document.activeElement.matches('.links a')"
    )
    window.press("n")
    window.wait_for("document.activeElement.id === 'new-title'")


def test_the_row_is_out_of_the_way_while_it_is_edited(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk")
    window.click(".task .links a")
    window.wait_for("document.activeElement.name === 'title'")
    assert window.evaluate("document.querySelector('.task .title').offsetParent === null")
    window.click(".editor .actions a")
    window.wait_for("!document.querySelector('.editor')")
    assert window.evaluate("document.querySelector('.task .title').offsetParent !== null")


def test_more_tasks_are_loaded_and_there_again_after_back(window: Window) -> None:
    sign_up(window)
    add_at_once(window, 60)
    window.click("[rel=next]")
    window.wait_for(f"{ROWS} === 60")
    window.click(".task:nth-child(55) .links a:last-child")
    window.wait_for("location.pathname.endsWith('/delete')")
    window.back()
    window.wait_for(f"location.pathname === '/tasks' && {ROWS} === 60 && scrollY > 500")


INVISIBLE_CONTROLS = """[...document.querySelectorAll("input, textarea, .check, main button")]
  .filter((control) => control.offsetParent && !control.closest(".add .line"))
  .filter((control) => !control.matches(".link, [type=radio], [type=checkbox]"))
  .filter((control) => {
    const { borderTopStyle, borderTopColor, backgroundColor } = getComputedStyle(control);
    const paper = getComputedStyle(document.body).backgroundColor;
    const hasBorder = borderTopStyle !== "none" && borderTopColor !== paper;
    return !hasBorder && ["rgba(0, 0, 0, 0)", paper].includes(backgroundColor);
  }).map((control) => control.outerHTML)"""
PAPERS = {"light": "rgb(253, 253, 251)", "dark": "rgb(23, 24, 26)"}


def test_controls_and_colors_are_visible_in_each_theme(window: Window) -> None:
    sign_up(window)
    add(window, "Buy milk")
    window.click("#several summary")
    for theme, paper in PAPERS.items():
        window.click(f"[name=theme][value={theme}]")
        window.wait_for(f"document.documentElement.dataset.theme === '{theme}'")
        background = "getComputedStyle(document.body).backgroundColor"
        window.wait_for(f"{background} === '{paper}'")
        assert window.evaluate(INVISIBLE_CONTROLS) == []
        ink = "getComputedStyle(document.querySelector('.task .title')).color"
        assert window.evaluate(ink) != paper


def test_a_click_selects_the_whole_new_token(window: Window) -> None:
    account = sign_up(window)
    window.open("/account")
    window.click("#tokens ~ details summary")
    window.fill("#token-name", "Backup script")
    window.fill("#token-password", account.password)
    window.click("#tokens ~ details form button:not([type=button])")
    window.click(".whole-token")
    window.wait_for(
        "getSelection().toString() === document.querySelector('.whole-token').textContent"
    )
