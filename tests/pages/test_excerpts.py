"""The beginning of a long description has about the same size in every script."""

from time import process_time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wcwidth import iter_graphemes, width

from handlers.rendering.excerpts import EXCERPT_LINES, EXCERPT_WIDTH, make_excerpt

# Characters that a reader sees as one.
CLUSTERS = [
    "e\u0301\u0323",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",  # a family
    "\U0001f44d\U0001f3fd",  # a thumb with the colour of its skin
    "\U0001f1e9\U0001f1ea",  # a flag
    "\U0001f3f4\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",  # another
    "\u2764\ufe0f",
    "1\ufe0f\u20e3",
    "\u1112\u1161\u11ab",  # Hangul of three jamo
    "\u0915\u094d\u0937\u093f",  # a conjunct of Devanagari
    "\u0ba8\u0bbf",
    "\u0e01\u0e49",
    "\u05d1\u05bc\u05b0",
    "\u4eca",
]
LINK = "https://example.com/" + "path-of-a-link/" * 30


@pytest.mark.parametrize(
    "text",
    [
        "The quick brown fox jumps over the lazy dog. " * 9,
        "Der schnelle Fuchs springt \u00fcber die Stra\u00dfe. " * 9,
        "\u4eca\u65e5\u306f\u826f\u3044\u5929\u6c17\u3067\u3059\u306d\u3002" * 30,
        "\u6211\u4eec \u4eca\u5929" + "\u8981\u53bb\u4e70\u725b\u5976" * 40,
        "\ud55c\uad6d\uc5b4 \ubb38\uc7a5\uc785\ub2c8\ub2e4. " * 20,
        "\u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35\u0e04\u0e23\u0e31\u0e1a" * 40,
        "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e " * 30,
        f"See {LINK}",
        f"\u770b {LINK}",
        "x" * 500,
        "\u00e9" * 500,
        *(cluster * 400 for cluster in CLUSTERS),
    ],
)
def test_an_excerpt_is_as_wide_as_an_english_one(text: str) -> None:
    excerpt = make_excerpt(text)
    assert text.startswith(excerpt)
    assert EXCERPT_WIDTH * 7 // 8 <= width(excerpt) <= EXCERPT_WIDTH


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_no_character_is_cut_wherever_the_end_falls(cluster: str) -> None:
    for before in range(EXCERPT_WIDTH):
        rest = make_excerpt("x" * before + cluster * 400)[before:]
        assert rest == cluster * (len(rest) // len(cluster))
        word = make_excerpt("x " * (before // 2) + cluster * 400)
        assert not word.endswith(" ")


pieces = st.sampled_from(
    [*CLUSTERS, *"ab \n\t\r\x1b", "\x1b[31m", "\u200b", "\u202e", "\u3000", "\u0600"]
)
texts = st.lists(pieces, max_size=400).map("".join) | st.text(max_size=400)


@given(texts)
def test_an_excerpt_is_a_short_text_itself_or_whole_characters_of_a_long_one(text: str) -> None:
    excerpt = make_excerpt(text)
    assert text.startswith(excerpt)
    if len(text) <= EXCERPT_WIDTH // 2 and text.count("\n") < EXCERPT_LINES:
        assert excerpt == text
    assert excerpt.count("\n") < EXCERPT_LINES or width(text.replace("\n", "x")) > EXCERPT_WIDTH
    assert width(excerpt, control_codes="ignore") <= EXCERPT_WIDTH
    ends, length = {0}, 0
    for grapheme in iter_graphemes(text):
        length += len(grapheme)
        ends.add(length)
        ends.add(length - len(grapheme) + len(grapheme.rstrip()))  # a blank with a mark before it
    assert len(excerpt) in ends


@pytest.mark.parametrize(
    "text", ["e" + "\u0301" * 9999, "\u200d" * 10_000, "\U0001f1e9" * 10_000, "\u0600" * 10_000]
)
def test_marks_without_end_take_no_time(text: str) -> None:
    before = process_time()
    for _ in range(50):
        excerpt = make_excerpt(text)
    assert process_time() - before < 0.5
    assert text.startswith(excerpt)
    assert len(excerpt) < 1000
