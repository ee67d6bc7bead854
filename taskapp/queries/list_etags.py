"""The version of a list of tasks; PostgreSQL makes it too, so as not to send a list that is known.

It is a digest of the ids and versions of the tasks in their order, after a seed: what the page
depends on besides. Both forms of it, in Python and in SQL, stand here and have to stay one.
"""

import re
from hashlib import sha256
from typing import Any

from sqlalchemy import ARRAY, Select, Text, all_, bindparam, cast, func, select, text

from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database
from taskapp.db.statements import Statement
from taskapp.queries.sessions import session_user_id
from taskapp.queries.tasks import Task, list_of_all, list_of_status

_LENGTH = 32  # hexadecimal digits: 128 bits
_FORM = re.compile(f"[0-9a-f]{{{_LENGTH}}}")


def make_list_version(seed: str, tasks: list[Task]) -> str:
    """Make the version of a list that was read."""
    versions = "".join([task.id + task.updated_at for task in tasks])
    return sha256((seed + versions).encode("ascii")).hexdigest()[:_LENGTH]


def is_list_version(version: str) -> bool:
    """Tell whether a text has the form of a list's version."""
    return _FORM.fullmatch(version) is not None


def _version_of(page: Any) -> Any:
    # PostgreSQL writes "2026-02-02 10:00:00.5+00" for what a task has as "2026-02-02T10:00:00.5Z".
    versions = func.string_agg(cast(page.c.id, Text) + cast(page.c.updated_at, Text), text("''"))
    versions = func.replace(versions, text("' '"), text("'T'"))
    versions = func.replace(versions, text("'+00'"), text("'Z'"))
    seeded = func.convert_to(func.concat(bindparam("seed", type_=Text), versions), text("'UTF8'"))
    return func.left(func.encode(func.sha256(seeded), text("'hex'")), text(str(_LENGTH)))


def _unless_known(name: str, rows: Select[Any], *, prepare: bool) -> Statement:
    page = rows.cte("page").prefix_with("MATERIALIZED")
    version = select(_version_of(page).label("version")).cte("version")
    known = bindparam("known", type_=ARRAY(Text))
    # Without an equality it is joined by walking the page, and so in the page's order.
    found = version.outerjoin(page, version.c.version != all_(known))
    expression = select(session_user_id, version.c.version, *page.c).select_from(found)
    return Statement(name, expression, prepare=prepare)


_LIST = _unless_known("tasks.list_unless_known", list_of_all, prepare=True)
_LIST_STATUS = _unless_known("tasks.list_status_unless_known", list_of_status, prepare=False)


async def list_tasks_unless_known(
    database: Database,
    session: SessionToken,
    *,
    status: str | None,
    after: str | None,
    limit: int,
    seed: str,
    known: list[str],
) -> tuple[str | None, list[Task]]:
    """Give the version of a list, and its tasks unless the version is one of those known.

    Without a session the version is None.
    """
    rows = await database.fetch_all(
        _LIST_STATUS if status else _LIST,
        session=session.secret_hash,
        status=status,
        after=after,
        limit=limit,
        seed=seed,
        known=known,
    )
    session_user, version, first_id = rows[0][:3]
    if session_user is None:
        return None, []
    return version, [Task(*row[2:]) for row in rows] if first_id else []
