"""Read, create, update and delete tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, NamedTuple

import msgspec

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    AccountFull,
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
from taskapp.forms.parameters import DEFAULT_PAGE_SIZE, is_version, read_id
from taskapp.forms.pasted_titles import read_titles
from taskapp.forms.tasks import NEW_TASK, STATUS_CHANGE, TASK_CHANGES
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_session, require_writer
from taskapp.operations.portions import delete_in_portions
from taskapp.queries import bulk_tasks, list_etags
from taskapp.queries import tasks as queries
from taskapp.queries.bulk_tasks import CompletedSummary
from taskapp.queries.tasks import ListedTask, ListSummary, Quota, Selection, Task
from taskapp.services import Services

# Deleted tasks travel in a page and come back in a form of at most 256 KB (ADR 0047).
MAX_UNDO_TASKS = 100
MAX_UNDO_SIZE = 64 * 1024  # bytes of their titles and descriptions
_SHAPE_OF_TASK = "2"  # changes when tasks in a list get another field: part of each list's ETag
_PAGE_LIMIT = DEFAULT_PAGE_SIZE + 1  # one more tells that there is another page
MAX_DELETION_SECONDS = 20.0  # a proxy waits 30 for the response (deploy/nginx/proxy.conf)


@dataclass(frozen=True)
class TaskSlice:
    """A page of a list, and the cursor of the next one, or None on the last."""

    tasks: Sequence[ListedTask]
    next_cursor: str | None
    completed: Sequence[ListedTask] = ()  # those folded below the pending ones of all tasks


class DeletedTasks(NamedTuple):
    """How many tasks were deleted, and the tasks, unless they are too many to be restored."""

    number: int
    tasks: Sequence[Task]


async def list_tasks(
    services: Services,
    session: SessionToken,
    *,
    status: str | None,
    after: str | None,
    limit: int,
    known: Sequence[str] = (),
) -> tuple[str, TaskSlice | None]:
    """Return the ETag of a list and its tasks, newest first; None if the ETag is a known one.

    The ETag changes with everything in the response, the cursor included. `after` is the cursor of
    the page before.

    Raises:
        BadRequest: we did not sign the cursor.
        NotAuthenticated: the session has ended.
    """
    selection = Selection(status, _read_cursor(services, after), limit + 1)
    seed = f"{_SHAPE_OF_TASK} {services.signer.cursor_fingerprint} {limit} "
    known_etags = [text for text in known if list_etags.is_list_etag(text)]
    if not known_etags:
        rows = await queries.list_tasks(services.database, session, selection)
        if not rows:
            await require_session(services, session)
        return list_etags.make_list_etag(seed, rows), _page(services, rows, limit)
    etag, rows = await list_etags.list_tasks_unless_known(
        services.database, session, selection, seed=seed, known=known_etags
    )
    if etag is None:
        raise NotAuthenticated
    return etag, None if etag in known_etags else _page(services, rows, limit)


async def list_tasks_with_summary(
    services: Services, session: SessionToken, *, status: str | None, after: str | None
) -> tuple[TaskSlice, ListSummary]:
    """Return what a page of the list shows, with the summary of the list, in one round trip.

    Completed tasks begin with the latest completion. The pages of all tasks have the pending ones,
    and the first of them as many completed ones as they leave room for, or MIN_FOLDED (ADR 0050).

    Raises:
        BadRequest: we did not sign the cursor.
        NotAuthenticated: the session has ended.
    """
    selection = _select_page(services, status, after)
    rows, summary = await queries.list_tasks_with_summary(services.database, session, selection)
    if summary is None:
        raise NotAuthenticated
    if status == "completed":
        return _page(services, rows, DEFAULT_PAGE_SIZE, by_completion=True), summary
    pending = [task for task in rows if task.status == "pending"]
    room = max(DEFAULT_PAGE_SIZE - len(pending), queries.MIN_FOLDED)
    completed = rows[len(pending) :][:room]
    page = _page(services, pending, DEFAULT_PAGE_SIZE - len(completed))
    return replace(page, completed=completed), summary


async def find_neighbor(
    services: Services,
    session: SessionToken,
    task_id: str,
    *,
    status: str | None,
    after: str | None,
) -> str | None:
    """Return the id of the task after another on a page of a list, or before it if it is the last.

    It has the same status: completed tasks are apart from pending ones.

    None if there is no other task on the page, or if the task is not there.

    Raises:
        TaskNotFound: no task has this id.
        BadRequest: we did not sign the cursor.
    """
    clean_id = await _require_id(services, session, task_id)
    selection = _select_page(services, status, after)
    rows, _ = await queries.list_tasks_with_summary(services.database, session, selection)
    status_of = {task.id: task.status for task in rows}
    if clean_id not in status_of:
        return None
    ids = [task.id for task in rows if task.status == status_of[clean_id]]
    place = ids.index(clean_id)
    return next(iter([*ids[place + 1 :], *ids[:place][-1:]]), None)


async def require_task(services: Services, session: SessionToken, task_id: str) -> Task:
    """Return a task.

    Raises:
        NotAuthenticated: the session has ended.
        TaskNotFound: no task has this id.
        Forbidden: the task belongs to another user.
    """
    clean_id = await _require_id(services, session, task_id)
    task = await queries.find_task(services.database, session, clean_id)
    if task is None:
        raise await _explain_refusal(services, session, clean_id, is_change=False)
    return task


async def create_task(
    services: Services, session: SessionToken, sent: Mapping[str, Any], *, key: str | None = None
) -> Task:
    """Create a task, or return the one that was created with this idempotency key, as it is now.

    Raises:
        AccountFull: the quota does not allow it.
        Invalid: a field is not valid.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: the token may only read.
    """
    fields = NEW_TASK.read(sent)
    task = await queries.insert_task(
        services.database,
        session,
        title=fields["title"],
        description=fields.get("description", ""),
        status=fields.get("status", "pending"),
        key=key,
        quota=_quota(services),
    )
    if task is None:
        characters = len(fields["title"]) + len(fields.get("description", ""))
        return await _find_existing(services, session, key, characters=characters)
    _record(services, session, "created", task.id)
    return task


async def create_tasks(
    services: Services, session: SessionToken, text: str, *, key: str | None = None
) -> int:
    """Create a task for each line of a text, the first line on top, and return their number.

    It includes tasks that were created before with this idempotency key and the same lines.

    Raises:
        AccountFull: the quota does not allow all; no task is created.
        Invalid: a line is not valid, or there are too many; no task is created.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: the token may only read.
    """
    titles = read_titles(text)
    keys = [key and key_of_text(key, f"{index} {title}") for index, title in enumerate(titles)]
    count = await bulk_tasks.insert_tasks(
        services.database, session, titles, keys=keys, quota=_quota(services)
    )
    if count:
        _record_several(services, session, "created", count)
    else:
        await require_writer(services, session)
        first = keys[0] and await queries.find_task_by_key(services.database, session, keys[0])
        if not first:
            await _require_quota(services, session, len(titles), sum(map(len, titles)))
    return len(titles)


async def update_task(
    services: Services,
    session: SessionToken,
    task_id: str,
    sent: Mapping[str, Any],
    *,
    versions: list[str] | None = None,
) -> Task:
    """Update the fields that were sent, if the task has one of the versions.

    Raises:
        AccountFull: the quota allows no longer texts.
        Invalid: a field is not valid.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: the token may only read.
        TaskNotFound: no task has this id.
        Forbidden: the task belongs to another user.
        VersionConflict: the task has another version.
    """
    return await _change(services, session, task_id, TASK_CHANGES, sent, versions)


async def set_task_status(
    services: Services, session: SessionToken, task_id: str, sent: Mapping[str, Any]
) -> Task:
    """Complete a task or reopen it, whatever its version.

    Raises: as `update_task`.
    """
    return await _change(services, session, task_id, STATUS_CHANGE, sent, None)


async def delete_task(
    services: Services,
    session: SessionToken,
    task_id: str,
    *,
    versions: list[str] | None = None,
) -> Task:
    """Delete a task, if it has one of the versions, and return it.

    Raises:
        NotAuthenticated: the session has ended.
        ReadOnlyToken: the token may only read.
        TaskNotFound: no task has this id.
        Forbidden: the task belongs to another user.
        VersionConflict: the task has another version.
    """
    clean_id = await _require_id(services, session, task_id)
    task = await queries.delete_task(services.database, session, clean_id, versions=versions)
    if task is None:
        raise await _explain_refusal(services, session, clean_id)
    _record(services, session, "deleted", clean_id)
    return task


async def find_completed(services: Services, session: SessionToken) -> CompletedSummary:
    """Return how many completed tasks there are, and the timestamp up to which they are counted.

    Raises:
        NotAuthenticated: the session has ended.
    """
    completed = await bulk_tasks.find_completed(
        services.database, session, limit=MAX_UNDO_TASKS + 1, max_size=MAX_UNDO_SIZE
    )
    if completed is None:
        raise NotAuthenticated
    return completed


async def sign_completed(
    services: Services, session: SessionToken, completed: CompletedSummary
) -> str:
    """Return the completed tasks as a signed text, as `sign_deleted`; empty if they are many."""
    if completed.until is None or not completed.are_few:
        return ""
    tasks = await bulk_tasks.list_completed_tasks(
        services.database, session, until=completed.until, limit=MAX_UNDO_TASKS
    )
    return sign_deleted(services, session, tasks)


async def delete_completed_tasks(
    services: Services, session: SessionToken, until: str
) -> DeletedTasks:
    """Delete the completed tasks that have not changed since a timestamp.

    It stops after MAX_DELETION_SECONDS; what is left can be deleted by another call.

    Raises:
        BadRequest: `until` is not an RFC 3339 timestamp in UTC.
        NotAuthenticated: the session has ended, perhaps after some tasks were deleted.
        ReadOnlyToken: the token may only read.
    """
    if not is_version(until):
        raise BadRequest(Message("The form is incomplete. Reload the page and try again."))
    few = await bulk_tasks.delete_few_completed_tasks(
        services.database, session, until=until, limit=MAX_UNDO_TASKS + 1, max_size=MAX_UNDO_SIZE
    )
    if few:
        _record_several(services, session, "deleted", len(few))
        return DeletedTasks(len(few), few)
    ids: list[str] = []

    async def delete(limit: int) -> int:
        nonlocal ids
        after = min(ids, default=None)
        ids = await bulk_tasks.delete_completed_tasks(
            services.database, session, until=until, after=after, limit=limit
        )
        if ids:
            _record_several(services, session, "deleted", len(ids))
        return len(ids)

    deletion = await delete_in_portions(delete, seconds=MAX_DELETION_SECONDS)
    if not ids:
        await require_writer(services, session)
    return DeletedTasks(deletion.rows, [])


def sign_deleted(services: Services, session: SessionToken, deleted: Sequence[Task]) -> str:
    """Return deleted tasks as a signed text by which their user can restore them."""
    return services.signer.sign_undo(session.user_id, msgspec.to_builtins(deleted))


async def find_deleted(services: Services, session: SessionToken, text: str) -> DeletedTasks:
    """Return the tasks of a signed text that are deleted by now.

    Raises:
        BadRequest: we did not sign the text for this user, or too long ago.
    """
    tasks = _read_deleted(services, session, text)
    there = await bulk_tasks.list_ids(services.database, session, [task.id for task in tasks])
    deleted = [task for task in tasks if task.id not in there]
    return DeletedTasks(len(deleted), deleted)


async def restore_tasks(services: Services, session: SessionToken, text: str) -> list[str]:
    """Restore deleted tasks as they were, from their signed text, and return their ids.

    A task that is there already stays as it is.

    Raises:
        BadRequest: we did not sign the text for this user, or too long ago.
        NotAuthenticated: the session has ended.
        ReadOnlyToken: the token may only read.
    """
    deleted = _read_deleted(services, session, text)
    restored = await bulk_tasks.insert_deleted_tasks(
        services.database, session, deleted, quota=_quota(services)
    )
    if not restored:
        await require_writer(services, session)
        if await queries.find_task(services.database, session, deleted[0].id) is None:
            characters = _length(*deleted)
            await _require_quota(services, session, len(deleted), characters)
    elif len(deleted) == 1:
        _record(services, session, "restored", deleted[0].id)
    else:
        _record_several(services, session, "restored", len(restored))
    return [task.id for task in deleted]


def _read_deleted(services: Services, session: SessionToken, text: str) -> list[Task]:
    try:
        return msgspec.convert(services.signer.read_undo(session.user_id, text), list[Task])
    except msgspec.ValidationError:  # or signed by a version whose tasks had other fields
        raise BadRequest(Message("This can no longer be undone.")) from None


async def _change(
    services: Services,
    session: SessionToken,
    task_id: str,
    form: Form,
    sent: Mapping[str, Any],
    versions: list[str] | None,
) -> Task:
    clean_id = await _require_id(services, session, task_id)
    fields = form.read(sent)
    max_characters = services.settings.max_characters
    task = await queries.update_task(
        services.database,
        session,
        clean_id,
        versions=versions,
        max_characters=max_characters,
        **fields,
    )
    if task is None:
        raise await _explain_no_update(services, session, clean_id, fields, versions)
    _record(services, session, "updated", clean_id)
    return task


async def _require_id(services: Services, session: SessionToken, task_id: str) -> str:
    """Return the id of a task in its usual form.

    Raises:
        NotAuthenticated: the session has ended, which counts first.
        TaskNotFound: no task can have this id.
    """
    clean_id = read_id(task_id)
    if clean_id is None:
        await require_session(services, session)
        raise TaskNotFound
    return clean_id


def _read_cursor(services: Services, after: str | None) -> str | None:
    if after is None:
        return None
    last_id = services.signer.read_cursor(after)
    if last_id is None:
        raise BadRequest(Message("Invalid cursor."))
    return last_id


def _select_page(services: Services, status: str | None, after: str | None) -> Selection:
    if after is None:
        return Selection(status, None, _PAGE_LIMIT)
    if status != "completed":  # completed tasks are on the first page of all tasks
        return Selection("pending", _read_cursor(services, after), _PAGE_LIMIT)
    last = services.signer.read_completion_cursor(after)
    if last is None:
        raise BadRequest(Message("Invalid cursor."))
    last_id, completed_at = last
    return Selection(status, last_id, _PAGE_LIMIT, completed_at)


def _page(
    services: Services, rows: Sequence[ListedTask], limit: int, *, by_completion: bool = False
) -> TaskSlice:
    """Return a page of at most `limit` rows; one row more means that there is a next page."""
    if len(rows) <= limit:
        return TaskSlice(rows, None)
    last = rows[limit - 1]
    if by_completion:
        completed_at = last.completed_at or "-infinity"
        return TaskSlice(
            rows[:limit], services.signer.sign_completion_cursor(last.id, completed_at)
        )
    return TaskSlice(rows[:limit], services.signer.sign_cursor(last.id))


def key_of_text(key: str, text: str) -> str:
    """Return an idempotency key for a form and its text; an edited text gets another key."""
    return sha256(f"{key} {text}".encode()).hexdigest()


async def _explain_no_update(
    services: Services,
    session: SessionToken,
    task_id: str,
    fields: Mapping[str, str],
    versions: list[str] | None,
) -> Exception:
    error = await _explain_refusal(services, session, task_id)
    if not isinstance(error, VersionConflict):
        return error
    if versions is None:
        return _too_many_characters(services)
    task = await queries.find_task(services.database, session, task_id)
    if task and task.updated_at in versions:
        new = msgspec.structs.replace(task, **fields)
        await _require_quota(services, session, 0, _length(new) - _length(task))
    return error


def _length(*several: Task) -> int:
    """Return the number of characters of tasks, as the account's limit counts them."""
    return sum(len(task.title) + len(task.description) for task in several)


def _quota(services: Services) -> Quota:
    return Quota(services.settings.max_tasks, services.settings.max_characters)


async def _require_quota(
    services: Services, session: SessionToken, number: int, characters: int
) -> None:
    """Check that the quota allows so many more tasks and characters.

    Raises:
        AccountFull: it does not.
    """
    usage = await queries.find_task_usage(services.database, session)
    max_tasks, max_characters = _quota(services)
    if usage is None:
        return
    if max_tasks and number and usage.tasks + number > max_tasks:
        raise AccountFull(
            Message(
                "An account can have at most %(limit)s tasks. Delete some first.", limit=max_tasks
            )
        )
    if max_characters and usage.characters + characters > max_characters:
        raise _too_many_characters(services)


def _too_many_characters(services: Services) -> AccountFull:
    return AccountFull(
        Message(
            "The tasks of an account can have at most %(limit)s characters in all. Shorten or "
            "delete some first.",
            limit=services.settings.max_characters,
        )
    )


async def _find_existing(
    services: Services, session: SessionToken, key: str | None, *, characters: int
) -> Task:
    task = key and await queries.find_task_by_key(services.database, session, key)
    if task:
        return task
    await require_writer(services, session)
    await _require_quota(services, session, 1, characters)
    raise Unavailable  # the task was created and deleted between our two statements


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
        return Forbidden(Message("This task belongs to another user."))
    return VersionConflict()


def _record(services: Services, session: SessionToken, what: str, task_id: str) -> None:
    services.metrics.tasks.labels(what).inc()
    log(f"task.{what}", userId=session.user_id, taskId=task_id)


def _record_several(services: Services, session: SessionToken, what: str, count: int) -> None:
    services.metrics.tasks.labels(what).inc(count)
    log(f"tasks.{what}", userId=session.user_id, count=count)
