"""The public status page, which works without the database."""

from datetime import timedelta

from handlers.pages.base import PageHandler
from taskapp.core.messages import Message
from taskapp.jobs.health_check import find_problem

_BACKUP_AGES = {
    timedelta(days=1): Message("Less than a day ago"),
    timedelta(days=7): Message("Less than a week ago"),
    timedelta(days=30): Message("Less than a month ago"),
    timedelta.max: Message("More than a month ago"),
}
_NO_BACKUP = Message("None yet")


class StatusPage(PageHandler):
    """/status: up or not, since when, and the age of the last backup; no numbers and no version."""

    is_public = True
    needs_database = False

    async def get(self) -> None:
        """Render the state, with 503 while something is wrong, as the health check has it."""
        maintenance = self.services.maintenance.window
        problem = None if maintenance else await find_problem(self.services)
        self.render_page(
            "status.html",
            503 if maintenance or problem else 200,
            maintenance=maintenance,
            problem=problem,
            since=(maintenance or self.services.availability).since,
            backup=_describe_age(self.services.backups.age),
        )


def _describe_age(age: int | None) -> Message:
    """Return an age in seconds roughly, so that visitors do not learn when backups run."""
    if age is None:
        return _NO_BACKUP
    return next(text for limit, text in _BACKUP_AGES.items() if age < limit.total_seconds())
