"""The rows of the list, as HTML: templates/_task.html has the markup.

To look a task's values up, to escape each by itself and to run a template for each were most of
the time of the page.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape

from handlers.rendering.languages import Language
from handlers.rendering.skeletons import HtmlChunks, Skeleton, SkeletonCache
from taskapp.queries.tasks import ListedTask

_SHORT = 160  # characters of a description that the list shows at once
_SHORT_LINES = 3
_BETWEEN = "\0"  # in no text of a task: PostgreSQL stores none (taskapp/forms/fields.py)
_ESCAPED = "&<>\"'"
_GAPS = ("id", "title", "short", "description", "second", "moment", "ago", "list_query")


def write_rows(
    tasks: Sequence[ListedTask], language: Language, outlines: SkeletonCache, *, list_query: str
) -> HtmlChunks:
    """Return the rows of tasks in a language; `list_query` names the part of the list they are."""
    now = datetime.now(UTC)
    gaps = _GAPS if list_query else _GAPS[:-1]  # at the beginning of the list there are three less
    outlines_of: dict[tuple[str, str], Skeleton] = {}
    pieces = HtmlChunks()
    for task, title, description in zip(tasks, *_escape_texts(tasks), strict=True):
        written, created = task.description, task.created_at
        short = shorten(written)
        length = "long" if len(short) < len(written) else "short" if written else "none"
        look = (task.status, length)
        outline = outlines_of.get(look)
        if outline is None:
            named = {"is_completed": task.status == "completed", "length": length, "list_query": ""}
            outline = outlines_of[look] = outlines.find("_task.html", named, gaps)
        pieces += outline.fill(
            (
                task.id,
                title,
                short if description == written else escape(short),
                description,
                f"{created[:19]}Z",
                language.format_datetime(created),
                language.time_ago(created, now),
                list_query,
            )
        )
    return pieces


def shorten(text: str) -> str:
    """Give the beginning of a long text for the list, or a short text as it is."""
    if "\n" in text and text.count("\n", 0, _SHORT + 1) >= _SHORT_LINES:  # to count is slower
        return "\n".join(text.split("\n", _SHORT_LINES)[:_SHORT_LINES])
    if len(text) <= _SHORT:
        return text
    return (text[:_SHORT].rsplit(None, 1) or [""])[0]


def _escape_texts(tasks: Sequence[ListedTask]) -> tuple[list[str], list[str]]:
    """Escape the titles and the descriptions of tasks, all as one, if there is anything to be."""
    texts = [task.title for task in tasks] + [task.description for task in tasks]
    joined = _BETWEEN.join(texts)
    if any(character in joined for character in _ESCAPED):
        texts = escape(joined).split(_BETWEEN)
    return texts[: len(tasks)], texts[len(tasks) :]
