"""What a text may hold, as regular expressions of Python and of JSON Schema alike."""

import re

# What nobody sees: spaces, controls and joiners. Without tables, so that emoji of tomorrow count
# as seen.
_INVISIBLE = (
    r"\u0000-\u0020\u007f-\u00a0\u00ad\u061c\u1680\u180e"
    r"\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ufeff\ufff9-\ufffb"
)
_SPACE = (  # what `str.strip` takes away
    r"\t-\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
)
STORABLE = r"[^\u0000]*"
_VISIBLE_CHARACTER = re.compile(rf"[^{_INVISIBLE}]")
_UNSTORABLE_CHARACTER = re.compile("[\0\ud800-\udfff]")


def is_visible(text: str) -> bool:
    """Tell whether something can be seen of a text."""
    return _VISIBLE_CHARACTER.search(text) is not None


def is_storable(text: str) -> bool:
    """Tell whether PostgreSQL can store a text."""
    return _UNSTORABLE_CHARACTER.search(text) is None


def visible_within(length: int) -> str:
    """Write that something can be seen, and that the spaces around it are not of the length."""
    solid = rf"[^\u0000{_SPACE}]"
    inner = rf"{solid}([^\u0000]{{0,{length - 2}}}{solid})?"
    return rf"(?={STORABLE}[^{_INVISIBLE}])[{_SPACE}]*{inner}[{_SPACE}]*"
