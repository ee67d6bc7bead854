"""Statements on many tasks of one user at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Text, Uuid, bindparam, func, select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import tasks, users
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.portions import delete_portion
from taskapp.queries.sessions import owner_row, session_user_id
from taskapp.queries.tasks import (
    COUNT_LIMIT,
    after_cursor,
    idempotency_conflict,
    is_of_status,
    is_owned,
    is_owned_writable,
    newest_first,
    order_of_status,
)


@dataclass(frozen=True)
class CompletedSummary:
    """The number of completed tasks, up to COUNT_LIMIT, and until when; None if there are none."""

    count: int
    until: str | None


_new = (
    func.unnest(
        bindparam("tasks", type_=ARRAY(Uuid(as_uuid=False))),
        bindparam("new_titles", type_=ARRAY(Text)),
        bindparam("keys", type_=ARRAY(Text)),
    )
    .table_valued("id", "title", "key")
    .render_derived("new")
)
_INSERT = Statement(
    "tasks.insert_several",
    insert(tasks)
    .from_select(
        ["id", "user_id", "title", "idempotency_key"],
        select(_new.c.id, owner_row.c.user_id, _new.c.title, _new.c.key).where(
            owner_row.c.user_id.is_not(None)
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
# now() is the upper bound: it is free, and exactly the counted tasks are deleted. Tasks dated in
# the future (the clock was set back) are excluded from both; with their timestamp as the bound,
# tasks that are completed after the count would be deleted too.
_FIND_COMPLETED = Statement(
    "tasks.find_completed",
    select(
        session_user_id, select(func.count()).select_from(_counted).scalar_subquery(), func.now()
    ),
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
    ).returning(tasks.c.id),
)
_closed_user_id: Any = (
    select(users.c.id)
    .where(users.c.id == bindparam("user"), users.c.email.is_(None))
    .correlate(None)
    .scalar_subquery()
)
_DELETE_OF_CLOSED_USER = Statement(
    "tasks.delete_of_closed_user",
    delete_portion(
        tasks,
        tasks.c.user_id == func.any(func.array(_closed_user_id)),
        after_cursor,
        order=newest_first,
    ).returning(tasks.c.id),
)


async def insert_tasks(
    database: Database, session: SessionToken, titles: Sequence[str], *, keys: Sequence[str | None]
) -> int:
    """Insert tasks, newest first, without those whose key was used; return the number inserted.

    All or none are inserted; none without a session.
    """
    ids = [str(uuid7()) for _ in titles]
    rows = await database.fetch_all(
        _INSERT,
        session=session.secret_hash,
        tasks=ids[::-1],
        new_titles=list(titles),
        keys=list(keys),
    )
    return len(rows)


async def find_completed(database: Database, session: SessionToken) -> CompletedSummary | None:
    """Return how many tasks are completed now, or None without a session."""
    row = await database.fetch_one(_FIND_COMPLETED, session=session.secret_hash)
    if row is None or row[0] is None:
        return None
    _, count, now = row
    return CompletedSummary(count, now if count else None)


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


async def delete_tasks_of_closed_user(
    database: Database, user_id: str, *, after: str | None, limit: int
) -> list[str]:
    """Delete the newest tasks of a closed account after the one with the id `after`, by ids."""
    rows = await database.fetch_all(_DELETE_OF_CLOSED_USER, user=user_id, after=after, limit=limit)
    return [row[0] for row in rows]
