"""The forms of a task."""

from typing import Any

from schema.tables import DESCRIPTION_LENGTH, STATUSES, TITLE_LENGTH
from taskapp.core.messages import Message
from taskapp.forms.fields import (
    Field,
    FieldError,
    Form,
    read_choice,
    read_text,
    require_length,
)
from taskapp.forms.text_rules import STORABLE, is_visible, visible_within


def _read_title(value: Any) -> str:
    title = read_text(value).strip()
    if not is_visible(title):
        raise FieldError(Message("Title is required"))
    return require_length(title, 1, TITLE_LENGTH)


def _read_description(value: Any) -> str:
    return require_length(read_text(value), 0, DESCRIPTION_LENGTH)


def read_status(value: Any) -> str:
    """Return a value that is a status.

    Raises:
        FieldError: it is not.
    """
    return read_choice(value, STATUSES)


TITLE = Field(
    _read_title,
    {
        "type": "string",
        "minLength": 1,
        "pattern": f"^{visible_within(TITLE_LENGTH)}$",
        "description": f"At most {TITLE_LENGTH} characters, once the spaces around are gone.",
    },
)
DESCRIPTION = Field(
    _read_description,
    {
        "type": "string",
        "maxLength": DESCRIPTION_LENGTH,
        "pattern": f"^{STORABLE}$",
        "description": "More about it.",
    },
)
STATUS = Field(read_status, {"type": "string", "enum": list(STATUSES)})

READ_ONLY = ("id", "createdAt", "updatedAt")
NEW_TASK = Form(
    "NewTask", {"title": TITLE}, {"description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
TASK_CHANGES = Form(
    "TaskChanges", {}, {"title": TITLE, "description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
STATUS_CHANGE = Form("StatusChange", {"status": STATUS}, {})
