"""A page that a skeleton makes of values is the page that its template makes of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, StrictUndefined, UndefinedError

from handlers.rendering.skeletons import HtmlChunks, SkeletonCache

PAGE = """\
{% macro shown(text) %}<b title="{{ text }}">{{ text }}</b>{% endmacro %}
<p{% if is_bold %} class="bold"{% endif %}>100 % of {{ shown(title) }}{{ shown(title) }}
{% if note %}<i>{{ note }}</i>{% else %}nothing noted{% endif %} {title} %(title)s</p>
"""
TEMPLATES = Environment(
    loader=DictLoader({"page.html": PAGE}), autoescape=True, undefined=StrictUndefined
)
SKELETONS = SkeletonCache(TEMPLATES)

texts = st.text(min_size=1) | st.sampled_from(
    ["<b>&\"'", "\0title\0", "\0note\0", "%s %(note)s", "{note}"]
)


@given(is_bold=st.booleans(), title=texts, note=texts | st.sampled_from(["", None]))
def test_a_filled_skeleton_is_what_the_template_makes_of_the_same_values(
    is_bold: bool, title: str, note: str | None
) -> None:
    filled = SKELETONS.render("page.html", {"is_bold": is_bold}, {"title": title, "note": note})
    template = TEMPLATES.get_template("page.html")
    assert filled == template.render(is_bold=is_bold, title=title, note=note)


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="note"):
        SKELETONS.render("page.html", {"is_bold": True}, {"title": "Tea"})


def test_no_users_text_is_part_of_a_skeleton() -> None:
    skeleton = SKELETONS.find("page.html", {"is_bold": True}, ("title", "note"))
    SKELETONS.render("page.html", {"is_bold": True}, {"title": "Alice's title", "note": "Alice's"})
    assert skeleton is SKELETONS.find("page.html", {"is_bold": True}, ("title", "note"))
    assert "Alice" not in "".join(skeleton.fill(("Bob's", "Bob's")))


@given(parts=st.lists(st.sampled_from(["<b>&", "\0title\0", "x"]), min_size=1), note=texts)
def test_html_is_not_escaped_again(parts: list[str], note: str) -> None:
    html = HtmlChunks(parts)
    filled = SKELETONS.render("page.html", {"is_bold": False}, {"title": html, "note": note})
    template = TEMPLATES.get_template("page.html")
    assert filled == template.render(is_bold=False, title=html, note=note)
