"""Prepared statements of a connection, and what happens behind a pooler."""

import asyncio
from typing import Any

import pytest
from sqlalchemy import (
    ARRAY,
    DateTime,
    Integer,
    all_,
    bindparam,
    column,
    func,
    insert,
    literal,
    select,
    table,
    text,
)

from taskapp.db.database import Database
from taskapp.db.statements import Statement
from tests.support.database_fixtures import execute, open_database

DOUBLE = Statement("double", select(literal(2) * bindparam("number", type_=Integer)))
PASSED = Statement(
    "passed",
    select(func.now() > all_(bindparam("timestamps", type_=ARRAY(DateTime(timezone=True))))),
)
PLANS = Statement(
    "plans", text("SELECT name, generic_plans + custom_plans FROM pg_prepared_statements")
)


def run(url: str, *steps: tuple[Statement, dict[str, Any]]) -> list[Any]:
    """Run statements one after the other on one connection, and return the rows of each."""

    async def scenario() -> list[Any]:
        async with open_database(url, 1) as database:
            return [await database.fetch_all(step, **values) for step, values in steps]

    return asyncio.run(scenario())


def test_a_statement_is_planned_for_a_connection_and_kept(empty_database: str) -> None:
    twice = [(DOUBLE, {"number": 4}), (DOUBLE, {"number": 21})]
    assert run(empty_database, *twice, (PLANS, {})) == [[(8,)], [(42,)], [(DOUBLE.key, 2)]]


def test_a_list_reaches_a_kept_plan_as_what_it_is(empty_database: str) -> None:
    for timestamps, is_passed in [
        (["2025-02-02T10:00Z"], True),
        (["2025-02-02", "9999-01-01"], False),
    ]:
        assert run(empty_database, (PASSED, {"timestamps": timestamps})) == [[(is_passed,)]]


@pytest.mark.parametrize(
    "elsewhere",
    ["DEALLOCATE ALL", f"DEALLOCATE {DOUBLE.key}; {PASSED.prepare_sql}"],
    ids=["a server that knows nothing of us", "a server on which another process was before"],
)
def test_behind_a_pooler_that_changes_servers_each_statement_is_run_and_none_kept(
    empty_database: str, elsewhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change: tuple[Statement, dict[str, Any]] = (
        Statement("change", text(elsewhere.replace(":", "\\:"))),
        {},
    )
    double, passed = (DOUBLE, {"number": 21}), (PASSED, {"timestamps": ["2025-01-01"]})
    steps = [double, change, passed, double, passed, double, (PLANS, {})]
    *_, first, second, third, fourth, kept = run(empty_database, *steps)
    assert [first, second, third, fourth] == [[(True,)], [(42,)], [(True,)], [(42,)]]
    assert DOUBLE.key not in dict(kept)
    assert "connection_lost" not in capsys.readouterr().err


def test_the_type_of_a_column_may_change_under_running_connections(empty_database: str) -> None:
    numbers = table("numbers", column("number", Integer))
    read = Statement("read", select(numbers.c.number))
    write = Statement("write", insert(numbers).values(number=3).returning(numbers.c.number))

    async def on_all(database: Database, statement: Statement) -> list[Any]:
        return await asyncio.gather(*(database.fetch_value(statement) for _ in range(20)))

    async def scenario() -> None:
        async with open_database(empty_database, 4) as database:
            for type_ in ("integer", "bigint", "smallint"):
                execute(empty_database, f"ALTER TABLE numbers ALTER number TYPE {type_}")
                assert await on_all(database, read) == [3] * 20
                assert await on_all(database, write) == [3] * 20
        assert execute(empty_database, "SELECT count(*) FROM numbers") == [(61,)]

    execute(empty_database, "CREATE TABLE numbers AS SELECT 3 AS number")
    try:
        asyncio.run(scenario())
    finally:
        execute(empty_database, "DROP TABLE numbers")


def test_statements_of_the_same_words_have_one_name_and_no_others() -> None:
    texts = ["SELECT 1", "SELECT 1", "SELECT 2"]
    first, same, other = (Statement(name, text(name)).key for name in texts)
    assert first == same != other
