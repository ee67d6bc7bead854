"""How many rows a text needs in a field that does not grow with it."""

from unicodedata import east_asian_width

_COLUMNS = 68  # that fit into a row of a field, in the widest of the usual fonts
_MAX_ROWS = 20  # then the field scrolls


def count_rows(text: str, least: int) -> int:
    """Return the `rows` of a textarea: at least `least`, at most _MAX_ROWS."""
    lines = text[: _MAX_ROWS * _COLUMNS].split("\n")
    rows = sum(max(1, -(-_width(line) // _COLUMNS)) for line in lines)
    return max(least, min(rows, _MAX_ROWS))


def _width(line: str) -> int:
    if line.isascii():
        return len(line)
    return sum(2 if east_asian_width(character) in "FW" else 1 for character in line)
