"""Statements that delete a portion of rows, so that none takes longer the more rows there are."""

from typing import Any

from sqlalchemy import (
    CTE,
    BigInteger,
    Delete,
    Table,
    and_,
    bindparam,
    delete,
    func,
    literal_column,
    select,
    true,
    tuple_,
)

row_limit = bindparam("limit", type_=BigInteger)


def places_of(table: Table) -> list[Any]:
    """Return the columns by which `is_chosen` finds rows: their ctid and their key.

    By ctid, which is stable under row locks: by the key alone, PostgreSQL may scan the whole table.
    And by the key, because each partition of a table has the same ctids.
    """
    return [_ctid_of(table).label("place"), *table.primary_key.columns]


def is_chosen(table: Table, chosen: CTE) -> Any:
    """Return the condition on rows of which `chosen` has the `places_of`."""
    key = [*table.primary_key.columns]
    places = select(chosen.c.place).scalar_subquery()
    has_key = tuple_(*key).in_(select(*(chosen.c[column.name] for column in key)))
    # "IS true" keeps PostgreSQL from joining, which would not begin with the ctids.
    return and_(_ctid_of(table) == func.any(func.array(places)), has_key.is_(true()))


def delete_portion(
    table: Table,
    *conditions: Any,
    order: tuple[Any, ...] = (),
    within: tuple[Any, ...] = (),
    skip_locked: bool = False,
) -> Delete:
    """Return a DELETE of at most `limit` rows, the first in an order, which an index has to have.

    The conditions `within` lead to the partition of the rows. A row that somebody changes meanwhile
    stays; with `skip_locked`, nothing waits for it either.
    """
    chosen = (
        select(*places_of(table))
        .where(*conditions)
        .order_by(*order)
        .limit(row_limit)
        .with_for_update(skip_locked=skip_locked)
        .cte("chosen")
    )
    return delete(table).where(is_chosen(table, chosen), *within)


def _ctid_of(table: Table) -> Any:
    return literal_column(f"{table.name}.ctid")
