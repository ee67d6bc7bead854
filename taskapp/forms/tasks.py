"""The forms of a task."""

from typing import Any

from schema.tables import DESCRIPTION_LENGTH, STATUSES, TITLE_LENGTH
from taskapp.core.messages import Message
from taskapp.forms.fields import (
    Field,
    FieldError,
    Form,
    choice,
    read_text,
    require_length,
)
from taskapp.forms.text_rules import INVISIBLE, STORABLE, is_visible, trimmed_within

_MAX_SENT_TITLE_LENGTH = 20_000  # spaces around a title may be many


def _read_title(value: Any) -> str:
    title = read_text(value).strip()
    if not is_visible(title):
        raise FieldError(Message("Title is required"))
    return require_length(title, 1, TITLE_LENGTH)


def _read_description(value: Any) -> str:
    return require_length(read_text(value), 0, DESCRIPTION_LENGTH)


TITLE = Field(
    _read_title,
    {
        "type": "string",
        "minLength": 1,
        "maxLength": _MAX_SENT_TITLE_LENGTH,
        "pattern": f"^{trimmed_within(TITLE_LENGTH)}$",
        # Not in the pattern: that would need a look-ahead, which RE2 does not have.
        "not": {"pattern": f"^{INVISIBLE}$"},
        "description": f"Title of the task: at most {TITLE_LENGTH} characters, at least one of "
        "them visible. Spaces around it are removed and not counted.",
    },
    max_length=TITLE_LENGTH,
    max_sent_length=_MAX_SENT_TITLE_LENGTH,
)
DESCRIPTION = Field(
    _read_description,
    {
        "type": "string",
        "maxLength": DESCRIPTION_LENGTH,
        "pattern": f"^{STORABLE}$",
        "description": f"Details of the task: at most {DESCRIPTION_LENGTH:,} characters, which "
        "are kept as sent.",
    },
    max_length=DESCRIPTION_LENGTH,
    max_sent_length=DESCRIPTION_LENGTH,
)
STATUS = choice(*STATUSES)

READ_ONLY = ("id", "createdAt", "completedAt", "updatedAt")
NEW_TASK = Form(
    "TaskCreate", {"title": TITLE}, {"description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
TASK_CHANGES = Form(
    "TaskUpdate", {}, {"title": TITLE, "description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
STATUS_CHANGE = Form("StatusChange", {"status": STATUS}, {})
