"""Whether the service is available, and since when, as this process has seen it."""

from typing import Literal

from taskapp.observability.logs import log, now_text

Part = Literal["database", "schema", "limits"]
# What keeps requests from working. A "newer" schema does not: a migration works while the version
# before still runs.
Problem = Literal["disconnected", "read-only", "writes-stalled", "outdated", "uncounted"]
STOPPING_READS: tuple[Problem, ...] = ("disconnected", "outdated")


class Availability:
    """The current problem of each part, and the timestamp (RFC 3339) of the last change."""

    def __init__(self) -> None:
        # Unavailable at first: nothing is known to work yet.
        self._problems: dict[Part, Problem | Literal["newer"] | None] = {"database": "disconnected"}
        self.since = now_text()

    @property
    def problem(self) -> Problem | None:
        """Return what keeps requests from working, the worst first."""
        for part in ("database", "schema", "limits"):
            problem = self._problems.get(part)
            if problem and problem != "newer":
                return problem
        return None

    def note(
        self, part: Part, problem: Problem | Literal["newer"] | None, reason: str = ""
    ) -> None:
        """Record the result of a check, and log a change."""
        if problem == self._problems.get(part):
            return
        self._problems[part] = problem
        self.since = now_text()
        level = "warning" if problem else "info"
        log("availability.changed", level, part=part, problem=problem, reason=reason or None)
