"""The rows of the list as HTML; templates/_task.html has the markup.

Looking up, escaping and rendering each task separately used to dominate the page's cost.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from html import escape

from handlers.rendering.excerpts import make_excerpt
from handlers.rendering.languages import Language
from handlers.rendering.links import link_addresses
from handlers.rendering.skeletons import HtmlChunks, Skeleton, SkeletonCache
from taskapp.queries.tasks import ListedTask

_RECENTLY = timedelta(days=1)
_SEPARATOR = "\0"  # PostgreSQL stores no NUL, so no text of a task contains it
_ESCAPED = "&<>\"'"
_PLACEHOLDERS = (
    "id",
    "title",
    "excerpt",
    "description",
    "created_at",
    "created",
    "created_ago",
    "completed_at",
    "completed",
    "completed_ago",
    "list_query",
)


def render_rows(
    tasks: Sequence[ListedTask], language: Language, skeletons: SkeletonCache, *, list_query: str
) -> HtmlChunks:
    """Return the rows of tasks; `list_query`, the query of the list, goes into their links."""
    now = datetime.now(UTC)
    a_day_ago = (now - _RECENTLY).isoformat()
    skeleton_of: dict[tuple[str, str, bool, bool], Skeleton] = {}
    chunks = HtmlChunks()
    for task, title, description in zip(tasks, *_escape_texts(tasks), strict=True):
        full, created_at, completed_at = task.description, task.created_at, task.completed_at
        excerpt = make_excerpt(full)
        length = "long" if len(excerpt) < len(full) else "short" if full else "none"
        is_recent = created_at > a_day_ago
        variant = (task.status, length, completed_at is not None, is_recent)
        skeleton = skeleton_of.get(variant)
        if skeleton is None:
            named = {
                "is_completed": task.status == "completed",
                "length": length,
                "is_completion_known": completed_at is not None,
                "is_recent": is_recent,
            }
            skeleton = skeletons.find("_task.html", named, _PLACEHOLDERS)
            skeleton_of[variant] = skeleton
        chunks += skeleton.fill(
            (
                task.id,
                title,
                excerpt if description == full else escape(excerpt),
                link_addresses(full) if "://" in full else description,
                f"{created_at[:19]}Z",
                language.format_datetime(created_at),
                language.time_ago(created_at, now),
                f"{completed_at[:19]}Z" if completed_at else "",
                language.format_datetime(completed_at) if completed_at else "",
                language.time_ago(completed_at, now) if completed_at else "",
                list_query,
            )
        )
    return chunks


def _escape_texts(tasks: Sequence[ListedTask]) -> tuple[list[str], list[str]]:
    """Return the titles and the descriptions of tasks, escaped in one step if any needs it."""
    texts = [task.title for task in tasks] + [task.description for task in tasks]
    joined = _SEPARATOR.join(texts)
    if any(character in joined for character in _ESCAPED):
        texts = escape(joined).split(_SEPARATOR)
    return texts[: len(tasks)], texts[len(tasks) :]
