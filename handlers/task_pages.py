"""The list of tasks, and the pages on which one is edited, completed and deleted."""

import re
import secrets
from urllib.parse import urlencode

from handlers.pages import PageHandler
from taskapp.errors import Invalid, VersionConflict
from taskapp.operations.tasks import (
    create_task,
    delete_task,
    list_tasks_with_overview,
    require_task,
    set_task_status,
    update_task,
)
from taskapp.queries.tasks import COUNT_LIMIT, Task
from taskapp.validation import (
    DEFAULT_PAGE,
    is_version,
    read_idempotency_key,
    read_status_filter,
)


class TaskListPage(PageHandler):
    """/tasks: the list, and the form that adds to it."""

    draft_fields = ("title", "description", "key")

    async def get(self) -> None:
        """Show the list."""
        await self._show_list({"key": secrets.token_urlsafe(16)}, {})

    async def post(self) -> None:
        """Add a task, once for each form that was shown, however often it is sent."""
        sent = self.read_form("title", "description", "key")
        key = read_idempotency_key(sent.pop("key", None) or None)
        try:
            await create_task(self.services, self.session, sent, key=key)
        except Invalid as error:
            values = {**sent, "key": key or secrets.token_urlsafe(16)}
            await self._show_list(values, error.errors, status=error.status)
        else:
            self.go("/tasks", "added")

    async def _show_list(
        self, values: dict[str, str], errors: dict[str, str], *, status: int = 200
    ) -> None:
        shown = read_status_filter(self.query("status"))
        page, overview = await list_tasks_with_overview(
            self.services,
            self.session,
            status=shown,
            after=self.query("after"),
            limit=DEFAULT_PAGE,
        )
        self.show(
            "tasks.html",
            status,
            tasks=page.tasks,
            overview=overview,
            count_limit=COUNT_LIMIT,
            shown=shown,
            place=_place(shown, self.query("after")),
            is_first_page=self.query("after") is None,
            next_query=urlencode(
                {**({"status": shown} if shown else {}), "after": page.next_cursor or ""}
            ),
            has_next=page.next_cursor is not None,
            values=values,
            errors=errors,
        )


def _place(shown: str | None, after: str | None) -> dict[str, str]:
    """Give the fields by which a form finds its way back to where in the list it stood."""
    return {name: value for name, value in (("shown", shown), ("after", after)) if value}


def _as_shown(task: Task) -> dict[str, str]:
    """Give a task's texts as they come back from a browser that shows them and is left alone.

    It drops the line ends of a one-line field, and makes those of others alike.
    """
    return {
        "title": re.sub(r"[\r\n]", "", task.title),
        "description": re.sub(r"\r\n?", "\n", task.description),
    }


class TaskEditPage(PageHandler):
    """/tasks/:id/edit. The form names the version it began with, so that no change is lost."""

    draft_fields = ("title", "description", "status", "version")

    async def get(self, task_id: str) -> None:
        """Show the form."""
        task = await require_task(self.services, self.session, task_id)
        values = {
            "title": task.title,
            "description": task.description,
            "status": task.status,
            "version": task.updated_at,
        }
        self._show_form(task, values, {})

    async def post(self, task_id: str) -> None:
        """Save; or show the form again with what is wrong, or with what others made of it."""
        sent = self.read_form("title", "description", "status", "version")
        version = sent.pop("version", "")
        versions = [version] if is_version(version) else None
        task = await require_task(self.services, self.session, task_id)
        changes = {name: text for name, text in sent.items() if text != _as_shown(task).get(name)}
        try:
            await update_task(self.services, self.session, task_id, changes, versions=versions)
        except Invalid as error:
            values = {**sent, "version": version}
            self._show_form(task, values, error.errors, status=error.status)
        except VersionConflict:
            await self._show_conflict(task_id, sent)
        else:
            self.go("/tasks", "saved")

    async def _show_conflict(self, task_id: str, sent: dict[str, str]) -> None:
        """Show both texts, unless they are the same: then this was a second click."""
        task = await require_task(self.services, self.session, task_id)
        saved = {**_as_shown(task), "status": task.status}
        if saved == {**saved, **sent, "title": sent.get("title", "").strip()}:
            self.go("/tasks", "saved")
            return
        values = {**sent, "version": task.updated_at}
        self._show_form(task, values, {}, is_conflict=True, status=409)

    def _show_form(
        self,
        task: Task,
        values: dict[str, str],
        errors: dict[str, str],
        *,
        is_conflict: bool = False,
        status: int = 200,
    ) -> None:
        self.show(
            "edit.html",
            status,
            task=task,
            values=values,
            errors=errors,
            is_conflict=is_conflict,
        )


class TaskStatusPage(PageHandler):
    """/tasks/:id/status: the checkbox of the list."""

    async def post(self, task_id: str) -> None:
        """Complete a task, or open it again, and go back to the list as it was filtered."""
        sent = self.read_form("status", "shown", "after")
        query = {
            "status": read_status_filter(sent.pop("shown", None) or None),
            "after": sent.pop("after", None),
        }
        task = await set_task_status(self.services, self.session, task_id, sent)
        known = urlencode({name: value for name, value in query.items() if value})
        notice = "completed" if task.status == "completed" else "reopened"
        self.go(f"/tasks{'?' if known else ''}{known}#task-{task.id}", notice)


class TaskDeletePage(PageHandler):
    """/tasks/:id/delete."""

    async def get(self, task_id: str) -> None:
        """Ask whether the task is to be deleted."""
        self.show("delete.html", task=await require_task(self.services, self.session, task_id))

    async def post(self, task_id: str) -> None:
        """Delete it."""
        await delete_task(self.services, self.session, task_id)
        self.go("/tasks", "deleted")
