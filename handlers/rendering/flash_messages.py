"""What a page says was done before: a word in a cookie, set by one answer and read by the next."""

from collections.abc import Callable
from dataclasses import dataclass

from taskapp.core.messages import Message, counted
from taskapp.forms.parameters import read_id

_FIXED = {
    "registered": Message("Your account is ready. Log in to begin."),
    "logged-out": Message("You are logged out."),
    "session-ended": Message("Session ended."),
    "password-changed": Message("Password changed."),
    "token-revoked": Message("Token revoked."),
    "account-deleted": Message("Your account is deleted, with everything in it."),
    "added": Message("Task added."),
    "saved": Message("Task saved."),
    "completed": Message("Task completed."),
    "reopened": Message("Task is pending again."),
    "deleted": Message("Task deleted."),
}
_COUNTED: dict[str, Callable[[int], Message]] = {
    "added-several": lambda number: counted(
        "%(number)s task added.", "%(number)s tasks added.", number=number
    ),
    "sessions-ended": lambda number: counted(
        "%(number)s session ended.", "%(number)s sessions ended.", number=number
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
    """How a change is taken back: the task, and the status that it had."""

    task_id: str
    status: str


@dataclass(frozen=True)
class FlashMessage:
    """A sentence on what was done, and how to undo it if that can be done."""

    message: Message
    undo: Undo | None = None


def read_flash_message(cookie: str) -> FlashMessage | None:
    """Read a notice from a cookie: its code, and behind a dot the task or the number it is about.

    Anybody can write a cookie, so nothing of it is shown that is not one of our sentences.
    """
    code, _, about = cookie.partition(".")
    if code in _COUNTED and about.isdecimal() and len(about) <= _MAX_NUMBER_LENGTH:
        return FlashMessage(_COUNTED[code](int(about)))
    if code not in _FIXED:
        return None
    task_id = read_id(about)
    undo = Undo(task_id, _OPPOSITE[code]) if task_id and code in _OPPOSITE else None
    return FlashMessage(_FIXED[code], undo)
