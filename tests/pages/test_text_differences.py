"""What differs between two texts is marked, and nothing else, at any length."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.rendering.text_differences import Part, compare_texts
from schema.tables import DESCRIPTION_LENGTH

WORDS = [
    "Buy",
    "oat",
    "milk,",
    " ",
    "\n",
    "\n\n",
    "買い物に行くので牛乳を買うつもりです",
    "e\u0301",
    "",
]
TEXTS = st.lists(st.sampled_from(WORDS)).map("".join) | st.text()


def marks(text: str) -> list[Part]:
    """Return the parts of a text in which brackets mark what differs."""
    parts = []
    for number, piece in enumerate(text.replace("]", "[").split("[")):
        if piece:
            parts.append(Part(piece, differs=number % 2 == 1))
    return parts


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Buy milk", "Buy milk"),
        ("Buy [oat] milk, [two]", "Buy [rye] milk, [three]"),
        ("Buy milk", "Buy milk[ and bread]"),
        ("[Buy milk]", ""),
        ("", "[Buy milk]"),
        ("One\nTwo\n[Three]", "One\nTwo\n[3]"),
        ("One[\n\n]Two", "One[\n]Two"),
        (
            "買い物に行くので[牛乳]を買うつもりですがどうしよう",
            "買い物に行くので[紅茶]を買うつもりですがどうしよう",
        ),
        ("สวัสดีชาวโลกสวัสดีชาว[ไทย]", "สวัสดีชาวโลกสวัสดีชาว[จีน]"),
    ],
)
def test_words_that_only_one_text_has_are_marked(one: str, other: str) -> None:
    plain = [text.replace("[", "").replace("]", "") for text in (one, other)]
    assert compare_texts(*plain) == (marks(one), marks(other))
    assert compare_texts(*plain[::-1]) == (marks(other), marks(one))


@given(TEXTS, TEXTS)
def test_the_parts_are_the_texts_and_what_is_not_marked_is_in_both(one: str, other: str) -> None:
    first, second = compare_texts(one, other)
    assert ("".join(part.text for part in first), "".join(part.text for part in second)) == (
        one,
        other,
    )
    common = ["".join(part.text for part in parts if not part.differs) for parts in (first, second)]
    assert common[0] == common[1]
    assert any(part.differs for part in first + second) == (one != other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a ", "b "),
        ("ab", "ba"),
        (" \n", "\n "),
        ("x y ", "z y "),
        ("\N{FAMILY}\u0301", "\u0301\N{FAMILY}"),
        ("牛乳", "紅茶"),
    ],
)
@pytest.mark.parametrize("length", [200, DESCRIPTION_LENGTH])
def test_no_two_texts_take_longer_than_half_a_second(one: str, other: str, length: int) -> None:
    started = time.process_time()
    compare_texts((one * length)[:length], f"!{other * length}"[:length])
    assert time.process_time() - started < 0.5
