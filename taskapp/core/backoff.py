"""How a process ended, and how soon one that ended unasked is started again."""

import signal

_FIRST_BACKOFF = 0.1  # seconds
_SETTLED = 60.0  # seconds of service after which an end is no longer one of a series


class RestartBackoff:
    """Counts the ends of a process: the first restart is immediate, each further one is later."""

    def __init__(self, longest: float) -> None:
        """Take the longest pause, in seconds."""
        self._longest = longest
        self._next = 0.0

    def after(self, lived: float) -> float:
        """Give the seconds to wait before the next start, after a life of so many seconds."""
        pause = 0.0 if lived > _SETTLED else self._next
        self._next = min(max(_FIRST_BACKOFF, pause * 2), self._longest)
        return pause


def describe_end(code: int) -> str:
    """Say in words how a process ended, by the code that it left."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
