"""The list of tasks, and the pages that edit, complete and delete tasks."""

import re
from collections.abc import Hashable, Mapping
from functools import cached_property, partial
from typing import ClassVar

from uuid_utils import uuid7

from handlers.pages.base import Draft, PageHandler
from handlers.rendering.languages import Language
from handlers.rendering.skeletons import HtmlChunks
from handlers.rendering.task_rows import render_rows
from handlers.rendering.text_differences import Difference, compare_texts
from handlers.web.cookies import MAX_VALUE_LENGTH
from taskapp.core.errors import Invalid, TaskNotFound, VersionConflict
from taskapp.forms.parameters import (
    is_version,
    read_idempotency_key,
    read_number,
    read_status_filter,
)
from taskapp.forms.shared_text import fill_new_task
from taskapp.operations.tasks import (
    DeletedTasks,
    create_task,
    create_tasks,
    delete_completed_tasks,
    delete_task,
    find_completed,
    find_deleted,
    find_neighbor,
    key_of_text,
    list_tasks_with_summary,
    require_task,
    restore_tasks,
    set_task_status,
    sign_completed,
    sign_deleted,
    update_task,
)
from taskapp.queries.tasks import COUNT_LIMIT, ListSummary, Task


class TaskPageHandler(PageHandler):
    """A page that belongs to a part of the list: `list_query` leads back there."""

    @property
    def status_filter(self) -> str | None:
        """Return the status that the list is filtered by; None for all tasks."""
        try:
            return read_status_filter(self.read_query("status") or None)
        except Invalid:
            return None

    @cached_property
    def cursor(self) -> str | None:
        """Return the cursor of this page of the list; None for the first page."""
        after = self.read_query("after")
        signer = self.services.signer
        by_completion = self.status_filter == "completed"
        read = signer.read_completion_cursor if by_completion else signer.read_cursor
        return after if after and read(after) else None

    @cached_property
    def list_query(self) -> str:
        """Return the query of this part of the list, with parameters that are valid only."""
        return _list_query(self.status_filter, self.cursor)

    @property
    def path_after_login(self) -> str:
        """Return the address of the page, or the part of the list whose form was sent."""
        if self.is_safe() or not self.list_query:
            return super().path_after_login
        return self.application.path("/tasks") + self.list_query

    @property
    def current_path(self) -> str:
        """Return the address of this page with the query of its part of the list."""
        return super().current_path + self.list_query

    def path_of_task(self, task_id: str) -> str:
        """Return the path of this part of the list, at a task."""
        return f"/tasks{self.list_query}#task-{task_id}"

    async def find_path_beside(self, task_id: str, *, status: str | None = None) -> str:
        """Return the path of this part of the list at the task beside one that will leave it.

        A part that will be empty is left for the beginning of the list.
        """
        neighbor = await find_neighbor(
            self.services,
            self.session,
            task_id,
            status=status or self.status_filter,
            after=self.cursor,
        )
        if neighbor is None:
            return "/tasks" + _list_query(self.status_filter, None)
        return self.path_of_task(neighbor)

    async def load_list(
        self, status_filter: str | None, after: str | None
    ) -> tuple[dict[str, Hashable], dict[str, str | HtmlChunks | None]]:
        """Return what tasks.html branches on, and the other values of it."""
        page, summary = await list_tasks_with_summary(
            self.services, self.session, status=status_filter, after=after
        )
        variant: dict[str, Hashable] = {
            "status_filter": status_filter,
            "is_first_page": after is None,
            "has_tasks": bool(summary.pending or summary.completed),
            "has_pending": bool(summary.pending),
            "has_completed": bool(summary.completed),
            "has_more_completed": summary.completed > len(page.completed),
        }
        render = partial(
            render_rows,
            language=self.language,
            skeletons=self.application.templates.skeletons(self.language),
            list_query=self.list_query,
        )
        values: dict[str, str | HtmlChunks | None] = {
            "rows": render(page.tasks),
            "completed_rows": render(page.completed),
            **_format_summary(summary, self.language),
            "filter_query": _list_query(status_filter, None),
            "next_query": page.next_cursor and _list_query(status_filter, page.next_cursor),
            "key": str(uuid7()),
        }
        return variant, values

    async def show_deletion(self, path: str, flash_message: str) -> None:
        """Redirect to a path of the list, where the flash message undoes the deletion.

        Deleted tasks that are too long for a cookie are in the response itself (ADR 0047).
        """
        if len(flash_message) <= MAX_VALUE_LENGTH:
            self.redirect_to(path, flash_message)
            return
        self.flash_message = flash_message
        self.render_skeleton("tasks.html", *await self.load_list(self.status_filter, self.cursor))


class TaskListPage(TaskPageHandler):
    """/tasks: the list, and the form that adds a task."""

    draft_fields: ClassVar[tuple[str, ...]] = ("title", "description", "key")

    async def get(self) -> None:
        """Render the list; a text in the address fills a form of it, and adds nothing."""
        variant, values = await self._load_own_list()
        if given := self._read_given():
            self.may_compress = False
            shown = given | {"version": values["key"]}
            self.render_form("tasks.html", None, **variant, **values, values=shown)
        else:
            self.render_skeleton("tasks.html", variant, values)

    def _read_given(self) -> dict[str, str]:
        return fill_new_task(*(self.read_query(name) for name in ("title", "description", "url")))

    def read_draft(self) -> Draft | None:
        """Return what was typed or, before it could fill a form, what the address has."""
        if not self.is_safe():
            return super().read_draft()
        if not (given := self._read_given()):
            return None
        path = "/tasks/several" if "titles" in given else "/tasks"
        fields = given | {"key": str(uuid7()), "given": "yes"}
        return Draft(self.application.path(path) + self.list_query, fields)

    async def post(self) -> None:
        """Add a task, however often the same form is sent with the same text."""
        sent = self.read_form("title", "description", "key")
        key = read_idempotency_key(sent.pop("key", None) or None)
        key_of_task = key and key_of_text(key, "\0".join(sent.values()))
        try:
            await create_task(self.services, self.session, sent, key=key_of_task)
        except Invalid as error:
            await self.render_invalid(sent | self.read_form("version"), key, error)
        else:
            self.redirect_to(self.path_after_adding, "added")

    @property
    def path_after_adding(self) -> str:
        """Return the path of the list that shows a new task, at the field for the next one."""
        status = "pending" if self.status_filter == "pending" else None
        return f"/tasks{_list_query(status, None)}#new-title"

    async def render_invalid(self, sent: dict[str, str], key: str | None, error: Invalid) -> None:
        """Render the list with what was typed into a form of it, and what is wrong with that."""
        variant, values = await self._load_own_list()
        values["key"] = key or values["key"]
        self.render_form("tasks.html", error, **variant, **values, values=sent)

    async def _load_own_list(
        self,
    ) -> tuple[dict[str, Hashable], dict[str, str | HtmlChunks | None]]:
        """Load the part of the list that the address names; one that makes no sense is an error."""
        return await self.load_list(read_status_filter(self.query("status")), self.query("after"))


class SeveralTasksPage(TaskListPage):
    """/tasks/several: a form of the list that adds a task for each line."""

    draft_fields = ("titles", "key")

    async def get(self) -> None:
        """Redirect to the list, which has the form."""
        self.redirect_to("/tasks")

    async def post(self) -> None:
        """Add all tasks, or none."""
        sent = self.read_form("titles", "key")
        key = read_idempotency_key(sent.pop("key", None) or None)
        try:
            number = await create_tasks(
                self.services, self.session, sent.get("titles", ""), key=key
            )
        except Invalid as error:
            await self.render_invalid(sent | self.read_form("version"), key, error)
        else:
            self.redirect_to(self.path_after_adding, f"added-several.{number}")


def _list_query(status: str | None, after: str | None) -> str:
    """Return the query of a part of the list; empty for the beginning of the whole list."""
    # Neither a status nor a cursor has characters to be quoted.
    named = [f"{name}={value}" for name, value in (("status", status), ("after", after)) if value]
    return f"?{'&'.join(named)}" if named else ""


def _format_summary(summary: ListSummary, language: Language) -> dict[str, str]:
    """Return whose list it is and its numbers of tasks, which are counted up to a limit."""

    def count(number: int) -> str:
        is_more = number >= COUNT_LIMIT
        return language.number(COUNT_LIMIT - 1) + "+" if is_more else language.number(number)

    return {
        "email": summary.email,
        "total": count(summary.pending + summary.completed),
        "pending": count(summary.pending),
        "completed": count(summary.completed),
    }


class TaskEditPage(TaskPageHandler):
    """/tasks/:id/edit. The form names the version it began with, so that no change is lost."""

    draft_fields = ("title", "description", "version")

    async def get(self, task_id: str) -> None:
        task = await require_task(self.services, self.session, task_id)
        values = {
            "title": task.title,
            "description": task.description,
            "version": task.updated_at,
        }
        self._render_form(task, values, {})

    async def post(self, task_id: str) -> None:
        """Save the task, or render the form with what is wrong or with a conflicting change."""
        sent = self.read_form("title", "description", "version", "take", "was")
        if sent.pop("take", None):
            task = await require_task(self.services, self.session, task_id)
            self.redirect_to(self.path_of_task(task.id))
            return
        version = sent.pop("version", "")
        title_before = sent.pop("was", None)
        versions = [version] if is_version(version) else None
        task = await require_task(self.services, self.session, task_id)
        unchanged = _as_sent_back(task)
        is_as_shown = not version and title_before == _normalize_line_ends(task.title)
        if not version and title_before is not None:
            # The list knows no version: a title that is edited there must be what was shown.
            versions = [task.updated_at] if is_as_shown else []
        changes = {name: text for name, text in sent.items() if text != unchanged.get(name)}
        try:
            await update_task(self.services, self.session, task_id, changes, versions=versions)
        except Invalid as error:
            values = {**unchanged, **sent, "version": version or task.updated_at}
            self._render_form(task, values, error.errors, status=error.status)
        except VersionConflict:
            if is_as_shown:  # until now: a tick, perhaps, was faster, and the title is as before
                await self.post(task_id)
            else:
                await self._render_conflict(task_id, sent)
        else:
            self._redirect_to_task(task)

    async def _render_conflict(self, task_id: str, sent: dict[str, str]) -> None:
        """Render both texts, unless they are the same: then the form was sent twice."""
        task = await require_task(self.services, self.session, task_id)
        saved = _as_sent_back(task)
        if saved == {**saved, **sent, "title": sent.get("title", "").strip()}:
            self._redirect_to_task(task)
            return
        values = {**saved, **sent, "version": task.updated_at}
        differences = {
            name: compare_texts(text, sent[name])
            for name, text in saved.items()
            if text != sent.get(name, text)
        }
        self._render_form(task, values, {}, differences=differences, status=409)

    def _redirect_to_task(self, task: Task) -> None:
        self.redirect_to(self.path_of_task(task.id), "saved")

    def _render_form(
        self,
        task: Task,
        values: dict[str, str],
        errors: dict[str, str],
        *,
        differences: Mapping[str, Difference] | None = None,
        status: int = 200,
    ) -> None:
        self.render_page(
            "edit.html",
            status,
            task=task,
            list_query=self.list_query,
            values=values,
            errors=errors,
            differences=differences or {},
        )


def _as_sent_back(task: Task) -> dict[str, str]:
    """Return a task's texts as a browser sends them when nothing was typed.

    It drops the line ends of a one-line field, and normalizes those of a textarea.
    """
    return {
        "title": re.sub(r"[\r\n]", "", task.title),
        "description": _normalize_line_ends(task.description),
    }


def _normalize_line_ends(text: str) -> str:
    return re.sub(r"\r\n?", "\n", text)


class TaskStatusPage(TaskPageHandler):
    """/tasks/:id/status: the checkbox of the list."""

    resent_fields = ("status",)

    async def post(self, task_id: str) -> None:
        """Complete or reopen a task, and lead back to it or, if it leaves the list, beside it."""
        sent = self.read_form("status")
        # In the list of all tasks, completed ones are folded away.
        stays = (self.status_filter or "pending") == sent.get("status")
        left = "pending" if sent.get("status") == "completed" else "completed"
        path_beside = None if stays else await self.find_path_beside(task_id, status=left)
        task = await set_task_status(self.services, self.session, task_id, sent)
        done = "completed" if task.status == "completed" else "reopened"
        self.redirect_to(path_beside or self.path_of_task(task.id), f"{done}.{task.id}")


class TaskDeletePage(TaskPageHandler):
    """/tasks/:id/delete."""

    resent_fields = ("asked",)

    async def get(self, task_id: str) -> None:
        task = await require_task(self.services, self.session, task_id)
        asked = sign_deleted(self.services, self.session, [task])
        self.render_page("delete.html", task=task, asked=asked, list_query=self.list_query)

    async def post(self, task_id: str) -> None:
        """Delete the task, and lead to the one beside it."""
        # The task as it was asked about: a form that is sent twice can be undone by it.
        deleted = self.read_form("asked").get("asked", "")
        path = f"/tasks{self.list_query}"
        try:
            path = await self.find_path_beside(task_id)
            task = await delete_task(self.services, self.session, task_id)
            deleted = sign_deleted(self.services, self.session, [task])
        except TaskNotFound:
            if not self.is_valid_undo_token(deleted):
                raise
        await self.show_deletion(path, f"deleted..{deleted}")


class CompletedDeletePage(TaskPageHandler):
    """/tasks/completed/delete."""

    resent_fields = ("until", "number", "asked")

    async def get(self) -> None:
        completed = await find_completed(self.services, self.session)
        self.render_page(
            "delete_completed.html",
            completed=completed,
            asked=await sign_completed(self.services, self.session, completed),
            count_limit=COUNT_LIMIT,
            list_query=self.list_query,
        )

    async def post(self) -> None:
        """Delete the tasks that were completed when the confirmation was rendered."""
        sent = self.read_form("until", "number", "asked")
        deleted = await delete_completed_tasks(self.services, self.session, sent.get("until", ""))
        if not deleted.number:  # the form was sent before
            asked = sent.get("asked", "")
            if self.is_valid_undo_token(asked):
                deleted = await find_deleted(self.services, self.session, asked)
            else:
                deleted = DeletedTasks(read_number(sent.get("number", "")), [])
        flash_message = f"deleted-completed.{deleted.number}"
        if deleted.tasks:
            flash_message += f".{sign_deleted(self.services, self.session, deleted.tasks)}"
        await self.show_deletion("/tasks", flash_message)


class RestorePage(TaskPageHandler):
    """/tasks/restore: the form of the flash message that undoes a deletion."""

    resent_fields = ("deleted",)

    async def get(self) -> None:
        self.redirect_to("/tasks")

    async def post(self) -> None:
        """Restore the deleted tasks, and lead to them."""
        text = self.read_form("deleted").get("deleted", "")
        ids = await restore_tasks(self.services, self.session, text)
        if len(ids) == 1:
            self.redirect_to(self.path_of_task(ids[0]), "restored")
        else:
            self.redirect_to(f"/tasks{self.list_query}", f"restored-several.{len(ids)}")
