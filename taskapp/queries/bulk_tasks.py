"""Statements on many tasks of one user at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Text,
    Uuid,
    and_,
    bindparam,
    delete,
    func,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import tasks, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.portions import delete_portion, is_chosen, places_of, row_limit
from taskapp.queries.sessions import owner_within_quota, session_user_id
from taskapp.queries.tasks import (
    COUNT_LIMIT,
    UNLIMITED,
    Quota,
    Task,
    after_cursor,
    columns,
    idempotency_conflict,
    is_of_status,
    is_of_user,
    is_owned,
    is_owned_writable,
    new_characters,
    newest_first,
    order_of_status,
)


@dataclass(frozen=True)
class CompletedSummary:
    """The number of completed tasks, up to COUNT_LIMIT, and until when; None if there are none.

    `are_few` tells whether `delete_few_completed_tasks` deletes them.
    """

    count: int
    until: str | None
    are_few: bool


_new = (
    func.unnest(
        bindparam("tasks", type_=ARRAY(Uuid(as_uuid=False))),
        bindparam("new_titles", type_=ARRAY(Text)),
        bindparam("keys", type_=ARRAY(Text)),
    )
    .table_valued("id", "title", "key")
    .render_derived("new")
)
_owner = owner_within_quota(bindparam("number", type_=BigInteger), new_characters)
_INSERT = Statement(
    "tasks.insert_several",
    insert(tasks)
    .from_select(
        ["id", "user_id", "title", "idempotency_key"],
        select(_new.c.id, _owner.c.user_id, _new.c.title, _new.c.key).join_from(
            _new, _owner, text("true")
        ),
    )
    .on_conflict_do_nothing(**idempotency_conflict)
    .returning(tasks.c.id),
)
_is_completed = is_of_status("completed")
_counted = (
    select(tasks.c.id)
    .where(is_owned, _is_completed, tasks.c.updated_at <= func.now())
    .order_by(*order_of_status)
    .limit(COUNT_LIMIT)
    .subquery()
)


def _few_completed(*conditions: Any) -> Any:
    """Return a SELECT of the places and sizes of the first `limit` completed tasks."""
    size = func.octet_length(tasks.c.title) + func.octet_length(tasks.c.description)
    return (
        select(*places_of(tasks), size.label("size"))
        .where(_is_completed, *conditions)
        .order_by(*order_of_status)
        .limit(row_limit)
    )


def _are_few(places: Any) -> Any:
    """Return whether a SELECT of `_few_completed` has them all, and their texts are short."""
    size = func.coalesce(func.sum(places.c.size), 0)
    return (
        select(and_(func.count() < row_limit, size <= bindparam("max_size", type_=BigInteger)))
        .select_from(places)
        .scalar_subquery()
    )


# now() is the upper bound: it is free, and exactly the counted tasks are deleted. Tasks dated in
# the future (the clock was set back) are excluded from both; with their timestamp as the bound,
# tasks that are completed after the count would be deleted too.
_FIND_COMPLETED = Statement(
    "tasks.find_completed",
    select(
        session_user_id,
        select(func.count()).select_from(_counted).scalar_subquery(),
        func.now(),
        _are_few(_few_completed(is_owned, tasks.c.updated_at <= func.now()).subquery()),
    ),
)
# In the order of _DELETE_FEW_COMPLETED, and as many.
_LIST_COMPLETED = Statement(
    "tasks.list_completed",
    select(*columns)
    .where(is_owned, _is_completed, tasks.c.updated_at <= bindparam("until"))
    .order_by(*order_of_status)
    .limit(row_limit),
)
_LIST_IDS = Statement(
    "tasks.list_ids",
    select(tasks.c.id).where(
        is_owned, tasks.c.id == func.any(bindparam("tasks", type_=ARRAY(Uuid(as_uuid=False))))
    ),
)
_few = (
    _few_completed(is_owned_writable, tasks.c.updated_at <= bindparam("until"))
    .with_for_update()
    .cte("few")
)
_DELETE_FEW_COMPLETED = Statement(
    "tasks.delete_few_completed",
    delete(tasks)
    .where(is_chosen(tasks, _few), is_owned_writable, _are_few(_few))
    .returning(*columns),
)
_DELETE_COMPLETED = Statement(
    "tasks.delete_completed",
    delete_portion(
        tasks,
        is_owned_writable,
        _is_completed,
        tasks.c.updated_at <= bindparam("until"),
        after_cursor,
        order=order_of_status,
        within=(is_owned_writable,),
    ).returning(tasks.c.id),
)
_closed_user_id: Any = (
    select(users.c.id)
    .where(users.c.id == bindparam("user"), users.c.email.is_(None))
    .with_for_update(key_share=True)  # before the tasks, as whatever writes them
    .correlate(None)
    .scalar_subquery()
)
_DELETE_OF_CLOSED_USER = Statement(
    "tasks.delete_of_closed_user",
    delete_portion(
        tasks,
        is_of_user(_closed_user_id),
        after_cursor,
        order=newest_first,
        within=(is_of_user(_closed_user_id),),
    ).returning(tasks.c.id),
)


_NAMES = Task.__struct_fields__
_deleted = (
    func.unnest(*(bindparam(f"deleted_{name}", type_=ARRAY(tasks.c[name].type)) for name in _NAMES))
    .table_valued(*_NAMES)
    .render_derived("deleted")
)
# Without their idempotency keys: a form that is sent again is not part of what was deleted.
_RESTORE = Statement(
    "tasks.restore",
    insert(tasks)
    .from_select(
        [*_NAMES, "user_id"],
        select(*_deleted.c, _owner.c.user_id).join_from(_deleted, _owner, text("true")),
    )
    .on_conflict_do_nothing()
    .returning(tasks.c.id),
)


async def insert_tasks(
    database: Database,
    session: SessionToken,
    titles: Sequence[str],
    *,
    keys: Sequence[str | None],
    quota: Quota = UNLIMITED,
) -> int:
    """Insert tasks, newest first, without those whose key was used; return the number inserted.

    All or none are inserted; none without a session, or if the quota does not allow all.
    """
    ids = [str(uuid7()) for _ in titles]
    rows = await database.fetch_all(
        _INSERT,
        session=session.secret_hash,
        tasks=ids[::-1],
        new_titles=list(titles),
        keys=list(keys),
        number=len(titles),
        new_characters=sum(map(len, titles)),
        **quota._asdict(),
    )
    return len(rows)


async def find_completed(
    database: Database, session: SessionToken, *, limit: int, max_size: int
) -> CompletedSummary | None:
    """Return how many tasks are completed now, or None without a session."""
    row = await database.fetch_one(
        _FIND_COMPLETED, session=session.secret_hash, limit=limit, max_size=max_size
    )
    if row is None or row[0] is None:
        return None
    _, count, now, are_few = row
    return CompletedSummary(count, now if count else None, are_few)


async def list_completed_tasks(
    database: Database, session: SessionToken, *, until: str, limit: int
) -> list[Task]:
    """List completed tasks that have not changed since `until`, an RFC 3339 timestamp."""
    rows = await database.fetch_all(
        _LIST_COMPLETED, session=session.secret_hash, until=until, limit=limit
    )
    return [Task(*row) for row in rows]


async def list_ids(database: Database, session: SessionToken, ids: Sequence[str]) -> set[str]:
    """List the ids of which the user has tasks."""
    rows = await database.fetch_all(_LIST_IDS, session=session.secret_hash, tasks=list(ids))
    return {row[0] for row in rows}


async def delete_completed_tasks(
    database: Database, session: SessionToken, *, until: str, after: str | None, limit: int
) -> list[str]:
    """Delete the newest completed tasks after the one with the id `after`, and return their ids.

    Tasks that have changed since `until`, an RFC 3339 timestamp, are not deleted.
    """
    rows = await database.fetch_all(
        _DELETE_COMPLETED, session=session.secret_hash, until=until, after=after, limit=limit
    )
    return [row[0] for row in rows]


async def delete_few_completed_tasks(
    database: Database, session: SessionToken, *, until: str, limit: int, max_size: int
) -> list[Task]:
    """Delete all completed tasks and return them, the newest first, or none if they are many.

    Few are less than `limit`, with texts of at most `max_size` bytes. Tasks that have changed since
    `until`, an RFC 3339 timestamp, are neither counted nor deleted.
    """
    rows = await database.fetch_all(
        _DELETE_FEW_COMPLETED,
        session=session.secret_hash,
        until=until,
        limit=limit,
        max_size=max_size,
    )
    return [Task(*row) for row in rows]


async def insert_deleted_tasks(
    database: Database, session: SessionToken, deleted: Sequence[Task], *, quota: Quota = UNLIMITED
) -> list[str]:
    """Insert deleted tasks as they were, without those that are there; return the ids of the rest.

    None is inserted without a session that may write, or if the quota does not allow all.
    """
    values = {f"deleted_{name}": [getattr(task, name) for task in deleted] for name in _NAMES}
    rows = await database.fetch_all(
        _RESTORE,
        session=session.secret_hash,
        number=len(deleted),
        new_characters=sum(len(task.title) + len(task.description) for task in deleted),
        **values,
        **quota._asdict(),
    )
    return [row[0] for row in rows]


async def delete_tasks_of_closed_user(
    database: Database, user_id: str, *, after: str | None, limit: int
) -> list[str]:
    """Delete the newest tasks of a closed account after the one with the id `after`, by ids."""
    rows = await database.fetch_all(_DELETE_OF_CLOSED_USER, user=user_id, after=after, limit=limit)
    return [row[0] for row in rows]
