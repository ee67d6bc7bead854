"""Whether the service is available, and since when, as this process has seen it."""

from typing import Literal

from taskapp.observability.logs import log, now_text

Problem = Literal["disconnected", "read-only"]


class Availability:
    """The current problem, and the timestamp (RFC 3339) of the check that first found it."""

    def __init__(self) -> None:
        # Unavailable at first: nothing is known to work yet.
        self.problem: Problem | None = "disconnected"
        self.since = now_text()

    def note(self, problem: Problem | None) -> None:
        """Record the result of a check."""
        if problem == self.problem:
            return
        self.problem, self.since = problem, now_text()
        log("availability.changed", "warning" if problem else "info", problem=problem)
