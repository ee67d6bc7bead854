"""A click on a title edits it in its line: Enter and leaving save, Escape gives up."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.support.stories import (
    add,
    add_several,
    box,
    edit,
    flash_message,
    link,
    rows,
    title_field,
    titles,
    with_scripts,
)

pytest_plugins = ["tests.support.story_fixtures"]
pytestmark = with_scripts

DESCRIPTION = "Description (optional)"


@pytest.fixture
def three(tasks: Page) -> Page:
    """Return a list of three tasks."""
    add_several(tasks, "One", "Two", "Three")
    return tasks


def click_title(page: Page, title: str) -> None:
    page.locator(".title", has_text=re.compile(f"^{title}$")).click()
    expect(title_field(page)).to_be_focused()


def expect_stored(page: Page, *wanted: str) -> None:
    """Wait until nothing is saved any more, and compare what a new page shows."""
    expect(page.locator("[aria-busy=true]")).to_have_count(0)
    other = page.context.new_page()
    other.goto("/tasks")
    expect(titles(other)).to_have_text(list(wanted))
    other.close()


def test_a_click_edits_the_title_alone_and_enter_saves(three: Page) -> None:
    click_title(three, "Two")
    expect(three.get_by_label(DESCRIPTION)).to_have_count(0)
    expect(box(three, "Two")).to_be_visible()
    expect(link(three, "Edit: Two")).to_be_visible()
    three.keyboard.type(" and a half")
    three.keyboard.press("Enter")
    expect(titles(three)).to_have_text(["One", "Two and a half", "Three"])
    expect(flash_message(three)).to_contain_text("Task saved.")
    expect(rows(three).nth(1).get_by_role("link", name="Edit")).to_be_focused()
    expect_stored(three, "One", "Two and a half", "Three")


@pytest.mark.parametrize("way", ["Tab", "a click elsewhere", "another title", "the box", "Edit"])
def test_leaving_saves(three: Page, way: str) -> None:
    click_title(three, "Two")
    three.keyboard.type("!")
    if way == "Tab":
        three.keyboard.press("Tab")
    elif way == "a click elsewhere":
        three.mouse.click(5, 300)
    elif way == "another title":
        click_title(three, "Three")
        expect(title_field(three)).to_have_value("Three")
        three.keyboard.press("Escape")
    elif way == "the box":
        box(three, "Two").click()
        expect(flash_message(three)).to_contain_text("Task completed.")
        box(three, "Two!").click()
    else:
        link(three, "Edit: Two").click()
        expect(three.get_by_label(DESCRIPTION)).to_be_visible()
        expect(title_field(three)).to_have_value("Two!")
        three.keyboard.press("Escape")
    expect(title_field(three)).to_have_count(0)
    expect_stored(three, "One", "Two!", "Three")


def test_nothing_is_sent_without_a_change(three: Page) -> None:
    sent: list[str] = []
    three.on("request", lambda request: sent.append(request.url))
    for way in ("Enter", "Escape", "Tab"):
        click_title(three, "Two")
        three.keyboard.press(way)
        expect(title_field(three)).to_have_count(0)
        expect(titles(three)).to_have_text(["One", "Two", "Three"])
    assert sent == []


@pytest.mark.parametrize("way", ["Continue editing", "z"])
def test_escape_gives_up_and_the_notice_offers_the_way_back(three: Page, way: str) -> None:
    click_title(three, "Two")
    three.keyboard.type(" or three")
    three.keyboard.press("Escape")
    expect(titles(three)).to_have_text(["One", "Two", "Three"])
    expect(link(three, "Edit: Two")).to_be_focused()
    if way == "z":
        three.keyboard.press("z")
    else:
        three.get_by_role("button", name=way).click()
    expect(title_field(three)).to_have_value("Two or three")
    expect(title_field(three)).to_be_focused()
    three.keyboard.press("Enter")
    expect_stored(three, "One", "Two or three", "Three")


def test_who_selects_text_does_not_click(three: Page) -> None:
    place = titles(three).nth(1).bounding_box()
    assert place
    middle = place["y"] + place["height"] / 2
    three.mouse.move(place["x"] + 1, middle)
    three.mouse.down()
    three.mouse.move(place["x"] + 30, middle, steps=3)
    three.mouse.up()
    assert three.evaluate("getSelection().toString()") in {"Two", "Tw"}
    expect(title_field(three)).to_have_count(0)
    titles(three).first.click(modifiers=["Control"])
    expect(title_field(three)).to_have_count(0)


def test_what_others_changed_beside_the_title_is_no_conflict(
    three: Page, context: BrowserContext
) -> None:
    click_title(three, "Two")
    other = context.new_page()
    other.goto("/tasks")
    edit(other, "Two")
    other.get_by_label(DESCRIPTION).fill("By the other")
    other.keyboard.press("Control+Enter")
    expect(flash_message(other)).to_have_text("Task saved.")
    three.keyboard.type("!")
    three.keyboard.press("Enter")
    expect(flash_message(three)).to_have_text("Task saved.")
    expect(rows(three).nth(1)).to_contain_text("By the other")
    expect_stored(three, "One", "Two!", "Three")


def test_another_title_is_a_conflict_that_keeps_what_was_typed(
    three: Page, context: BrowserContext
) -> None:
    add(three, "With more", "A description")
    click_title(three, "With more")
    other = context.new_page()
    other.goto("/tasks")
    click_title(other, "With more")
    other.keyboard.type(" by the other")
    other.keyboard.press("Enter")
    expect(flash_message(other)).to_have_text("Task saved.")
    three.keyboard.type(" by me")
    three.keyboard.press("Enter")
    expect(three.get_by_role("alert")).to_contain_text("With more by the other")
    expect(title_field(three)).to_have_value("With more by me")
    expect(three.get_by_label(DESCRIPTION)).to_have_value("A description")
    three.get_by_role("button", name="Save mine").click()
    expect_stored(three, "With more by me", "One", "Two", "Three")


def test_what_is_wrong_with_a_title_is_said_in_the_editor(three: Page) -> None:
    click_title(three, "Two")
    title_field(three).fill("x" * 300)
    three.keyboard.press("Enter")
    expect(title_field(three)).to_have_accessible_description(
        "Must be at most 255 characters (currently 300)"
    )
    expect(title_field(three)).to_have_value("x" * 300)
    link(three, "Cancel").click()
    expect(titles(three)).to_have_text(["One", "Two", "Three"])


def test_without_the_server_what_was_typed_stays(three: Page) -> None:
    click_title(three, "Two")
    three.keyboard.type("!")
    three.route("**/edit", lambda route: route.abort())
    three.keyboard.press("Enter")
    expect(flash_message(three)).to_contain_text("Cannot connect to the server.")
    expect(title_field(three)).to_have_value("Two!")
    three.unroute("**/edit")
    title_field(three).press("Enter")
    expect_stored(three, "One", "Two!", "Three")


def test_a_long_title_is_seen_whole_and_has_no_line_break(
    three: Page, context: BrowserContext
) -> None:
    long = "A long title that needs more than one line " * 5
    heights = []
    for open_it in (click_title, edit):
        open_it(three, "Two")
        title_field(three).fill(long)
        heights.append(
            title_field(three).evaluate(
                "({ scrollHeight, clientHeight }) => [scrollHeight, clientHeight]"
            )
        )
        three.keyboard.press("Shift+Enter")  # saves, too
        expect(flash_message(three)).to_have_text("Task saved.")
        click_title(three, long.strip())
        title_field(three).fill("Two")
        three.keyboard.press("Enter")
        expect(titles(three).nth(1)).to_have_text("Two")
    assert all(inner <= shown > 60 for inner, shown in heights)
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    three.evaluate("navigator.clipboard.writeText('and\\nmore\\n')")
    click_title(three, "Two")
    three.keyboard.type(" ")
    three.keyboard.press("Control+V")
    expect(title_field(three)).to_have_value("Two and more")


@pytest.mark.parametrize("way", ["the notice", "the title"])
def test_what_is_refused_late_comes_back_to_whoever_edits_the_next_title(
    three: Page, way: str
) -> None:
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    three.route("**/edit", hold)
    click_title(three, "One")
    title_field(three).fill("x" * 300)
    three.keyboard.press("Enter")
    expect(title_field(three)).to_have_count(0)
    click_title(three, "Two")
    three.keyboard.type("!")
    held[0].continue_()
    expect(flash_message(three)).to_contain_text("Continue editing")
    three.unroute("**/edit")
    expect(title_field(three)).to_be_focused()
    expect(title_field(three)).to_have_value("Two!")
    if way == "the notice":
        three.get_by_role("button", name="Continue editing").click()
    else:
        three.keyboard.press("Enter")
        expect(flash_message(three)).to_have_text("Task saved.")
        click_title(three, "One")
    expect(title_field(three)).to_have_value("x" * 300)
    title_field(three).fill("One!")
    three.keyboard.press("Enter")
    expect_stored(three, "One!", "Two!", "Three")
