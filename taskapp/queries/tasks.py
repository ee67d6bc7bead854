"""Statements on tasks, except bulk ones, and the expressions that both use."""

from typing import Any, NamedTuple

import msgspec
from sqlalchemy import (
    ARRAY,
    BigInteger,
    DateTime,
    Text,
    Uuid,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal_column,
    null,
    or_,
    select,
    text,
    tuple_,
    union_all,
    update,
)
from sqlalchemy.dialects.postgresql import array, insert
from uuid_utils import uuid7

from schema.tables import tasks, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.pool import Row
from taskapp.db.statements import Statement
from taskapp.forms.parameters import DEFAULT_PAGE_SIZE
from taskapp.queries.portions import row_limit
from taskapp.queries.sessions import (
    counted_owner,
    locked_writable_user_id,
    owner_characters,
    owner_within_quota,
    session_email,
    session_user_id,
    writable_session_user_id,
)

_MAX_ID = text("'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid")  # greater than any task's id
COUNT_LIMIT = 10_000  # counting stops here, so that a page costs the same with a million tasks
MIN_FOLDED = 5  # completed tasks on a page, however many are pending


class ListedTask(msgspec.Struct, frozen=True, rename="camel", gc=False):
    """The part of a task that a list page shows; timestamps are RFC 3339 in UTC.

    `completed_at` is None for a pending task, and for one that was completed before it was stored.
    """

    id: str
    title: str
    description: str
    status: str
    created_at: str
    completed_at: str | None


class Task(ListedTask, frozen=True, gc=False):
    """A task, as the API returns it.

    `updated_at` grows with every change, by at least a microsecond, so it is also the version of
    the task.
    """

    updated_at: str


class ListSummary(NamedTuple):
    """The user's email address and the number of tasks by status, each up to COUNT_LIMIT."""

    email: str
    pending: int
    completed: int


class Selection(NamedTuple):
    """The tasks that a list has: of one status or all, after the task with the id `after`.

    In an order by completion, `completed_before` is the time at which that task was completed.
    """

    status: str | None
    after: str | None
    limit: int
    completed_before: str | None = None

    async def fetch(
        self,
        database: Database,
        session: SessionToken,
        statements: tuple[Statement, Statement],
        **parameters: Any,
    ) -> list[Row]:
        """Run the first statement for all tasks, the second for those of one status."""
        of_all, of_status = statements
        return await database.fetch_all(
            of_status if self.status else of_all,
            session=session.secret_hash,
            **self._asdict(),
            **parameters,
        )


class Quota(NamedTuple):
    """How many tasks an account may have, and how many characters in them; 0 is no limit."""

    max_tasks: int
    max_characters: int


UNLIMITED = Quota(0, 0)


class TaskUsage(NamedTuple):
    """How many tasks a user has, and how many characters are in them."""

    tasks: int
    characters: int


class TaskAccess(NamedTuple):
    """The users of a session and of a task, or None, and whether the session may write."""

    session_user: str | None
    task_owner: str | None
    may_write: bool


def is_of_user(user_id: Any) -> Any:
    """Return the condition on the user of a list.

    It is "= ANY(ARRAY[user_id])". With "= user_id ORDER BY id" and few users, PostgreSQL walks the
    tasks of all users in the order of the primary key. With "ANY(ARRAY(SELECT ...))", it searches
    all partitions of a table that is partitioned by user.
    """
    return tasks.c.user_id == func.any(array([user_id]))


is_owned = is_of_user(session_user_id)
is_owned_writable = is_of_user(locked_writable_user_id)
newest_first = (tasks.c.user_id.desc(), tasks.c.id.desc())
order_of_status = (tasks.c.user_id.desc(), tasks.c.status.desc(), tasks.c.id.desc())


_CONSTANTS = {"pending": text("'pending'"), "completed": text("'completed'")}


def is_of_status(status: Any) -> Any:
    """Return the condition on a status; with `order_of_status`, only the index by status serves it.

    With "=", if nearly all tasks have this status, PostgreSQL uses the index without it, and reads
    all tasks of the user that have the other status. A status that is known at import is a constant
    rather than a parameter, so that a generic plan of a prepared statement knows it too.
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


columns = [tasks.c[name] for name in Task.__struct_fields__]
_after = bindparam("after", type_=Uuid(as_uuid=False))
after_cursor = tasks.c.id < func.coalesce(_after, _MAX_ID)
_is_own_task = (tasks.c.user_id == session_user_id, tasks.c.id == bindparam("task"))
_versions = bindparam("versions", type_=ARRAY(DateTime(timezone=True)))
_unchanged = or_(_versions.is_(None), tasks.c.updated_at == func.any(_versions))

_rows = select(*columns).where(is_owned, after_cursor).limit(row_limit)
list_of_all = _rows.order_by(*newest_first)
list_of_status = _rows.where(is_of_status(bindparam("status"))).order_by(*order_of_status)
_LIST = Statement("tasks.list", list_of_all)
_LIST_STATUS = Statement("tasks.list_status", list_of_status, prepare=False)
# Packed into one column because it repeats on every row. Without a session the email part is
# missing.
_summary = func.concat_ws(text("' '"), _count("pending"), _count("completed"), session_email)
_listed = [tasks.c[name] for name in ListedTask.__struct_fields__]
# A constant, so that a generic plan knows it too and reads by the index with the order.
_page_limit: Any = literal_column(str(DEFAULT_PAGE_SIZE + 1))
# Those whose completion is not known come last. The index by completion has this expression, and
# the status that it asks for.
_completion = func.coalesce(tasks.c.completed_at, text("'-infinity'::timestamptz"))
_completed_before = bindparam("completed_before", type_=DateTime(timezone=True))
_latest_completed = (
    select(*_listed)
    .where(is_owned, tasks.c.status == text("'completed'"))
    .order_by(tasks.c.user_id.desc(), _completion.desc(), tasks.c.id.desc())
    .limit(_page_limit)
)
_next_completed = _latest_completed.where(
    tuple_(_completion, tasks.c.id)
    < tuple_(
        func.coalesce(_completed_before, text("'infinity'::timestamptz")),
        func.coalesce(_after, _MAX_ID),
    )
)
_newest_pending = (
    select(*_listed)
    .where(is_owned, after_cursor, is_of_status("pending"))
    .order_by(*order_of_status)
    .limit(_page_limit)
)
# PostgreSQL appends them in this order: completed ones fill the room that pending ones leave, and
# have some in any case. A parallel plan, which would not, costs more than so few rows.
_pending_and_completed = (
    union_all(select(_newest_pending.subquery()), select(_latest_completed.subquery()))
    .limit(literal_column(str(DEFAULT_PAGE_SIZE + 1 + MIN_FOLDED)))
    .subquery()
)
_LIST_WITH_SUMMARY = Statement("tasks.list_with_summary", select(_pending_and_completed, _summary))
_LIST_PENDING_WITH_SUMMARY = Statement(
    "tasks.list_pending_with_summary", _newest_pending.add_columns(_summary)
)
_LIST_COMPLETED_WITH_SUMMARY = Statement(
    "tasks.list_completed_with_summary", _next_completed.add_columns(_summary)
)
_PAGES: dict[str | None, Statement] = {
    None: _LIST_WITH_SUMMARY,
    "pending": _LIST_PENDING_WITH_SUMMARY,
    "completed": _LIST_COMPLETED_WITH_SUMMARY,
}
_SUMMARY = Statement("tasks.summary", select(_summary))
_FIND = Statement("tasks.find", select(*columns).where(*_is_own_task))
_FIND_BY_KEY = Statement(
    "tasks.find_by_key",
    select(*columns).where(
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
# A second INSERT with the same idempotency key does nothing.
idempotency_conflict: dict[str, Any] = {
    "index_elements": ["user_id", "idempotency_key"],
    "index_where": tasks.c.idempotency_key.is_not(None),
}
_new_status = bindparam("new_status", type_=Text)
_new_texts = {name: bindparam(f"new_{name}", type_=Text) for name in ("title", "description")}
new_characters = bindparam("new_characters", type_=BigInteger)


_NEW_COLUMNS = ["user_id", "id", "title", "description", "status", "completed_at"]


def _new_values(owner: Any) -> list[Any]:
    return [
        owner.c.user_id,
        bindparam("task", type_=Uuid(as_uuid=False)),
        *_new_texts.values(),
        _new_status,
        case((_new_status == text("'completed'"), func.now())),
    ]


_INSERT = Statement(
    "tasks.insert",
    insert(tasks)
    .from_select(_NEW_COLUMNS, select(*_new_values(counted_owner(new_characters))))
    .returning(*columns),
)
_INSERT_ONCE = Statement(
    "tasks.insert_once",
    insert(tasks)
    .from_select(
        [*_NEW_COLUMNS, "idempotency_key"],
        select(
            *_new_values(owner_within_quota(text("1"), new_characters)),
            bindparam("key", type_=Text),
        ),
    )
    .on_conflict_do_nothing(**idempotency_conflict)
    .returning(*columns),
)
# Greater than before even if the clock was set back, because it is also the version.
_change_time = func.greatest(func.now(), tasks.c.updated_at + text("interval '1 microsecond'"))
_status = func.coalesce(_new_status, tasks.c.status)


def _growth(name: str) -> Any:
    new = _new_texts[name]
    grown = func.char_length(new) - func.char_length(tasks.c[name])
    return case((new.is_(None), text("0")), else_=grown)


_all_growth = _growth("title") + _growth("description")
_max_characters = bindparam("max_characters", type_=BigInteger)
_is_within_quota = or_(
    _max_characters == text("0"),
    _all_growth <= text("0"),
    owner_characters + _all_growth <= _max_characters,
)
# A change of the status alone counts nothing, and waits for no other change of the user's tasks.
_owner_of_update = case(
    (and_(*(new.is_(None) for new in _new_texts.values())), writable_session_user_id),
    else_=locked_writable_user_id,
)
_UPDATE = Statement(
    "tasks.update",
    update(tasks)
    .where(
        tasks.c.user_id == _owner_of_update,
        tasks.c.id == bindparam("task"),
        _unchanged,
        _is_within_quota,
    )
    .values(
        {tasks.c[name]: func.coalesce(new, tasks.c[name]) for name, new in _new_texts.items()}
        | {
            tasks.c.status: _status,
            tasks.c.completed_at: case(
                (_status != text("'completed'"), null()),
                (tasks.c.status == text("'completed'"), tasks.c.completed_at),
                else_=_change_time,
            ),
            tasks.c.updated_at: _change_time,
        }
    )
    .returning(*columns),
)
_DELETE = Statement(
    "tasks.delete",
    delete(tasks)
    .where(tasks.c.user_id == locked_writable_user_id, tasks.c.id == bindparam("task"), _unchanged)
    .returning(*columns),
)
_FIND_USAGE = Statement(
    "users.find_task_usage",
    select(users.c.task_count, users.c.task_characters).where(users.c.id == session_user_id),
)
_ESTIMATE = Statement(
    "tasks.estimate",
    select(text("greatest(reltuples, 0)::bigint"))
    .select_from(text("pg_class"))
    .where(text("oid = 'tasks'::regclass")),
)


async def list_tasks(database: Database, session: SessionToken, selection: Selection) -> list[Task]:
    """List tasks, newest first."""
    rows = await selection.fetch(database, session, (_LIST, _LIST_STATUS))
    return [Task(*row) for row in rows]


async def list_tasks_with_summary(
    database: Database, session: SessionToken, selection: Selection
) -> tuple[list[ListedTask], ListSummary | None]:
    """List the tasks of a page, and return the summary in the same round trip.

    The newest pending tasks come before the completed ones, which begin with the latest completion.
    The summary is None without a session.
    """
    statement = _PAGES[selection.status]
    rows = await database.fetch_all(statement, session=session.secret_hash, **selection._asdict())
    if rows:
        return [ListedTask(*row[:-1]) for row in rows], _read_summary(rows[0][-1])
    return [], await find_summary(database, session)


async def find_summary(database: Database, session: SessionToken) -> ListSummary | None:
    """Return the summary of the user's list, or None without a session."""
    return _read_summary(await database.fetch_value(_SUMMARY, session=session.secret_hash))


def _read_summary(text: str) -> ListSummary | None:
    pending, completed, *email = text.split(" ", 2)
    return ListSummary(email[0], int(pending), int(completed)) if email else None


async def find_task(database: Database, session: SessionToken, task_id: str) -> Task | None:
    """Return a task of the user, or None."""
    row = await database.fetch_one(_FIND, session=session.secret_hash, task=task_id)
    return Task(*row) if row else None


async def find_task_by_key(database: Database, session: SessionToken, key: str) -> Task | None:
    """Return the user's task that was created with an idempotency key, or None."""
    row = await database.fetch_one(_FIND_BY_KEY, session=session.secret_hash, key=key)
    return Task(*row) if row else None


async def find_access(database: Database, session: SessionToken, task_id: str) -> TaskAccess:
    """Return why a statement had no rows: the users of the session and of the task."""
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
    quota: Quota = UNLIMITED,
) -> Task | None:
    """Insert a task; return None without a session or quota, or if the key was used before."""
    row = await database.fetch_one(
        _INSERT_ONCE if key else _INSERT,
        session=session.secret_hash,
        task=str(uuid7()),
        new_title=title,
        new_description=description,
        new_status=status,
        new_characters=len(title) + len(description),
        **({"key": key} if key else {}),
        **quota._asdict(),
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
    max_characters: int = 0,
) -> Task | None:
    """Update fields that are not None, if the task is the user's and has one of the versions.

    Return None too if the user's tasks would have more than `max_characters`, unless that is 0.
    """
    row = await database.fetch_one(
        _UPDATE,
        session=session.secret_hash,
        task=task_id,
        new_title=title,
        new_description=description,
        new_status=status,
        versions=versions,
        max_characters=max_characters,
    )
    return Task(*row) if row else None


async def delete_task(
    database: Database, session: SessionToken, task_id: str, *, versions: list[str] | None = None
) -> Task | None:
    """Delete a task, if it is the user's and has one of the versions, and return it."""
    row = await database.fetch_one(
        _DELETE, session=session.secret_hash, task=task_id, versions=versions
    )
    return Task(*row) if row else None


async def find_task_usage(database: Database, session: SessionToken) -> TaskUsage | None:
    """Return how much the tasks of the user take, or None without a session."""
    row = await database.fetch_one(_FIND_USAGE, session=session.secret_hash)
    return TaskUsage(*row) if row else None


async def estimate_tasks(database: Database) -> int:
    """Return the planner's estimate of the number of tasks; counting them would take long."""
    return int(await database.fetch_value(_ESTIMATE) or 0)
