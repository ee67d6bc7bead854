"""Whether taskapp works, for anybody who asks, also while its database is away."""

from datetime import timedelta

from handlers.pages.base import PageHandler
from taskapp.core.messages import Message
from taskapp.jobs.health_check import find_database_problem

_BACKUP_AGES = {
    timedelta(days=1): Message("Less than a day ago"),
    timedelta(days=7): Message("Less than a week ago"),
    timedelta(days=30): Message("Less than a month ago"),
    timedelta.max: Message("More than a month ago"),
}
_NO_BACKUP = Message("None yet")


class StatusPage(PageHandler):
    """GET /status: up or not, since when, and how old the last backup is; no number or version."""

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Show the state; like the health check, 503 when something is wrong."""
        maintenance = self.services.maintenance.window
        problem = None if maintenance else await find_database_problem(self.services)
        self.show(
            "status.html",
            503 if maintenance or problem else 200,
            maintenance=maintenance,
            problem=problem,
            since=(maintenance or self.services.availability).since,
            backup=_word_age(self.services.backups.age),
        )


def _word_age(age: int | None) -> Message:
    """Word an age in seconds roughly: a visitor need not know when backups are made."""
    if age is None:
        return _NO_BACKUP
    return next(words for longest, words in _BACKUP_AGES.items() if age < longest.total_seconds())
