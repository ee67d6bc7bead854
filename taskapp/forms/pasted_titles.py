"""Titles of several tasks in one text, a line each, as users paste them."""

import re

from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.forms.fields import NOT_STORABLE, FieldError
from taskapp.forms.tasks import TITLE
from taskapp.forms.text_rules import is_visible

MAX_TITLES = 100  # of one text
MAX_LINES = 10 * MAX_TITLES  # of one text, empty ones included; a text with more is not parsed
_LINE_END = re.compile(r"\r\n?|\n")
# What other programs put before the items of a list. A hyphen without a space begins a number, and
# a number alone may be a date ("3. Oktober"). Word's bullets are of private use, or an "o".
_DASHES = r"\-*+\u2013\u2014"
_DOTS = r"\xb7\u2022\u2023\u2043\u2219\u25a0\u25a1\u25aa\u25ab\u25cb\u25cf\u25e6\uf0a7\uf0b7"
_BULLET = rf"(?:[{_DASHES}{_DOTS}](?:\s+|$)|o\t\s*)"
_BOX = r"(?:\[[ xX]?\](?:\s+|$)|[\u2610-\u2612\u2705\u2713\u2714\u2b1c]\ufe0f?\s*)"
_MARKER = re.compile(rf"\A\s*(?:{_BULLET}?{_BOX}|{_BULLET}|[0-9]{{1,3}}[.)]\s+{_BOX})")


def read_titles(text: str) -> list[str]:
    """Return the title of every line with a visible character, without its bullet and its box.

    Raises:
        Invalid: a line is not a valid title, or there are none, or more than MAX_TITLES.
    """
    split = _LINE_END.split(text, MAX_LINES)
    items = enumerate((_MARKER.sub("", line, count=1) for line in split), start=1)
    lines = [(number, line) for number, line in items if is_visible(line)]
    if not lines:
        raise Invalid({"titles": Message("Enter at least one task")})
    number_of_lines = len(lines) if len(split) <= MAX_LINES else len(split)
    if number_of_lines > MAX_TITLES:
        raise Invalid(
            {
                "titles": Message(
                    "You can add at most %(limit)s tasks at once (currently %(number_of_lines)s)",
                    limit=MAX_TITLES,
                    number_of_lines=number_of_lines,
                )
            }
        )
    return [_read_line(number, line) for number, line in lines]


def _read_line(number: int, line: str) -> str:
    try:
        return TITLE.read(line)
    except FieldError as error:
        raise Invalid({"titles": _about_line(number, error.message)}) from error


def _about_line(number: int, problem: Message) -> Message:
    """Return the message with the line's number; a visible line has one of two problems only."""
    if problem == NOT_STORABLE:
        return Message(
            "Line %(line)s contains unsupported characters (NUL or an unpaired surrogate)",
            line=number,
        )
    return Message(
        "Line %(line)s must be at most %(limit)s characters (currently %(length)s)",
        line=number,
        **problem.values,
    )
