"""Read, make, change and delete tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    BadRequest,
    Forbidden,
    NotAuthenticated,
    ReadOnlyToken,
    TaskNotFound,
    Unavailable,
    VersionConflict,
)
from taskapp.core.messages import Message
from taskapp.forms.fields import Form
from taskapp.forms.parameters import is_version, read_id
from taskapp.forms.pasted_titles import read_titles
from taskapp.forms.tasks import NEW_TASK, STATUS_CHANGE, TASK_CHANGES
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_session, require_writer
from taskapp.queries import bulk_tasks as batches
from taskapp.queries import list_etags
from taskapp.queries import tasks as queries
from taskapp.queries.bulk_tasks import CompletedSummary
from taskapp.queries.tasks import ListedTask, ListSummary, Task
from taskapp.services import Services

MAX_DELETION = 1_000  # tasks of one statement, so that a slow disk has the time for them


@dataclass(frozen=True)
class TaskSlice:
    """Some tasks of a list, and the cursor that continues it, if it goes on."""

    tasks: Sequence[ListedTask]
    next_cursor: str | None


async def list_tasks(
    services: Services,
    session: SessionToken,
    *,
    status: str | None,
    after: str | None,
    limit: int,
    known: Sequence[str] = (),
) -> tuple[str, TaskSlice | None]:
    """List tasks, newest first, from a cursor on; None if the list's version is one of those known.

    The version, which comes with it, changes with whatever the page has, its cursor included.

    Raises:
        BadRequest: we did not make this cursor.
        NotAuthenticated: the session has ended.
    """
    place: dict[str, Any] = {
        "status": status,
        "after": _read_cursor(services, after),
        "limit": limit + 1,
    }
    seed = f"{services.signer.cursor_fingerprint} {limit} "
    possible = [version for version in known if list_etags.is_list_version(version)]
    if not possible:
        rows = await queries.list_tasks(services.database, session, **place)
        if not rows:
            await require_session(services, session)
        return list_etags.make_list_version(seed, rows), _page(services, rows, limit)
    version, rows = await list_etags.list_tasks_unless_known(
        services.database, session, **place, seed=seed, known=possible
    )
    if version is None:
        raise NotAuthenticated
    return version, None if version in possible else _page(services, rows, limit)


async def list_tasks_with_overview(
    services: Services, session: SessionToken, *, status: str | None, after: str | None, limit: int
) -> tuple[TaskSlice, ListSummary]:
    """List tasks as `list_tasks` does, and count them, in one trip to the database.

    Raises:
        BadRequest: we did not make this cursor.
        NotAuthenticated: the session has ended.
    """
    rows, overview = await queries.list_tasks_with_overview(
        services.database,
        session,
        status=status,
        after=_read_cursor(services, after),
        limit=limit + 1,
    )
    if overview is None:
        raise NotAuthenticated
    return _page(services, rows, limit), overview


async def require_task(services: Services, session: SessionToken, task_id: str) -> Task:
    """Give a task.

    Raises:
        NotAuthenticated: the session has ended.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
    """
    clean_id = _read_id(task_id)
    task = await queries.find_task(services.database, session, clean_id)
    if task is None:
        raise await _explain_refusal(services, session, clean_id, is_change=False)
    return task


async def create_task(
    services: Services, session: SessionToken, sent: Mapping[str, Any], *, key: str | None = None
) -> Task:
    """Make a task, or give the one that this idempotency key has made before, as it is now.

    Raises:
        Invalid: a field cannot be accepted.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: it is a token that may only read.
    """
    fields = NEW_TASK.read(sent)
    task = await queries.insert_task(
        services.database,
        session,
        title=fields["title"],
        description=fields.get("description", ""),
        status=fields.get("status", "pending"),
        key=key,
    )
    if task is None:
        return await _find_existing(services, session, key)
    _record(services, session, "created", task.id)
    return task


async def create_tasks(
    services: Services, session: SessionToken, text: str, *, key: str | None = None
) -> int:
    """Make a task of each line of a text, the first on top of the list, and count them.

    Those that this idempotency key has made of the same lines before are counted too.

    Raises:
        Invalid: a line cannot be accepted, or their number; then no task is made.
        NotAuthenticated: the session has ended.
    """
    titles = read_titles(text)
    keys = [key and key_of_text(key, f"{place} {title}") for place, title in enumerate(titles)]
    made = await batches.insert_tasks(services.database, session, titles, keys=keys)
    if made:
        _record_several(services, session, "created", made)
    else:
        await require_writer(services, session)
    return len(titles)


async def update_task(
    services: Services,
    session: SessionToken,
    task_id: str,
    sent: Mapping[str, Any],
    *,
    versions: list[str] | None = None,
) -> Task:
    """Change the fields that were sent, if the task is at one of the versions.

    Raises:
        Invalid: a field cannot be accepted.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: it is a token that may only read.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
        VersionConflict: the task was changed since.
    """
    return await _change(services, session, task_id, TASK_CHANGES, sent, versions)


async def set_task_status(
    services: Services, session: SessionToken, task_id: str, sent: Mapping[str, Any]
) -> Task:
    """Complete a task or open it again, whatever version it is at.

    Raises: as `update_task`.
    """
    return await _change(services, session, task_id, STATUS_CHANGE, sent, None)


async def delete_task(
    services: Services,
    session: SessionToken,
    task_id: str,
    *,
    versions: list[str] | None = None,
) -> None:
    """Delete a task, if it is at one of the versions.

    Raises:
        NotAuthenticated: the session has ended.
        ReadOnlyToken: it is a token that may only read.
        TaskNotFound: there is no such task.
        Forbidden: it is somebody else's.
        VersionConflict: the task was changed since.
    """
    clean_id = _read_id(task_id)
    if not await queries.delete_task(services.database, session, clean_id, versions=versions):
        raise await _explain_refusal(services, session, clean_id)
    _record(services, session, "deleted", clean_id)


async def find_completed(services: Services, session: SessionToken) -> CompletedSummary:
    """Find out how many completed tasks there are to delete, and until which moment.

    Raises:
        NotAuthenticated: the session has ended.
    """
    completed = await batches.find_completed(services.database, session)
    if completed is None:
        raise NotAuthenticated
    return completed


async def delete_completed_tasks(services: Services, session: SessionToken, until: str) -> int:
    """Delete the completed tasks that have not changed since a moment, and count them.

    Raises:
        BadRequest: the text is no moment.
        NotAuthenticated: the session has ended; some tasks may have been deleted before.
    """
    if not is_version(until):
        raise BadRequest(Message("It is not clear which tasks are meant; open the page again."))
    number, after = 0, None
    while ids := await batches.delete_completed_tasks(
        services.database, session, until=until, after=after, limit=MAX_DELETION
    ):
        _record_several(services, session, "deleted", len(ids))
        number += len(ids)
        if len(ids) < MAX_DELETION:
            return number
        after = min(ids)
    await require_writer(services, session)
    return number


async def _change(
    services: Services,
    session: SessionToken,
    task_id: str,
    form: Form,
    sent: Mapping[str, Any],
    versions: list[str] | None,
) -> Task:
    clean_id = _read_id(task_id)
    fields = form.read(sent)
    task = await queries.update_task(
        services.database, session, clean_id, versions=versions, **fields
    )
    if task is None:
        raise await _explain_refusal(services, session, clean_id)
    _record(services, session, "updated", clean_id)
    return task


def _read_id(task_id: str) -> str:
    clean_id = read_id(task_id)
    if clean_id is None:
        raise TaskNotFound
    return clean_id


def _read_cursor(services: Services, after: str | None) -> str | None:
    if after is None:
        return None
    last_id = services.signer.read_cursor(after)
    if last_id is None:
        raise BadRequest(Message("This is no place in your list; begin without `after`."))
    return last_id


def _page(services: Services, rows: Sequence[ListedTask], limit: int) -> TaskSlice:
    """Make a page of the rows that were asked for, and one more if there is one."""
    if len(rows) <= limit:
        return TaskSlice(rows, None)
    return TaskSlice(rows[:limit], services.signer.sign_cursor(rows[limit - 1].id))


def key_of_text(key: str, text: str) -> str:
    """Give the idempotency key of a text in a form; an altered one has another, and is not lost."""
    return sha256(f"{key} {text}".encode()).hexdigest()


async def _find_existing(services: Services, session: SessionToken, key: str | None) -> Task:
    task = key and await queries.find_task_by_key(services.database, session, key)
    if task:
        return task
    await require_writer(services, session)
    raise Unavailable  # it was made and deleted between our two looks


async def _explain_refusal(
    services: Services, session: SessionToken, task_id: str, *, is_change: bool = True
) -> Exception:
    access = await queries.find_access(services.database, session, task_id)
    if access.session_user is None:
        return NotAuthenticated()
    if is_change and not access.may_write:
        return ReadOnlyToken()
    if access.task_owner is None:
        return TaskNotFound()
    if access.task_owner != access.session_user:
        log("task.refused", "warning", userId=session.user_id, taskId=task_id)
        return Forbidden(Message("This task belongs to somebody else."))
    return VersionConflict()


def _record(services: Services, session: SessionToken, what: str, task_id: str) -> None:
    services.metrics.tasks.labels(what).inc()
    log(f"task.{what}", userId=session.user_id, taskId=task_id)


def _record_several(services: Services, session: SessionToken, what: str, count: int) -> None:
    services.metrics.tasks.labels(what).inc(count)
    log(f"tasks.{what}", userId=session.user_id, count=count)
