"""Statements that delete a portion of rows, so that none takes longer the more rows there are."""

from typing import Any

from sqlalchemy import (
    BigInteger,
    Delete,
    Table,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    tuple_,
)

row_limit = bindparam("limit", type_=BigInteger)


def delete_portion(
    table: Table,
    *conditions: Any,
    order: tuple[Any, ...] = (),
    within: tuple[Any, ...] = (),
    skip_locked: bool = False,
) -> Delete:
    """Return a DELETE of at most `limit` rows, the first in an order, which an index has to have.

    By ctid, which is stable under the row locks: by the key alone, PostgreSQL may scan the whole
    table. And by the key, because each partition of a table has the same ctids. The conditions
    `within` lead to the partition of the rows. A row that somebody changes meanwhile stays; with
    `skip_locked`, nothing waits for it either.
    """
    ctid: Any = literal_column(f"{table.name}.ctid")
    key = [*table.primary_key.columns]
    chosen = (
        select(ctid.label("place"), *key)
        .select_from(table)
        .where(*conditions)
        .order_by(*order)
        .limit(row_limit)
        .with_for_update(skip_locked=skip_locked)
        .cte("chosen")
    )
    places = select(chosen.c.place).scalar_subquery()
    keys = select(*(chosen.c[column.name] for column in key))
    return delete(table).where(
        ctid == func.any(func.array(places)), tuple_(*key).in_(keys), *within
    )
