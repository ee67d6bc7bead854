"""What is wrong with the service, if anything, and since when, as far as this process saw it."""

from typing import Literal

from taskapp.observability.logs import log, now_text

Problem = Literal["disconnected", "read-only"]


class Availability:
    """The present state, and the moment (RFC 3339) of the check that first found it."""

    def __init__(self) -> None:
        """Begin unavailable: nothing is known to work yet."""
        self.problem: Problem | None = "disconnected"
        self.since = now_text()

    def note(self, problem: Problem | None) -> None:
        """Take the result of a check."""
        if problem == self.problem:
            return
        self.problem, self.since = problem, now_text()
        log("availability.changed", "warning" if problem else "info", problem=problem)
