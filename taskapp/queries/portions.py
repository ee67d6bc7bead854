"""Statements that delete a portion of rows, so that none takes longer the more rows there are."""

from typing import Any

from sqlalchemy import BigInteger, Delete, Table, bindparam, delete, func, literal_column, select

row_limit = bindparam("limit", type_=BigInteger)


def delete_portion(table: Table, *conditions: Any, order: tuple[Any, ...] = ()) -> Delete:
    """Return a DELETE of at most `limit` rows, the first in an order, which an index has to have.

    By ctid, which is stable under the row locks: by id, PostgreSQL may scan the whole table. A row
    that somebody changes meanwhile stays.
    """
    ctid: Any = literal_column(f"{table.name}.ctid")
    chosen = (
        select(ctid)
        .select_from(table)
        .where(*conditions)
        .order_by(*order)
        .limit(row_limit)
        .with_for_update()
        .correlate(None)
        .scalar_subquery()
    )
    return delete(table).where(ctid == func.any(func.array(chosen)))
