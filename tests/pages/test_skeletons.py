"""A page whose texts are put into an outline is the page that its template would have made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import DictLoader, Environment, StrictUndefined, UndefinedError

from handlers.rendering.skeletons import SkeletonCache

PAGE = """\
{% macro shown(text) %}<b title="{{ text }}">{{ text }}</b>{% endmacro %}
<p{% if is_bold %} class="bold"{% endif %}>100 % of {{ shown(title) }}{{ shown(title) }}
{% if note %}<i>{{ note }}</i>{% else %}nothing noted{% endif %} {title} %(title)s</p>
"""
TEMPLATES = Environment(
    loader=DictLoader({"page.html": PAGE}), autoescape=True, undefined=StrictUndefined
)
OUTLINES = SkeletonCache(TEMPLATES)

texts = st.text(min_size=1) | st.sampled_from(
    ["<b>&\"'", "\0title\0", "\0note\0", "%s %(note)s", "{note}"]
)


@given(is_bold=st.booleans(), title=texts, note=texts | st.sampled_from(["", None]))
def test_a_filled_outline_is_what_the_template_makes_of_the_same_texts(
    is_bold: bool, title: str, note: str | None
) -> None:
    filled = OUTLINES.fill("page.html", {"is_bold": is_bold}, {"title": title, "note": note})
    template = TEMPLATES.get_template("page.html")
    assert filled == template.render(is_bold=is_bold, title=title, note=note)


def test_a_text_that_is_not_given_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="note"):
        OUTLINES.fill("page.html", {"is_bold": True}, {"title": "Tea"})


def test_nobodys_text_is_part_of_an_outline() -> None:
    outline = OUTLINES.find("page.html", {"is_bold": True}, ("title", "note"))
    OUTLINES.fill("page.html", {"is_bold": True}, {"title": "Alice's title", "note": "Alice's"})
    assert outline is OUTLINES.find("page.html", {"is_bold": True}, ("title", "note"))
    assert "Alice" not in "".join(outline.fill(("Bob's", "Bob's")))
