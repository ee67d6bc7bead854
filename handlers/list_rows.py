"""The rows of the list, ready for its template.

To look a task's values up, to escape each by itself and to hand each on were most of the time of
the page.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape
from typing import NamedTuple

from handlers.languages import Language
from taskapp.queries.tasks import Task

_SHORT = 160  # characters of a description that the list shows at once
_SHORT_LINES = 3
_BETWEEN = "\0"  # in no text of a task: PostgreSQL stores none (taskapp/validation.py)


class Row(NamedTuple):
    """A task as the list shows it; what people wrote is escaped, and may stand in HTML."""

    id: str
    title: str
    short: str
    description: str
    is_short: bool
    is_completed: bool
    second: str  # RFC 3339, in UTC
    moment: str
    ago: str


def make_rows(tasks: Sequence[Task], language: Language) -> list[Row]:
    """Make the rows of tasks in a language."""
    if not tasks:
        return []
    shorts = [shorten(task.description) for task in tasks]
    titles = _escape(task.title for task in tasks)
    descriptions = _escape(task.description for task in tasks)
    now = datetime.now(UTC)
    return [
        Row(
            task.id,
            title,
            short,
            description,
            len(short) == len(description),
            task.status == "completed",
            f"{task.created_at[:19]}Z",
            language.moment(task.created_at),
            language.ago(task.created_at, now),
        )
        for task, title, short, description in zip(
            tasks, titles, _escape(shorts), descriptions, strict=True
        )
    ]


def shorten(text: str) -> str:
    """Give the beginning of a long text for the list, or a short text as it is."""
    if len(text) <= _SHORT and text.count("\n") < _SHORT_LINES:
        return text
    beginning = "\n".join(text.split("\n", _SHORT_LINES)[:_SHORT_LINES])
    if len(beginning) <= _SHORT:
        return beginning
    return (beginning[:_SHORT].rsplit(None, 1) or [""])[0]


def _escape(texts: Iterable[str]) -> list[str]:
    """Escape texts, of which there is one at least, as one."""
    return escape(_BETWEEN.join(texts)).split(_BETWEEN)
