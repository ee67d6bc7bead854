"""Titles of several tasks in one text, as somebody pastes them: one a line."""

import re

from schema.tables import TITLE_LENGTH
from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.forms.fields import NOT_STORABLE, TITLE, FieldError
from taskapp.forms.text_rules import is_visible

MAX_BATCH = 100  # tasks of one text
_LINE_END = re.compile(r"\r\n?|\n")


def read_titles(text: str) -> list[str]:
    """Read the titles of a text, one of each line in which something can be seen.

    Raises:
        Invalid: a line cannot be a title, or there is none, or more than MAX_BATCH.
    """
    lines = [
        (number, line)
        for number, line in enumerate(_LINE_END.split(text), start=1)
        if is_visible(line)
    ]
    if not lines:
        raise Invalid({"titles": Message("Write at least one line.")})
    if len(lines) > MAX_BATCH:
        raise Invalid(
            {
                "titles": Message(
                    "At most %(limit)s tasks can be added at once; these are %(number_of_lines)s.",
                    limit=MAX_BATCH,
                    number_of_lines=len(lines),
                )
            }
        )
    return [_read_line(number, line) for number, line in lines]


def _read_line(number: int, line: str) -> str:
    try:
        return TITLE.read(line)
    except FieldError as refusal:
        raise Invalid({"titles": _about_line(number, line, refusal.message)}) from refusal


def _about_line(number: int, line: str, problem: Message) -> Message:
    """Say in which line a problem is; one that is visible has only these two."""
    if problem == NOT_STORABLE:
        return Message(
            "Line %(line)s holds characters that cannot be stored "
            "(NUL, or half of a surrogate pair).",
            line=number,
        )
    return Message(
        "Line %(line)s has %(length)s characters; at most %(limit)s are possible.",
        line=number,
        length=len(line.strip()),
        limit=TITLE_LENGTH,
    )
