"""Titles of several tasks in one text, a line each, as users paste them."""

import re

from schema.tables import TITLE_LENGTH
from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.forms.fields import NOT_STORABLE, FieldError
from taskapp.forms.tasks import TITLE
from taskapp.forms.text_rules import is_visible

MAX_TITLES = 100  # of one text
_LINE_END = re.compile(r"\r\n?|\n")


def read_titles(text: str) -> list[str]:
    """Return the title of every line with a visible character.

    Raises:
        Invalid: a line is not a valid title, or there are none, or more than MAX_TITLES.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_LINE_END.split(text), start=1)
        if is_visible(line)
    ]
    if not lines:
        raise Invalid({"titles": Message("Enter at least one task")})
    if len(lines) > MAX_TITLES:
        raise Invalid(
            {
                "titles": Message(
                    "You can add at most %(limit)s tasks at once (currently %(number_of_lines)s)",
                    limit=MAX_TITLES,
                    number_of_lines=len(lines),
                )
            }
        )
    return [_read_line(number, line) for number, line in lines]


def _read_line(number: int, line: str) -> str:
    try:
        return TITLE.read(line)
    except FieldError as error:
        raise Invalid({"titles": _about_line(number, line, error.message)}) from error


def _about_line(number: int, line: str, problem: Message) -> Message:
    """Return the message with the line's number; a visible line has one of two problems only."""
    if problem == NOT_STORABLE:
        return Message(
            "Line %(line)s contains unsupported characters (NUL or an unpaired surrogate)",
            line=number,
        )
    return Message(
        "Line %(line)s must be at most %(limit)s characters (currently %(length)s)",
        line=number,
        length=len(line.strip()),
        limit=TITLE_LENGTH,
    )
