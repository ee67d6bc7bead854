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
    "all-ended": Message("All other sessions logged out and all tokens revoked."),
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
    "restored": Message("Task restored."),
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
    "restored-several": lambda number: counted(
        "%(number)s task restored.", "%(number)s tasks restored.", number=number
    ),
}
_OPPOSITE = {"completed": "pending", "reopened": "completed"}
_DELETIONS = ("deleted", "deleted-completed")
_MAX_NUMBER_LENGTH = 9  # digits


@dataclass(frozen=True)
class Undo:
    """The form that undoes what was done: its path and its one field."""

    path: str
    name: str
    value: str


@dataclass(frozen=True)
class FlashMessage:
    """What was done, and how to undo it, if it can be undone."""

    message: Message
    undo: Undo | None = None


def read_flash_message(cookie: str, is_valid_undo: Callable[[str], bool]) -> FlashMessage | None:
    """Return the flash message of a cookie: its code and, after dots, what it is about.

    That is a task's id or a number and, after a deletion, the undo token: the deleted tasks as a
    signed text. A client can send any cookie, so only the sentences of this module are shown, and
    `is_valid_undo` tells whether the token is signed for the user who would see it.
    """
    code, _, subject = cookie.partition(".")
    subject, _, deleted = subject.partition(".") if code in _DELETIONS else (subject, "", "")
    message = _FIXED.get(code) or _count(code, subject)
    if message is None:
        return None
    if deleted and is_valid_undo(deleted):
        return FlashMessage(message, Undo("/tasks/restore", "deleted", deleted))
    task_id = read_id(subject)
    if task_id and code in _OPPOSITE:
        return FlashMessage(message, Undo(f"/tasks/{task_id}/status", "status", _OPPOSITE[code]))
    return FlashMessage(message)


def _count(code: str, number: str) -> Message | None:
    is_number = number.isdecimal() and len(number) <= _MAX_NUMBER_LENGTH
    return _COUNTED[code](int(number)) if code in _COUNTED and is_number else None
