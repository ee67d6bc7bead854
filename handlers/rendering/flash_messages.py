"""Flash messages: a response sets a code as a cookie, and the next page shows its sentence once."""

from collections.abc import Callable
from dataclasses import dataclass

from taskapp.core.messages import Message, counted
from taskapp.forms.parameters import read_id

_FIXED = {
    "registered": Message("Account created. Log in to get started."),
    "session-over": Message("Your session has ended. Log in to continue."),
    "logged-out": Message("You have been logged out."),
    "session-ended": Message("Session logged out."),
    "password-changed": Message("Password changed."),
    "token-revoked": Message("Token revoked."),
    "account-deleted": Message("Your account and all its data have been deleted."),
    "account-closed": Message(
        "Your account has been closed. Deleting all its data takes some minutes more."
    ),
    "added": Message("Task added."),
    "saved": Message("Task saved."),
    "completed": Message("Task completed."),
    "reopened": Message("Task reopened."),
    "deleted": Message("Task deleted."),
}
_COUNTED: dict[str, Callable[[int], Message]] = {
    "added-several": lambda number: counted(
        "%(number)s task added.", "%(number)s tasks added.", number=number
    ),
    "sessions-ended": lambda number: counted(
        "%(number)s session logged out.", "%(number)s sessions logged out.", number=number
    ),
    "deleted-completed": lambda number: counted(
        "%(number)s completed task deleted.",
        "%(number)s completed tasks deleted.",
        number=number,
    ),
}
_OPPOSITE = {"completed": "pending", "reopened": "completed"}
_MAX_NUMBER_LENGTH = 9  # digits


@dataclass(frozen=True)
class Undo:
    """The task whose change can be undone, and the status it had before."""

    task_id: str
    status: str


@dataclass(frozen=True)
class FlashMessage:
    """What was done, and how to undo it, if it can be undone."""

    message: Message
    undo: Undo | None = None


def read_flash_message(cookie: str) -> FlashMessage | None:
    """Return the flash message of a cookie: its code, a dot, and the task's id or the number.

    A client can send any cookie, so only the sentences of this module are shown.
    """
    code, _, subject = cookie.partition(".")
    if code in _COUNTED and subject.isdecimal() and len(subject) <= _MAX_NUMBER_LENGTH:
        return FlashMessage(_COUNTED[code](int(subject)))
    if code not in _FIXED:
        return None
    task_id = read_id(subject)
    undo = Undo(task_id, _OPPOSITE[code]) if task_id and code in _OPPOSITE else None
    return FlashMessage(_FIXED[code], undo)
