"""Addresses in a text become links."""

import re
from html import escape

# Not part of an address, although RFC 3987 would let some of it be: blanks, quotes, what HTML uses,
# punctuation of Chinese and Japanese, and what changes the direction of the text or shows nothing.
_ENDS = (
    r"\s\x00-\x20\x7f-\xa0\xad<>\"`\\^{|}"
    "\u061c\u200b\u200e\u200f\u2018-\u201f\u2026-\u202e\u2060-\u206f\ufeff"
    "\u3000-\u3003\u3008-\u3011\u3014-\u301f\uff01\uff08\uff09\uff0c\uff1a\uff1b\uff1f"
)
# Not IGNORECASE: that would take a long s for an s.
_ADDRESS = re.compile(
    r"(?<![A-Za-z0-9+.-])[Hh][Tt][Tt][Pp][Ss]?://"
    rf"(?:\[[0-9A-Fa-f:.]+\]|[^\W_])[^{_ENDS}]*"
)
_PUNCTUATION = ".,:;!?'*_~"
_OPENING = {")": "(", "]": "["}


def link_addresses(text: str) -> str:
    """Return a text as HTML, in which each http and https address is a link."""
    chunks: list[str] = []
    end = 0
    for match in _ADDRESS.finditer(text):
        address = _without_punctuation(match[0])
        shown = escape(address)
        # An address reads from left to right, also within Hebrew.
        link = f'<a href="{shown}" rel="noopener nofollow" dir="ltr">{shown}</a>'
        chunks += (escape(text[end : match.start()]), link)
        end = match.start() + len(address)
    chunks.append(escape(text[end:]))
    return "".join(chunks)


def _without_punctuation(address: str) -> str:
    """Return an address without what belongs to the sentence around it."""
    counts = {bracket: address.count(bracket) for bracket in "()[]"}
    end = len(address)
    while True:
        last = address[end - 1]
        if last in _OPENING and counts[last] > counts[_OPENING[last]]:
            counts[last] -= 1
        elif last not in _PUNCTUATION:
            return address[:end]
        end -= 1
