"""The list of tasks, and the pages on which one is edited, completed and deleted."""

import re
from collections.abc import Mapping
from functools import cached_property
from typing import Any, ClassVar

from uuid_utils import uuid7

from handlers.pages.base import PageHandler
from handlers.rendering.languages import Language
from handlers.rendering.task_rows import write_rows
from taskapp.core.errors import Invalid, VersionConflict
from taskapp.forms.parameters import (
    DEFAULT_PAGE_SIZE,
    is_version,
    read_idempotency_key,
    read_status_filter,
)
from taskapp.operations.tasks import (
    create_task,
    create_tasks,
    delete_completed_tasks,
    delete_task,
    find_completed,
    key_of_text,
    list_tasks_with_summary,
    require_task,
    set_task_status,
    update_task,
)
from taskapp.queries.tasks import COUNT_LIMIT, ListSummary, Task


class TaskPage(PageHandler):
    """A page of the list, or one that leads back to it: the address says where in it one was."""

    @property
    def status_filter(self) -> str | None:
        """Give the status that the list is filtered by; None for all."""
        try:
            return read_status_filter(self.read_query("status") or None)
        except Invalid:
            return None

    @cached_property
    def list_query(self) -> str:
        """Give the query of the part of the list that this request came from."""
        after = self.read_query("after")
        is_ours = after and self.services.signer.read_cursor(after)
        return _query(self.status_filter, after if is_ours else None)

    @property
    def current_path(self) -> str:
        """Give the address of this page, in its place of the list."""
        return super().current_path + self.list_query

    def show(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page that knows its place."""
        super().show(template, status, **{"list_query": self.list_query} | values)


class TaskListPage(TaskPage):
    """/tasks: the list, and the form that adds to it."""

    draft_fields: ClassVar[tuple[str, ...]] = ("title", "description", "key")

    async def get(self) -> None:
        """Show the list."""
        await self.show_list({}, {})

    async def post(self) -> None:
        """Add a task, once for each text in a form that was shown, however often it is sent."""
        sent = self.read_form("title", "description", "key")
        key = read_idempotency_key(sent.pop("key", None) or None)
        key_of_task = key and key_of_text(key, "\0".join(sent.values()))
        try:
            await create_task(self.services, self.session, sent, key=key_of_task)
        except Invalid as error:
            await self.show_list({**sent, "key": key}, error.errors, status=error.status)
        else:
            self.redirect_to(self.list_with_the_new(), "added")

    def list_with_the_new(self) -> str:
        """Give the path of the list on which a new task is seen."""
        return "/tasks" + _query("pending" if self.status_filter == "pending" else None, None)

    async def show_list(
        self, values: Mapping[str, str | None], errors: dict[str, str], *, status: int = 200
    ) -> None:
        """Show the list, with what was typed into its forms and what is wrong with it."""
        status_filter = read_status_filter(self.query("status"))
        page, overview = await list_tasks_with_summary(
            self.services,
            self.session,
            status=status_filter,
            after=self.query("after"),
            limit=DEFAULT_PAGE_SIZE,
        )
        language = self.language
        outlines = self.application.templates.outlines(language)
        look = {
            "status_filter": status_filter,
            "is_first_page": self.query("after") is None,
            "has_tasks": bool(overview.pending or overview.completed),
            "has_completed": bool(overview.completed),
        }
        texts = {
            "rows": write_rows(page.tasks, language, outlines, list_query=self.list_query),
            **_write_overview(overview, language),
            "filter_query": _query(status_filter, None),
            "next_query": page.next_cursor and _query(status_filter, page.next_cursor),
            "key": values.get("key") or str(uuid7()),
        }
        if values or errors:
            self.show("tasks.html", status, **look, **texts, values=values, errors=errors)
        else:
            self.show("tasks.html", status, look=look, **texts)


class SeveralTasksPage(TaskListPage):
    """/tasks/several: a form of the list, whose lines become a task each."""

    draft_fields = ("titles", "key")

    async def get(self) -> None:
        """Show the list, in which the form is."""
        self.redirect_to("/tasks")

    async def post(self) -> None:
        """Add them all, or none."""
        sent = self.read_form("titles", "key")
        key = read_idempotency_key(sent.get("key") or None)
        try:
            number = await create_tasks(
                self.services, self.session, sent.get("titles", ""), key=key
            )
        except Invalid as error:
            await self.show_list({**sent, "key": key}, error.errors, status=error.status)
        else:
            self.redirect_to(self.list_with_the_new(), f"added-several.{number}")


def _query(status: str | None, after: str | None) -> str:
    """Give the query that names a part of the list; nothing for the beginning of the whole."""
    # Nothing to be quoted: a word, and a cursor, which is made for addresses.
    named = [f"{name}={value}" for name, value in (("status", status), ("after", after)) if value]
    return f"?{'&'.join(named)}" if named else ""


def _write_overview(overview: ListSummary, language: Language) -> dict[str, str]:
    """Write whose list it is, and how many tasks are in it, which are counted up to a limit."""

    def count(number: int) -> str:
        is_more = number >= COUNT_LIMIT
        return language.number(COUNT_LIMIT - 1) + "+" if is_more else language.number(number)

    return {
        "email": overview.email,
        "total": count(overview.pending + overview.completed),
        "pending": count(overview.pending),
        "completed": count(overview.completed),
    }


def _as_shown(task: Task) -> dict[str, str]:
    """Give a task's texts as they come back from a browser that shows them and is left alone.

    It drops the line ends of a one-line field, and makes those of others alike.
    """
    return {
        "title": re.sub(r"[\r\n]", "", task.title),
        "description": re.sub(r"\r\n?", "\n", task.description),
    }


class TaskEditPage(TaskPage):
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
            self.redirect_to(f"/tasks{self.list_query}#task-{task.id}", "saved")

    async def _show_conflict(self, task_id: str, sent: dict[str, str]) -> None:
        """Show both texts, unless they are the same: then this was a second click."""
        task = await require_task(self.services, self.session, task_id)
        saved = {**_as_shown(task), "status": task.status}
        if saved == {**saved, **sent, "title": sent.get("title", "").strip()}:
            self.redirect_to(f"/tasks{self.list_query}#task-{task.id}", "saved")
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


class TaskStatusPage(TaskPage):
    """/tasks/:id/status: the checkbox of the list."""

    async def post(self, task_id: str) -> None:
        """Complete a task, or open it again, and go back to where in the list it was."""
        sent = self.read_form("status")
        task = await set_task_status(self.services, self.session, task_id, sent)
        notice = "completed" if task.status == "completed" else "reopened"
        self.redirect_to(f"/tasks{self.list_query}#task-{task.id}", f"{notice}.{task.id}")


class TaskDeletePage(TaskPage):
    """/tasks/:id/delete."""

    async def get(self, task_id: str) -> None:
        """Ask whether the task is to be deleted."""
        self.show("delete.html", task=await require_task(self.services, self.session, task_id))

    async def post(self, task_id: str) -> None:
        """Delete it."""
        await delete_task(self.services, self.session, task_id)
        self.redirect_to(f"/tasks{self.list_query}", "deleted")


class CompletedDeletePage(TaskPage):
    """/tasks/completed/delete: deletes all that were completed when it asked."""

    async def get(self) -> None:
        """Ask whether the completed tasks are to be deleted."""
        completed = await find_completed(self.services, self.session)
        self.show("delete_completed.html", completed=completed, count_limit=COUNT_LIMIT)

    async def post(self) -> None:
        """Delete them, and none that was completed since."""
        until = self.read_form("until").get("until", "")
        number = await delete_completed_tasks(self.services, self.session, until)
        self.redirect_to("/tasks", f"deleted-completed.{number}")
