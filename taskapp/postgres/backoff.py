"""The backoff before a process is restarted."""

_FIRST_BACKOFF = 0.1  # seconds
_RESET_AFTER = 60.0  # seconds of uptime after which the backoff resets


class RestartBackoff:
    """Exponential backoff between restarts of a process; the first restart is immediate."""

    def __init__(self, max_backoff: float) -> None:
        """Limit the backoff to `max_backoff` seconds."""
        self._max_backoff = max_backoff
        self._next = 0.0

    def after(self, uptime: float) -> float:
        """Return the seconds to wait before a restart, after an uptime in seconds."""
        backoff = 0.0 if uptime > _RESET_AFTER else self._next
        self._next = min(max(_FIRST_BACKOFF, backoff * 2), self._max_backoff)
        return backoff
