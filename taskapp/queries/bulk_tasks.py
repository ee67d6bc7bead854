"""Every statement on many tasks of one owner at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, Text, Uuid, bindparam, delete, func, literal_column, select
from sqlalchemy.dialects.postgresql import insert
from uuid_utils import uuid7

from schema.tables import tasks
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.sessions import owner_row, session_user_id
from taskapp.queries.tasks import (
    COUNT_LIMIT,
    after_cursor,
    idempotency_conflict,
    is_of_status,
    is_owned,
    is_owned_writable,
    order_of_status,
    row_limit,
)


@dataclass(frozen=True)
class CompletedSummary:
    """How many tasks are completed, up to COUNT_LIMIT, and until when; None if there are none."""

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
# Until the moment of the question, for that costs nothing, and what is counted is what is deleted.
# A task from before the clock was set back can lie in the future, and is neither; as the bound, its
# last change would let those be deleted that are completed after the question.
_FIND_COMPLETED = Statement(
    "tasks.find_completed",
    select(
        session_user_id, select(func.count()).select_from(_counted).scalar_subquery(), func.now()
    ),
)
_place: Any = literal_column("tasks.ctid")
_deleted = (
    select(_place)
    .select_from(tasks)
    .where(
        is_owned_writable,
        _is_completed,
        tasks.c.updated_at <= bindparam("until"),
        after_cursor,
    )
    .order_by(*order_of_status)
    .limit(row_limit)
    .with_for_update()
    .correlate(None)
    .scalar_subquery()
)
# By their places, which the locks keep: to find them by their ids, PostgreSQL may read the table
# from end to end.
_DELETE_COMPLETED = Statement(
    "tasks.delete_completed",
    delete(tasks).where(_place == func.any(func.array(_deleted))).returning(tasks.c.id),
)


async def insert_tasks(
    database: Database, session: SessionToken, titles: Sequence[str], *, keys: Sequence[str | None]
) -> int:
    """Insert tasks, the newest first, each unless its key has made one, and count those made.

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
    """Find out how many tasks are completed now; None without a session."""
    row = await database.fetch_one(_FIND_COMPLETED, session=session.secret_hash)
    if row is None or row[0] is None:
        return None
    _, count, now = row
    return CompletedSummary(count, now if count else None)


async def delete_completed_tasks(
    database: Database, session: SessionToken, *, until: str, after: str | None, limit: int
) -> list[str]:
    """Delete the newest completed tasks behind the one with the id `after`, and give their ids.

    Only those that have not changed since `until`.
    """
    rows = await database.fetch_all(
        _DELETE_COMPLETED, session=session.secret_hash, until=until, after=after, limit=limit
    )
    return [row[0] for row in rows]
