"""What long work is doing now: a command shows it, a server does not."""

from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass

from taskapp.core.units import format_size

BYTES = "bytes"


@dataclass
class Step:
    """A part of long work; `total` is 0 where it is not known."""

    text: str  # such as "Copying the database"
    total: int = 0
    unit: str = BYTES
    measure: Callable[[], int] | None = None  # how much is done, where nobody advances the step
    advanced: int = 0

    @property
    def done(self) -> int:
        """Return how much is done."""
        if self.measure:
            with suppress(OSError, ValueError):  # what is measured comes and goes
                self.advanced = self.measure()
        return self.advanced

    def describe(self) -> str:
        """Return how much is done, such as "38.1 MiB" or "12,000 rows"; empty if nothing yet."""
        done = self.done
        if not done:
            return ""
        return format_size(done) if self.unit == BYTES else f"{done:,} {self.unit}"


class Progress:
    """The step that some work is at."""

    def __init__(self) -> None:
        self.step = Step("")


_progress: ContextVar[Progress | None] = ContextVar("progress", default=None)


def follow_progress() -> Progress:
    """Return what the steps of this context are noted in from now on."""
    followed = Progress()
    _progress.set(followed)
    return followed


def begin_step(
    text: str, *, total: int = 0, unit: str = BYTES, measure: Callable[[], int] | None = None
) -> None:
    """Begin a step of the work that runs in this context."""
    if followed := _progress.get():
        followed.step = Step(text, total, unit, measure)


def advance_step(amount: int) -> None:
    """Add to what is done of the step in this context."""
    if followed := _progress.get():
        followed.step.advanced += amount
