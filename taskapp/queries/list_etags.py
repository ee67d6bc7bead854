"""The ETag of a list of tasks, computed in Python and in SQL.

PostgreSQL computes it so that it need not send a list that the client has. The ETag is a digest of
a seed and of the ids and versions of the tasks in their order; the seed is everything else that the
response depends on. Both computations have to give the same result.
"""

import re
from hashlib import sha256
from typing import Any

from sqlalchemy import ARRAY, Select, Text, all_, bindparam, cast, func, select, text

from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.sessions import session_user_id
from taskapp.queries.tasks import Selection, Task, list_of_all, list_of_status

_LENGTH = 32  # hexadecimal digits: 128 bits
_FORM = re.compile(f"[0-9a-f]{{{_LENGTH}}}")


def make_list_etag(seed: str, tasks: list[Task]) -> str:
    """Return the ETag of a list that was read, without quotes."""
    versions = "".join([task.id + task.updated_at for task in tasks])
    return sha256((seed + versions).encode("ascii")).hexdigest()[:_LENGTH]


def is_list_etag(text: str) -> bool:
    """Return whether a text has the form of a list's ETag."""
    return _FORM.fullmatch(text) is not None


def _etag_of(page: Any) -> Any:
    # PostgreSQL writes "2026-02-02 10:00:00.5+00" where a task has "2026-02-02T10:00:00.5Z".
    versions = func.string_agg(cast(page.c.id, Text) + cast(page.c.updated_at, Text), text("''"))
    versions = func.replace(versions, text("' '"), text("'T'"))
    versions = func.replace(versions, text("'+00'"), text("'Z'"))
    seeded = func.convert_to(func.concat(bindparam("seed", type_=Text), versions), text("'UTF8'"))
    return func.left(func.encode(func.sha256(seeded), text("'hex'")), text(str(_LENGTH)))


def _unless_known(name: str, rows: Select[Any], *, prepare: bool) -> Statement:
    page = rows.cte("page").prefix_with("MATERIALIZED")
    etag = select(_etag_of(page).label("etag")).cte("etag")
    known = bindparam("known", type_=ARRAY(Text))
    # A join without an equality scans the page, and so keeps the order of its rows.
    joined = etag.outerjoin(page, etag.c.etag != all_(known))
    expression = select(session_user_id, etag.c.etag, *page.c).select_from(joined)
    return Statement(name, expression, prepare=prepare)


_LIST = _unless_known("tasks.list_unless_known", list_of_all, prepare=True)
_LIST_STATUS = _unless_known("tasks.list_status_unless_known", list_of_status, prepare=False)


async def list_tasks_unless_known(
    database: Database,
    session: SessionToken,
    selection: Selection,
    *,
    seed: str,
    known: list[str],
) -> tuple[str | None, list[Task]]:
    """Return the ETag of a list, and its tasks unless the ETag is one of those known.

    Without a session the ETag is None.
    """
    statements = (_LIST, _LIST_STATUS)
    rows = await selection.fetch(database, session, statements, seed=seed, known=known)
    session_user, etag, first_id = rows[0][:3]
    if session_user is None:
        return None, []
    return etag, [Task(*row[2:]) for row in rows] if first_id else []
