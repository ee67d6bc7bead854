"""Read, make, change and delete tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from taskapp.auth.signing import SessionProof
from taskapp.core.errors import (
    BadRequest,
    Forbidden,
    NotSignedIn,
    ReadOnlyToken,
    TaskNotFound,
    Unavailable,
    VersionConflict,
)
from taskapp.core.messages import Message
from taskapp.forms.fields import (
    NEW_TASK,
    STATUS_CHANGE,
    TASK_CHANGES,
    Form,
    is_version,
    read_id,
)
from taskapp.forms.pasted_titles import read_titles
from taskapp.observability.logs import log
from taskapp.operations.session_checks import require_session, require_writer
from taskapp.queries import list_versions
from taskapp.queries import task_batches as batches
from taskapp.queries import tasks as queries
from taskapp.queries.task_batches import Completed
from taskapp.queries.tasks import ListedTask, Overview, Task
from taskapp.services import Services

LARGEST_DELETION = 1_000  # tasks of one statement, so that a slow disk has the time for them


@dataclass(frozen=True)
class TaskPage:
    """Some tasks of a list, and the cursor that continues it, if it goes on."""

    tasks: Sequence[ListedTask]
    next_cursor: str | None


async def list_tasks(
    services: Services,
    owner: SessionProof,
    *,
    status: str | None,
    after: str | None,
    limit: int,
    known: Sequence[str] = (),
) -> tuple[str, TaskPage | None]:
    """List tasks, newest first, from a cursor on; None if the list's version is one of those known.

    The version, which comes with it, changes with whatever the page has, its cursor included.

    Raises:
        BadRequest: we did not make this cursor.
        NotSignedIn: the session has ended.
    """
    place: dict[str, Any] = {
        "status": status,
        "after": _read_cursor(services, after),
        "limit": limit + 1,
    }
    seed = f"{services.tokens.cursor_mark} {limit} "
    possible = [version for version in known if list_versions.is_list_version(version)]
    if not possible:
        rows = await queries.list_tasks(services.database, owner, **place)
        if not rows:
            await require_session(services, owner)
        return list_versions.make_list_version(seed, rows), _page(services, rows, limit)
    version, rows = await list_versions.list_tasks_unless_known(
        services.database, owner, **place, seed=seed, known=possible
    )
    if version is None:
        raise NotSignedIn
    return version, None if version in possible else _page(services, rows, limit)


async def list_tasks_with_overview(
    services: Services, owner: SessionProof, *, status: str | None, after: str | None, limit: int
) -> tuple[TaskPage, Overview]:
    """List tasks as `list_tasks` does, and count them, in one trip to the database.

    Raises:
        BadRequest: we did not make this cursor.
        NotSignedIn: the session has ended.
    """
    rows, overview = await queries.list_tasks_with_overview(
        services.database,
        owner,
        status=status,
        after=_read_cursor(services, after),
        limit=limit + 1,
    )
    if overview is None:
        raise NotSignedIn
    return _page(services, rows, limit), overview


async def require_task(services: Services, owner: SessionProof, task_id: str) -> Task:
    """Give a task.

    Raises:
        NotSignedIn: the session has ended.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
    """
    clean_id = _read_id(task_id)
    task = await queries.find_task(services.database, owner, clean_id)
    if task is None:
        raise await _why_not(services, owner, clean_id, is_change=False)
    return task


async def create_task(
    services: Services, owner: SessionProof, sent: Mapping[str, Any], *, key: str | None = None
) -> Task:
    """Make a task, or give the one that this idempotency key has made before, as it is now.

    Raises:
        Invalid: a field cannot be accepted.
        NotSignedIn: the session has ended.
        ReadOnlyToken: it is a token that may only read.
    """
    fields = NEW_TASK.read(sent)
    task = await queries.insert_task(
        services.database,
        owner,
        title=fields["title"],
        description=fields.get("description", ""),
        status=fields.get("status", "pending"),
        key=key,
    )
    if task is None:
        return await _made_before(services, owner, key)
    _record(services, owner, "created", task.id)
    return task


async def create_tasks(
    services: Services, owner: SessionProof, text: str, *, key: str | None = None
) -> int:
    """Make a task of each line of a text, the first on top of the list, and count them.

    Those that this idempotency key has made of the same lines before are counted too.

    Raises:
        Invalid: a line cannot be accepted, or their number; then no task is made.
        NotSignedIn: the session has ended.
    """
    titles = read_titles(text)
    keys = [key and key_of_text(key, f"{place} {title}") for place, title in enumerate(titles)]
    made = await batches.insert_tasks(services.database, owner, titles, keys=keys)
    if made:
        _record_several(services, owner, "created", made)
    else:
        await require_writer(services, owner)
    return len(titles)


async def update_task(
    services: Services,
    owner: SessionProof,
    task_id: str,
    sent: Mapping[str, Any],
    *,
    versions: list[str] | None = None,
) -> Task:
    """Change the fields that were sent, if the task is at one of the versions.

    Raises:
        Invalid: a field cannot be accepted.
        NotSignedIn: the session has ended.
        ReadOnlyToken: it is a token that may only read.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
        VersionConflict: the task was changed since.
    """
    return await _change(services, owner, task_id, TASK_CHANGES, sent, versions)


async def set_task_status(
    services: Services, owner: SessionProof, task_id: str, sent: Mapping[str, Any]
) -> Task:
    """Complete a task or open it again, whatever version it is at.

    Raises: as `update_task`.
    """
    return await _change(services, owner, task_id, STATUS_CHANGE, sent, None)


async def delete_task(
    services: Services,
    owner: SessionProof,
    task_id: str,
    *,
    versions: list[str] | None = None,
) -> None:
    """Delete a task, if it is at one of the versions.

    Raises:
        NotSignedIn: the session has ended.
        ReadOnlyToken: it is a token that may only read.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
        VersionConflict: the task was changed since.
    """
    clean_id = _read_id(task_id)
    if not await queries.delete_task(services.database, owner, clean_id, versions=versions):
        raise await _why_not(services, owner, clean_id)
    _record(services, owner, "deleted", clean_id)


async def find_completed(services: Services, owner: SessionProof) -> Completed:
    """Find out how many completed tasks there are to delete, and until which moment.

    Raises:
        NotSignedIn: the session has ended.
    """
    completed = await batches.find_completed(services.database, owner)
    if completed is None:
        raise NotSignedIn
    return completed


async def delete_completed_tasks(services: Services, owner: SessionProof, until: str) -> int:
    """Delete the completed tasks that have not changed since a moment, and count them.

    Raises:
        BadRequest: the text is no moment.
        NotSignedIn: the session has ended; some tasks may have been deleted before.
    """
    if not is_version(until):
        raise BadRequest(Message("It is not clear which tasks are meant; open the page again."))
    number, after = 0, None
    while ids := await batches.delete_completed_tasks(
        services.database, owner, until=until, after=after, limit=LARGEST_DELETION
    ):
        _record_several(services, owner, "deleted", len(ids))
        number += len(ids)
        if len(ids) < LARGEST_DELETION:
            return number
        after = min(ids)
    await require_writer(services, owner)
    return number


async def _change(
    services: Services,
    owner: SessionProof,
    task_id: str,
    form: Form,
    sent: Mapping[str, Any],
    versions: list[str] | None,
) -> Task:
    clean_id = _read_id(task_id)
    fields = form.read(sent)
    task = await queries.update_task(
        services.database, owner, clean_id, versions=versions, **fields
    )
    if task is None:
        raise await _why_not(services, owner, clean_id)
    _record(services, owner, "updated", clean_id)
    return task


def _read_id(task_id: str) -> str:
    clean_id = read_id(task_id)
    if clean_id is None:
        raise TaskNotFound
    return clean_id


def _read_cursor(services: Services, after: str | None) -> str | None:
    if after is None:
        return None
    last_id = services.tokens.read_cursor(after)
    if last_id is None:
        raise BadRequest(Message("This is no place in your list; begin without `after`."))
    return last_id


def _page(services: Services, rows: Sequence[ListedTask], limit: int) -> TaskPage:
    """Make a page of the rows that were asked for, and one more if there is one."""
    if len(rows) <= limit:
        return TaskPage(rows, None)
    return TaskPage(rows[:limit], services.tokens.sign_cursor(rows[limit - 1].id))


def key_of_text(key: str, text: str) -> str:
    """Give the idempotency key of a text in a form; an altered one has another, and is not lost."""
    return sha256(f"{key} {text}".encode()).hexdigest()


async def _made_before(services: Services, owner: SessionProof, key: str | None) -> Task:
    task = key and await queries.find_task_by_key(services.database, owner, key)
    if task:
        return task
    await require_writer(services, owner)
    raise Unavailable  # it was made and deleted between our two looks


async def _why_not(
    services: Services, owner: SessionProof, task_id: str, *, is_change: bool = True
) -> Exception:
    access = await queries.find_access(services.database, owner, task_id)
    if access.session_user is None:
        return NotSignedIn()
    if is_change and not access.may_write:
        return ReadOnlyToken()
    if access.task_owner is None:
        return TaskNotFound()
    if access.task_owner != access.session_user:
        log("task.refused", "warning", userId=owner.user_id, taskId=task_id)
        return Forbidden(Message("This task belongs to somebody else."))
    return VersionConflict()


def _record(services: Services, owner: SessionProof, what: str, task_id: str) -> None:
    services.metrics.tasks.labels(what).inc()
    log(f"task.{what}", userId=owner.user_id, taskId=task_id)


def _record_several(services: Services, owner: SessionProof, what: str, count: int) -> None:
    services.metrics.tasks.labels(what).inc(count)
    log(f"tasks.{what}", userId=owner.user_id, count=count)
