"""The beginning of a text that the list shows at once, of about the same size in every script."""

import re

EXCERPT_WIDTH = 160  # columns: a Latin letter has one, a Chinese one or an emoji two
EXCERPT_LINES = 3
# Characters given up at the end so as not to cut a word. What is longer is a link, or belongs to a
# script without blanks.
_MAX_LOST = 20
_MAX_READ = 4 * EXCERPT_WIDTH  # characters; a family of emoji takes seven for two columns
_CONTROL = re.compile("[\0-\x1f\x7f-\x9f]")


def make_excerpt(text: str) -> str:
    """Return the beginning of a long text, cut between words or lines; a short text unchanged.

    No character that a reader sees as one is cut (UAX 29).
    """
    # `in` is faster than `count`, and most descriptions have one line.
    if "\n" in text and text.count("\n", 0, EXCERPT_WIDTH + 1) >= EXCERPT_LINES:
        text = "\n".join(text.split("\n", EXCERPT_LINES)[:EXCERPT_LINES])
    if len(text) <= EXCERPT_WIDTH // 2:
        return text
    end = EXCERPT_WIDTH if text[: EXCERPT_WIDTH + 1].isascii() else _find_end(text)
    return text if end >= len(text) else _without_part_of_word(text, end)


def _find_end(text: str) -> int:
    """Return how many characters fit into EXCERPT_WIDTH."""
    from wcwidth import clip, grapheme_boundary_before  # noqa: PLC0415  # 20 ms, and most need none

    # clip() takes control characters for commands of a terminal.
    beginning = _CONTROL.sub(" ", text[:_MAX_READ])
    fitting = clip(beginning, 0, EXCERPT_WIDTH)
    if len(fitting) == _MAX_READ:
        return grapheme_boundary_before(beginning, _MAX_READ)
    # A wide character that does not fit leaves a column, which is filled with a blank.
    return len(fitting) if beginning.startswith(fitting) else len(fitting) - 1


def _without_part_of_word(text: str, end: int) -> str:
    excerpt = text[:end]
    if not text[end].isspace():
        words = excerpt.rsplit(None, 1)
        if len(words) == 2 and len(words[1]) <= _MAX_LOST:
            return words[0]
    return excerpt.rstrip()
