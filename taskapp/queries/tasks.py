"""Every statement on tasks, but those on many at once, and the expressions that both need."""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Text,
    Uuid,
    bindparam,
    delete,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import tasks
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.sessions import (
    owner_row,
    session_email,
    session_user_id,
    writable_session_user_id,
)

_LAST_OF_ALL = text("'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid")  # no task has it
COUNT_LIMIT = 10_000  # a count stops here, so that a page costs the same with a million tasks


class ListedTask(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """What the page of a list shows of a task; its moment is RFC 3339 in UTC."""

    id: str
    title: str
    description: str
    status: str
    created_at: str


class Task(ListedTask, frozen=True, gc=False):
    """A task, as the database holds it and as the API shows it.

    `updated_at` grows with every change, by a microsecond at least, and so it is the task's
    version as well.
    """

    updated_at: str


class ListSummary(NamedTuple):
    """Whose list it is, and how many tasks of each status are in it, up to COUNT_LIMIT."""

    email: str
    pending: int
    completed: int


class TaskAccess(NamedTuple):
    """Whose session it is, whose task it is (None for none), and whether the session may write."""

    session_user: str | None
    task_owner: str | None
    may_write: bool


# Not "= session_user_id ORDER BY id": with few users PostgreSQL then walks the tasks of all users
# in the order of the primary key. Only the indexes by user have this order.
is_owned = tasks.c.user_id == func.any(func.array(session_user_id))
is_owned_writable = tasks.c.user_id == func.any(func.array(writable_session_user_id))
_order = (tasks.c.user_id.desc(), tasks.c.id.desc())
order_of_status = (tasks.c.user_id.desc(), tasks.c.status.desc(), tasks.c.id.desc())


_CONSTANTS = {"pending": text("'pending'"), "completed": text("'completed'")}


def is_of_status(status: Any) -> Any:
    """Select one status, so that with `order_of_status` only its own index will do.

    With "=" PostgreSQL takes the index without the status if nearly all tasks of all have this one,
    and reads through all that an owner has of the other. A status that is known is no parameter, so
    that a plan which is kept knows it too.
    """
    bound = _CONSTANTS.get(status, status) if isinstance(status, str) else status
    return tasks.c.status.between(bound, bound)


def _count(status: str) -> Any:
    counted = (
        select(tasks.c.id)
        .where(is_owned, is_of_status(status))
        .order_by(*order_of_status)
        .limit(literal_column(str(COUNT_LIMIT)))
        .subquery()
    )
    return select(func.count()).select_from(counted).scalar_subquery().label(status)


_columns = [tasks.c[name] for name in Task.__struct_fields__]
_after = bindparam("after", type_=Uuid(as_uuid=False))
after_cursor = tasks.c.id < func.coalesce(_after, _LAST_OF_ALL)
_is_own_task = (tasks.c.user_id == session_user_id, tasks.c.id == bindparam("task"))
_is_own_writable_task = (
    tasks.c.user_id == writable_session_user_id,
    tasks.c.id == bindparam("task"),
)
_versions = bindparam("versions", type_=ARRAY(DateTime(timezone=True)))
_unchanged = or_(_versions.is_(None), tasks.c.updated_at == func.any(_versions))
row_limit = bindparam("limit", type_=BigInteger)


_rows = select(*_columns).where(is_owned, after_cursor).limit(row_limit)
list_of_all = _rows.order_by(*_order)
list_of_status = _rows.where(is_of_status(bindparam("status"))).order_by(*order_of_status)
_LIST = Statement("tasks.list", list_of_all)
_LIST_STATUS = Statement("tasks.list_status", list_of_status, prepare=False)
# As one text, for it comes with each task of a list; without a session the e-mail is missing.
_overview = func.concat_ws(text("' '"), _count("pending"), _count("completed"), session_email)
_listed = [tasks.c[name] for name in ListedTask.__struct_fields__]
_LIST_WITH_OVERVIEW = Statement(
    "tasks.list_with_overview", list_of_all.with_only_columns(*_listed, _overview)
)
_LIST_STATUS_WITH_OVERVIEW = Statement(
    "tasks.list_status_with_overview",
    list_of_status.with_only_columns(*_listed, _overview),
    prepare=False,
)
_OVERVIEW = Statement("tasks.overview", select(_overview))
_FIND = Statement("tasks.find", select(*_columns).where(*_is_own_task))
_FIND_BY_KEY = Statement(
    "tasks.find_by_key",
    select(*_columns).where(
        tasks.c.user_id == writable_session_user_id, tasks.c.idempotency_key == bindparam("key")
    ),
)
_FIND_ACCESS = Statement(
    "tasks.find_access",
    select(
        session_user_id,
        select(tasks.c.user_id).where(tasks.c.id == bindparam("task")).scalar_subquery(),
        writable_session_user_id.is_not(None),
    ),
)
# What was made with an idempotency key is not made again.
idempotency_conflict: dict[str, Any] = {
    "index_elements": ["user_id", "idempotency_key"],
    "index_where": tasks.c.idempotency_key.is_not(None),
}
_INSERT = Statement(
    "tasks.insert",
    insert(tasks)
    .from_select(
        ["id", "user_id", "title", "description", "status", "idempotency_key"],
        select(
            bindparam("task", type_=Uuid(as_uuid=False)),
            owner_row.c.user_id,
            *(bindparam(f"new_{name}", type_=Text) for name in ("title", "description", "status")),
            bindparam("key", type_=Text),
        ).where(owner_row.c.user_id.is_not(None)),
    )
    .on_conflict_do_nothing(**idempotency_conflict)
    .returning(*_columns),
)
_UPDATE = Statement(
    "tasks.update",
    update(tasks)
    .where(*_is_own_writable_task, _unchanged)
    .values(
        {
            tasks.c[name]: func.coalesce(bindparam(f"new_{name}", type_=Text), tasks.c[name])
            for name in ("title", "description", "status")
        }
        # Later than before even when the clock was set back, for it is the version too.
        | {
            tasks.c.updated_at: func.greatest(
                func.now(), tasks.c.updated_at + text("interval '1 microsecond'")
            )
        }
    )
    .returning(*_columns),
)
_DELETE = Statement(
    "tasks.delete", delete(tasks).where(*_is_own_writable_task, _unchanged).returning(tasks.c.id)
)
_ESTIMATE = Statement(
    "tasks.estimate",
    select(text("greatest(reltuples, 0)::bigint"))
    .select_from(text("pg_class"))
    .where(text("oid = 'tasks'::regclass")),
)


async def list_tasks(
    database: Database, session: SessionToken, *, status: str | None, after: str | None, limit: int
) -> list[Task]:
    """List tasks, newest first, of one status or all, behind the one with the id `after`."""
    rows = await database.fetch_all(
        _LIST_STATUS if status else _LIST,
        session=session.secret_hash,
        status=status,
        after=after,
        limit=limit,
    )
    return [Task(*row) for row in rows]


async def list_tasks_with_overview(
    database: Database, session: SessionToken, *, status: str | None, after: str | None, limit: int
) -> tuple[list[ListedTask], ListSummary | None]:
    """List tasks, and give the overview in the same trip; it is None without a session."""
    rows = await database.fetch_all(
        _LIST_STATUS_WITH_OVERVIEW if status else _LIST_WITH_OVERVIEW,
        session=session.secret_hash,
        status=status,
        after=after,
        limit=limit,
    )
    if rows:
        return [ListedTask(*row[:-1]) for row in rows], _read_overview(rows[0][-1])
    return [], await find_overview(database, session)


async def find_overview(database: Database, session: SessionToken) -> ListSummary | None:
    """Find out whose session it is, and how many tasks they have; None without a session."""
    [[overview]] = await database.fetch_all(_OVERVIEW, session=session.secret_hash)
    return _read_overview(overview)


def _read_overview(text: str) -> ListSummary | None:
    pending, completed, *email = text.split(" ", 2)
    return ListSummary(email[0], int(pending), int(completed)) if email else None


async def find_task(database: Database, session: SessionToken, task_id: str) -> Task | None:
    """Find a task of the owner."""
    row = await database.fetch_one(_FIND, session=session.secret_hash, task=task_id)
    return Task(*row) if row else None


async def find_task_by_key(database: Database, session: SessionToken, key: str) -> Task | None:
    """Find the task of the owner that was made with an idempotency key."""
    row = await database.fetch_one(_FIND_BY_KEY, session=session.secret_hash, key=key)
    return Task(*row) if row else None


async def find_access(database: Database, session: SessionToken, task_id: str) -> TaskAccess:
    """Find out why a statement found nothing: whose session it is, and whose task."""
    row = await database.fetch_one(_FIND_ACCESS, session=session.secret_hash, task=task_id)
    return TaskAccess(*row) if row else TaskAccess(None, None, may_write=False)


async def insert_task(
    database: Database,
    session: SessionToken,
    *,
    title: str,
    description: str,
    status: str,
    key: str | None,
) -> Task | None:
    """Insert a task; None without a session, or when the key has made one before."""
    row = await database.fetch_one(
        _INSERT,
        session=session.secret_hash,
        task=str(uuid7()),
        new_title=title,
        new_description=description,
        new_status=status,
        key=key,
    )
    return Task(*row) if row else None


async def update_task(
    database: Database,
    session: SessionToken,
    task_id: str,
    *,
    title: str | None = None,
    description: str | None = None,
    status: str | None = None,
    versions: list[str] | None = None,
) -> Task | None:
    """Update what is not None, if the task is the owner's and at one of the versions."""
    row = await database.fetch_one(
        _UPDATE,
        session=session.secret_hash,
        task=task_id,
        new_title=title,
        new_description=description,
        new_status=status,
        versions=versions,
    )
    return Task(*row) if row else None


async def delete_task(
    database: Database, session: SessionToken, task_id: str, *, versions: list[str] | None = None
) -> bool:
    """Delete a task, if it is the owner's and at one of the versions."""
    row = await database.fetch_one(
        _DELETE, session=session.secret_hash, task=task_id, versions=versions
    )
    return row is not None


async def estimate_tasks(database: Database) -> int:
    """Give the number of all tasks as the planner knows it; counting them would take long."""
    row = await database.fetch_one(_ESTIMATE)
    return int(row[0]) if row else 0
