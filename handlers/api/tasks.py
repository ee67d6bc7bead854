"""Tasks (docs/design/api.md)."""

from handlers.api.base import ApiHandler
from taskapp.forms.parameters import (
    DEFAULT_PAGE_SIZE,
    read_idempotency_key,
    read_limit,
    read_status_filter,
)
from taskapp.operations.tasks import (
    create_task,
    delete_task,
    list_tasks,
    require_task,
    update_task,
)


class TaskListApi(ApiHandler):
    """/api/tasks."""

    async def get(self) -> None:
        """List tasks, newest first."""
        status = read_status_filter(self.query("status"))
        limit = read_limit(self.query("limit"))
        version, page = await list_tasks(
            self.services,
            self.session,
            status=status,
            after=self.query("after"),
            limit=limit,
            known=self.read_known_versions(),
        )
        if page and page.next_cursor is not None:
            self._link_next(status, limit, page.next_cursor)
        self.write_task_list(version, page)

    async def post(self) -> None:
        """Create a task, or return the one that has the idempotency key."""
        key = read_idempotency_key(self.request.headers.get("Idempotency-Key"))
        task = await create_task(self.services, self.session, self.read_json(), key=key)
        self.set_header("Location", self.application.path(f"/api/tasks/{task.id}"))
        self.write_task(task, 201)

    def _link_next(self, status: str | None, limit: int, cursor: str) -> None:
        """Set the Link header to the next page (RFC 8288)."""
        # No value needs quoting: status is one of two words, and a cursor is URL-safe.
        only = f"status={status}&" if status else ""
        many = f"limit={limit}&" if limit != DEFAULT_PAGE_SIZE else ""
        path = self.application.path("/api/tasks")
        self.set_header("Link", f'<{path}?{only}{many}after={cursor}>; rel="next"')


class TaskApi(ApiHandler):
    """/api/tasks/:id."""

    async def get(self, task_id: str) -> None:
        self.write_task(await require_task(self.services, self.session, task_id))

    async def put(self, task_id: str) -> None:
        """Change the fields that are sent."""
        task = await update_task(
            self.services,
            self.session,
            task_id,
            self.read_json(),
            versions=self.read_versions(),
        )
        self.write_task(task)

    async def patch(self, task_id: str) -> None:
        await self.put(task_id)

    async def delete(self, task_id: str) -> None:
        await delete_task(self.services, self.session, task_id, versions=self.read_versions())
        self.write_json({"message": "Task deleted successfully"})
