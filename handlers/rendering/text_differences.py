"""What differs between two texts, word by word."""

import re
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

_RUN = re.compile(r"\s+|\S+")
_MAX_WORD_LENGTH = 20  # characters; a longer run has no spaces between its words, as in Japanese
# Pairs of words; comparing them takes up to 0.1 s. Beyond that, all between the common beginning
# and the common end is marked.
_MAX_PAIRS = 40_000


class Part(NamedTuple):
    """A part of a text, and whether the other text does not have it there."""

    text: str
    differs: bool


Difference = tuple[list[Part], list[Part]]


def compare_texts(one: str, other: str) -> Difference:
    """Return the parts of both texts."""
    first, second = list(_split(one)), list(_split(other))
    start = _count_common(first, second)
    end = _count_common(first[start:][::-1], second[start:][::-1])
    middles = first[start : len(first) - end], second[start : len(second) - end]
    common = _common_in(*middles)
    return (
        _mark(first, {*range(start), *(start + place for place, _ in common)}, end),
        _mark(second, {*range(start), *(start + place for _, place in common)}, end),
    )


def _split(text: str) -> Iterator[str]:
    """Yield words and the spaces between them; of a run without spaces, what counts as a letter."""
    for run in _RUN.findall(text):
        if len(run) <= _MAX_WORD_LENGTH:
            yield run
        else:
            from wcwidth import iter_graphemes  # noqa: PLC0415  # 20 ms, and most need none

            yield from iter_graphemes(run)


def _count_common(one: Sequence[str], other: Sequence[str]) -> int:
    pairs = zip(one, other, strict=False)
    return next(
        (number for number, (left, right) in enumerate(pairs) if left != right),
        min(len(one), len(other)),
    )


def _common_in(one: Sequence[str], other: Sequence[str]) -> list[tuple[int, int]]:
    """Return the places of the words that both have, in the same order."""
    if len(one) * len(other) > _MAX_PAIRS:
        return []
    blocks = SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks()
    return [(a + step, b + step) for a, b, size in blocks for step in range(size)]


def _mark(words: Sequence[str], common: set[int], end: int) -> list[Part]:
    """Return the words as parts: those at common places, and so many at the end, are in both."""
    parts: list[Part] = []
    for place, word in enumerate(words):
        differs = place not in common and place < len(words) - end
        if parts and parts[-1].differs == differs:
            parts[-1] = Part(parts[-1].text + word, differs)
        else:
            parts.append(Part(word, differs))
    return parts
