r"""What a text may hold: rules of Python, and patterns for JSON Schema.

The patterns are the same in every engine that reads the OpenAPI document or what is generated from
it: ECMA-262 with the flag u and without, Python, and RE2, Go and Rust, which have no look-ahead and
no \uXXXX. So characters up to U+00FF are written as \xHH, all others as they are, and none is
beyond U+FFFF.
"""

import re
import unicodedata

# Characters that show nothing alone: Unicode's White_Space and Default_Ignorable_Code_Point,
# controls, and the Braille blank. Listed here rather than taken from Unicode tables, so that an
# emoji of a later Unicode version counts as visible.
_INVISIBLE = (
    r"\x00-\x20\x7f-\xa0\xad"
    "\u034f\u061c\u115f\u1160\u1680\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f"
    "\u2800\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb"
)
_SPACE = (  # what `str.strip` removes
    r"\t-\r\x1c-\x20\x85\xa0"
    "\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
)
_INVISIBLE_BEYOND = "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
STORABLE = r"[^\x00]*"
INVISIBLE = rf"[{_INVISIBLE}]*"
_VISIBLE_CHARACTER = re.compile(rf"[^{_INVISIBLE}]")
_NOT_SHOWN = re.compile(rf"(?!\s)[{_INVISIBLE}{_INVISIBLE_BEYOND}]")
_UNSTORABLE_CHARACTER = re.compile("[\0\ud800-\udfff]")


def is_visible(text: str) -> bool:
    """Return whether a text has a character that can be seen."""
    return _VISIBLE_CHARACTER.search(text) is not None


def as_shown(text: str) -> str:
    """Return a text of one line without what cannot be seen, composed, each space a single one.

    So two of them look different, unless letters of several scripts do not.
    """
    return " ".join(unicodedata.normalize("NFC", _NOT_SHOWN.sub("", text)).split())


def is_storable(text: str) -> bool:
    """Return whether PostgreSQL can store a text."""
    return _UNSTORABLE_CHARACTER.search(text) is None


def trimmed_within(length: int) -> str:
    """Return the pattern of 1 to `length` characters, not counting spaces around them."""
    solid = rf"[^\x00{_SPACE}]"
    inner = rf"{solid}([^\x00]{{0,{length - 2}}}{solid})?"
    return rf"[{_SPACE}]*{inner}[{_SPACE}]*"
