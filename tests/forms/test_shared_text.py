"""What another app hands over fills the fields of a new task; nothing that can be seen is lost."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapp.forms.shared_text import fill_new_task
from taskapp.forms.text_rules import is_storable, is_visible

PAGE = "https://example.com/tea?a=1&b=2"


@pytest.mark.parametrize(
    ("title", "description", "url", "fields"),
    [
        ("", "", "", {}),
        (" \t\r\n", "\0\u200b", "", {}),
        ("Buy milk", "", "", {"title": "Buy milk"}),
        (" Buy milk\n", "", "", {"title": "Buy milk"}),
        ("Buy milk", "Oat", "", {"title": "Buy milk", "description": "Oat"}),
        ("Tea", "", PAGE, {"title": "Tea", "description": PAGE}),
        ("Tea", "A quote", PAGE, {"title": "Tea", "description": f"A quote\n{PAGE}"}),
        ("Tea", f"Look: {PAGE}", PAGE, {"title": "Tea", "description": f"Look: {PAGE}"}),
        ("", "Buy milk", "", {"title": "Buy milk"}),
        ("", "Buy milk\r\nOat\r\nSoon", "", {"title": "Buy milk", "description": "Oat\nSoon"}),
        ("", "", PAGE, {"title": PAGE}),
        ("", PAGE, PAGE, {"title": PAGE}),
        ("Buy milk\nCall Ada", "", "", {"titles": "Buy milk\nCall Ada"}),
        ("\rBuy milk\r\n \r\nCall Ada\n", "", "", {"titles": "Buy milk\nCall Ada"}),
        ("Buy\nmilk", "Oat", "", {"title": "Buy milk", "description": "Oat"}),
        (
            "Buy\tmilk\x07\x1b[31m",
            "\x9b1mOat\x7f",
            "",
            {"title": "Buy\tmilk[31m", "description": "1mOat"},
        ),
        ("x" * 5000, "y" * 50_000, "", {"title": "x" * 5000, "description": "y" * 50_000}),
    ],
)
def test_what_is_shared_becomes_fields(
    title: str, description: str, url: str, fields: dict[str, str]
) -> None:
    assert fill_new_task(title, description, url) == fields


@given(*[st.text(alphabet=st.characters(exclude_categories=["Cs"]))] * 3)
def test_whatever_is_shared_can_be_sent_and_loses_no_visible_character(
    title: str, description: str, url: str
) -> None:
    fields = fill_new_task(title, description, url)
    assert set(fields) in (set(), {"title"}, {"description"}, {"title", "description"}, {"titles"})
    assert all(is_visible(text) and is_storable(text) for text in fields.values())
    assert "\n" not in fields.get("title", "")
    assert len(fields.get("titles", "\n\n").split("\n")) > 1
    shown = "".join(fields.values())
    sent = title + description + ("" if url in description else url)
    assert all(character in shown for character in sent if is_visible(character))
