"""Every statement uses an index, sees only rows of its user, and does what its name says."""

import asyncio
import importlib
import itertools
import pkgutil
import re
import secrets
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import asdict
from uuid_utils import uuid7

from taskapp import queries
from taskapp.auth.signing import SessionToken
from taskapp.db.database import Database, Transaction
from taskapp.db.migrations import migrate
from taskapp.db.statements import Statement
from taskapp.forms.parameters import DEFAULT_PAGE_SIZE
from taskapp.observability.metrics import Metrics
from taskapp.queries import bulk_tasks, list_etags, sessions, tasks, users
from taskapp.queries.tasks import (
    COUNT_LIMIT,
    MIN_FOLDED,
    ListSummary,
    Selection,
    Task,
    TaskAccess,
)
from tests.support.database_fixtures import (
    NO_HASH,
    add_session,
    add_tasks,
    add_user,
    add_uuidv7,
    execute,
    new_database,
    open_database,
)

STATEMENTS = {
    value.name: value
    for module in pkgutil.iter_modules(queries.__path__)
    if module.name != "postgresql"  # its statements read no table of ours
    for value in vars(importlib.import_module(f"{queries.__name__}.{module.name}")).values()
    if isinstance(value, Statement)
}
# Statements that read a whole table on purpose, with the reason.
FULL_READS = {
    "users.count": "counts all accounts, for a gauge and the doctor",
    "users.count_active": "counts all accounts by their last day, for a gauge",
    "sessions.count_live": "counts all that are alive, and most are",
}
# Statements that read as many rows by an index as they count, insert or delete.
COUNTING = {
    "tasks.summary",
    "tasks.list_with_summary",
    "tasks.list_pending_with_summary",
    "tasks.list_completed_with_summary",
    "tasks.find_completed",
    "tasks.insert_several",
    "tasks.restore",
    "sessions.delete_others",
    "sessions.delete_of_user",
    "sessions.delete_ended",
    "sessions.delete_portion",
    "login_addresses.delete_of_user",
    "login_addresses.delete_old",
    "login_addresses.delete_portion",
}
# Statements that read the sessions or logins of one user, which are few by a limit (ADR 0042).
BOUNDED = {"sessions.list", "sessions.delete_oldest", "logins.find_last", "logins.delete_old"}
TABLES = ("users", "sessions", "tasks", "logins", "login_addresses")
PAGE = DEFAULT_PAGE_SIZE + 1  # rows; one more tells that there is another page
# Rows of statements with a limit of their own.
LIMITS = {
    "sessions.list": 2 * sessions.MAX_LISTED,
    "tasks.list_with_summary": PAGE + MIN_FOLDED,
    "tasks.list_pending_with_summary": PAGE,
    "tasks.list_completed_with_summary": PAGE,
}
LATER = "2999-01-01T00:00:00Z"
DELETED = Task(str(uuid7()), "Deleted", "", "completed", LATER, LATER, LATER)
MANY = """
    INSERT INTO users (id, email, password_hash)
        SELECT uuidv7(), 'user' || n || '@example.com', repeat('x', 60)
        FROM generate_series(1, 1000) n;
    INSERT INTO sessions (id, user_id, secret_hash, expires_at, address)
        SELECT uuidv7(), id, sha256(convert_to(email || n, 'UTF8')),
               now() + make_interval(
                   hours => CASE WHEN email <> 'user1@example.com' AND random() < 0.03
                                 THEN -1 ELSE 24 END
               ),
               '192.0.2.' || n
        FROM users, generate_series(1, 3) n;
    INSERT INTO logins (user_id, session_id, address, user_agent)
        SELECT user_id, id, address, user_agent FROM sessions WHERE address <> '192.0.2.1';
    INSERT INTO login_addresses (user_id, address, last_login_at)
        SELECT id, '192.0.2.' || n, now() - make_interval(days => CASE n WHEN 9 THEN 91 ELSE 1 END)
        FROM users, generate_series(1, 9) n;
    INSERT INTO tasks (id, user_id, title, description, status, idempotency_key)
        SELECT uuidv7(make_interval(secs => n)), id, 'Task ' || n, repeat('Words ', 20),
               CASE WHEN n % 10 = 0 THEN 'pending' ELSE 'completed' END,
               CASE WHEN n % 3 = 0 THEN 'key ' || n END
        FROM users, generate_series(1, CASE email WHEN 'user1@example.com' THEN 2000 ELSE 30 END) n;
    ANALYZE
"""


def test_a_statement_is_read_only_if_no_part_of_it_changes_rows() -> None:
    changing = re.compile(r"\b(INSERT INTO|UPDATE \w+ SET|DELETE FROM)\b")
    reads = {name for name, statement in STATEMENTS.items() if statement.is_read}
    assert reads == {
        name for name, statement in STATEMENTS.items() if not changing.search(statement.text)
    }


@dataclass
class Many:
    """A database of many rows, and parameters for statements on them."""

    url: str
    values: dict[str, Any]


@contextmanager
def database_of(rows: str, server_url: str) -> Iterator[str]:
    """Yield the URL of a new database with these rows, analyzed."""
    with new_database(server_url) as url:
        asyncio.run(migrate(url))
        add_uuidv7(url)
        execute(url, rows)
        execute(url, "VACUUM ANALYZE tasks")  # as autovacuum does
        yield url


@pytest.fixture(scope="module")
def many(database_url: str) -> Iterator[Many]:
    with database_of(MANY, database_url) as url:
        owner = "user1@example.com"
        [(user, password_hash, session)] = execute(
            url,
            "SELECT u.id::text, password_hash, secret_hash"
            " FROM users u JOIN sessions s ON user_id = u.id"
            " WHERE email = %s AND expires_at > now() LIMIT 1",
            owner,
        )
        [(task,)] = execute(
            url, "SELECT id::text FROM tasks WHERE user_id = %s LIMIT 1 OFFSET 700", user
        )
        values = {
            "session": bytes(session),
            "user": user,
            "task": task,
            "id": str(uuid7()),
            "email": owner,
            "typed": owner,
            "folded": owner,
            "password_hash": password_hash,
            "old_hash": password_hash,
            "new_hash": NO_HASH,
            "idle": "1 hour",
            "limit": 51,
            "seed": "seed",
            "new_title": "New",
            "new_description": "",
            "new_status": "completed",
            "tasks": [str(uuid7()), str(uuid7())],
            "new_titles": ["New", "Newer"],
            "until": LATER,
            "user_agent": "curl/8.5.0",
            "new_address": "192.0.2.1",
            "new_session": secrets.token_bytes(32),
            "name": "Backup script",
            "is_read_only": True,
            "max_tokens": 50,
            "max_tasks": 200_000,
            "max_characters": 200_000_000,
            "number": 2,
            "new_characters": 20,
            "max_size": 1_000_000,
            **{f"deleted_{name}": [value] for name, value in asdict(DELETED).items()},
        }
        yield Many(url, values)


# Parameters that change the plan of a statement; each value is tried.
CHOICES: dict[str, list[object]] = {
    "status": ["completed", "pending"],
    "after": [None, "task"],
    "completed_before": [None, "2026-02-02T10:00:00Z", "-infinity"],
    "key": [None, "key 3"],
    "keys": [[None, None], ["key 3", "another"]],
    "versions": [None, ["2026-02-02T10:00:00Z"]],
    "known": [["another"], ["another", "0" * 32]],
    "address": ["192.0.2.1", "198.51.100.1"],
    "lifetime": [None, "30 days"],
    "kept": [None, secrets.token_bytes(32)],
    "also_kept": [None],
    "tokens_too": [True, False],
}


def variants(statement: Statement, many: Many) -> Iterator[dict[str, Any]]:
    """Yield the parameters of every variant of a statement."""
    names = set(re.findall(r"%\((\w+)\)s", statement.text))
    chosen = sorted(names & CHOICES.keys())
    for choice in itertools.product(*(CHOICES[name] for name in chosen)):
        values = many.values | statement.defaults | dict(zip(chosen, choice, strict=True))
        if values.get("after"):
            values["after"] = values["user" if statement.name == "users.list" else "task"]
        if statement.name == "sessions.insert":
            values["session"] = secrets.token_bytes(32)
        elif statement.name.endswith((".insert", ".insert_once")):
            new = "new@example.com"
            values |= {"task": str(uuid7()), "email": new, "typed": new, "folded": new}
        yield {name: values[name] for name in names}


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for inner in plan.get("Plans", ()):
        yield from nodes(inner)


def scans(cursor: Any) -> dict[str, int]:
    """Return how often this transaction scanned each table, triggers included."""
    cursor.execute("SELECT relname, seq_scan FROM pg_stat_xact_user_tables")
    return {name: count for name, count in cursor.fetchall() if name in TABLES}


def explain(
    url: str, statement: Statement, values: dict[str, Any], plan_cache: str
) -> tuple[dict[str, Any], dict[str, int]]:
    """Run a statement and roll it back; return its plan and its scans of whole tables."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        sql = statement.text
        if plan_cache != UNPREPARED:
            cursor.execute(f"SET plan_cache_mode = {plan_cache}")
            cursor.execute(statement.prepare_sql)
            sql = statement.execute_sql
        before = scans(cursor)
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {sql}", values)
        [[[explained]]] = cursor.fetchall()
        after = scans(cursor)
    plan: dict[str, Any] = explained["Plan"]
    return plan, {name: after[name] - before.get(name, 0) for name in after}


# Behind a pooler no statement is prepared. Otherwise PostgreSQL plans a prepared one for its values
# five times, and may then use one generic plan for all values.
UNPREPARED = "unprepared"
PLAN_CACHES = (UNPREPARED, "force_custom_plan", "force_generic_plan")


def with_plans(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return each name with every kind of plan that its statement may run by."""
    return [
        (name, plan_cache)
        for name in names
        for plan_cache in PLAN_CACHES[: 3 if STATEMENTS[name].is_prepared else 1]
    ]


def test_every_parameter_of_a_prepared_statement_has_a_type() -> None:
    for statement in STATEMENTS.values():
        if statement.is_prepared:
            assert "unknown" not in statement.prepare_sql.partition(" AS ")[0], statement.name


@pytest.mark.parametrize(
    ("name", "plan_cache"), with_plans(sorted(STATEMENTS.keys() - FULL_READS.keys()))
)
def test_a_statement_reads_by_an_index_what_it_needs_and_no_more(
    name: str, plan_cache: str, many: Many
) -> None:
    statement = STATEMENTS[name]
    for values in variants(statement, many):
        plan, full_reads = explain(many.url, statement, values, plan_cache)
        assert not any(full_reads.values()), (plan, full_reads)
        for node in nodes(plan):
            assert node["Node Type"] != "Seq Scan" or node["Relation Name"] not in TABLES, plan
            assert "Index" not in node["Node Type"] or "Index Cond" in node, plan
            if name in BOUNDED:
                continue
            assert node.get("Rows Removed by Filter", 0) <= 1, plan
            assert node["Node Type"] != "Sort", plan
            assert node["Actual Rows"] <= values.get("limit", 1) or name in COUNTING, plan


MORE_SESSIONS = """
    INSERT INTO sessions (id, user_id, secret_hash, expires_at, name)
        SELECT uuidv7(), %s, sha256(convert_to('more ' || n, 'UTF8')), 'infinity',
               CASE WHEN n %% 2 = 0 THEN 'token ' || n END
        FROM generate_series(1, 1000) n
"""


def test_no_statement_returns_more_rows_than_a_limit_that_it_has(many: Many) -> None:
    """However many rows a user has, and however many users there are: 2,000 tasks, 1,000 users."""
    with closing(psycopg2.connect(many.url)) as connection, connection.cursor() as cursor:
        cursor.execute(MORE_SESSIONS, [many.values["user"]])
        found: dict[str, int] = {}
        for name, statement in STATEMENTS.items():
            if statement.is_read:
                for values in variants(statement, many):
                    cursor.execute(statement.text, values)
                    number = len(cursor.fetchall())
                    assert number <= values.get("limit", LIMITS.get(name, 1)), name
                    found[name] = max(number, found.get(name, 0))
    assert found["sessions.list"] == LIMITS["sessions.list"]
    assert found["users.list"] == found["tasks.list"] == many.values["limit"]


FEW = """
    INSERT INTO users (id, email, password_hash)
        SELECT gen_random_uuid(), 'user' || n || '@example.com', 'hash'
        FROM generate_series(1, 3) n;
    INSERT INTO sessions (id, user_id, secret_hash, expires_at)
        SELECT id, id, sha256('1'), now() + interval '1 hour' FROM users
        WHERE email = 'user1@example.com';
    INSERT INTO tasks (id, user_id, title)
        SELECT uuidv7(interval '-1 year'), id, 'Old' FROM users, generate_series(1, 100)
        WHERE email = 'user1@example.com';
    INSERT INTO tasks (id, user_id, title)
        SELECT uuidv7(), id, 'New' FROM users, generate_series(1, 50000)
        WHERE email <> 'user1@example.com'
"""


@pytest.fixture(scope="module")
def few(database_url: str) -> Iterator[str]:
    with database_of(FEW, database_url) as url:
        yield url


LISTS = [
    "tasks.list",
    "tasks.list_status",
    "tasks.list_with_summary",
    "tasks.list_pending_with_summary",
    "tasks.list_completed_with_summary",
    "tasks.list_unless_known",
    "tasks.list_status_unless_known",
]
UNKNOWN = {"seed": "", "known": ["another"], "completed_before": None}


@pytest.mark.parametrize(("name", "plan_cache"), with_plans(LISTS))
def test_a_list_does_not_read_through_the_newer_tasks_of_others(
    name: str, plan_cache: str, few: str
) -> None:
    values = {"session": sha256(b"1").digest(), "limit": 51, "after": None} | UNKNOWN
    for status in ("pending", "completed"):
        parameters = STATEMENTS[name].defaults | values | {"status": status}
        plan, _ = explain(few, STATEMENTS[name], parameters, plan_cache)
        assert all(node.get("Rows Removed by Filter", 0) <= 1 for node in nodes(plan)), plan
        assert not any(node["Node Type"] == "Sort" for node in nodes(plan)), plan


MOSTLY_COMPLETED = """
    INSERT INTO users (id, email, password_hash)
        SELECT gen_random_uuid(), name || '@example.com', 'hash'
        FROM unnest(ARRAY['busy', 'done', 'new']) name;
    INSERT INTO sessions (id, user_id, secret_hash, expires_at)
        SELECT id, id, sha256(convert_to(split_part(email, '@', 1), 'UTF8')),
               now() + interval '1 hour' FROM users;
    INSERT INTO tasks (id, user_id, title, status)
        SELECT uuidv7(make_interval(secs => n - 100000)), id, 'Old', 'completed'
        FROM users, generate_series(1, 100) n;
    INSERT INTO tasks (id, user_id, title, status)
        SELECT uuidv7(), id, 'New', 'pending' FROM users, generate_series(1, 3000)
        WHERE email = 'busy@example.com';
    INSERT INTO tasks (id, user_id, title, status)
        SELECT uuidv7(), id, 'New', 'completed' FROM users, generate_series(1, 50000)
        WHERE email = 'done@example.com'
"""


@pytest.fixture(scope="module")
def mostly_completed(database_url: str) -> Iterator[str]:
    with database_of(MOSTLY_COMPLETED, database_url) as url:
        yield url


@pytest.mark.parametrize(
    ("name", "plan_cache"),
    with_plans(
        [
            "tasks.find_completed",
            "tasks.list_completed",
            "tasks.delete_completed",
            "tasks.delete_few_completed",
            *LISTS,
        ]
    ),
)
def test_a_list_of_the_completed_tasks_does_not_read_through_the_pending_ones(
    name: str, plan_cache: str, mostly_completed: str
) -> None:
    statement = STATEMENTS[name]
    for who, after, limit in itertools.product(
        ("busy", "done", "new"), (None, str(uuid7())), (51, 1000)
    ):
        values: dict[str, Any] = {"session": sha256(who.encode()).digest(), "until": LATER}
        values |= statement.defaults | {"after": after, "limit": limit, "status": "completed"}
        values |= UNKNOWN | {"max_size": 0}
        plan, _ = explain(mostly_completed, statement, values, plan_cache)
        assert all(node.get("Rows Removed by Filter", 0) == 0 for node in nodes(plan)), plan
        assert not any(node["Node Type"] in {"Sort", "Seq Scan"} for node in nodes(plan)), plan
        most = COUNT_LIMIT if name in COUNTING else limit
        assert max(node["Actual Rows"] for node in nodes(plan)) <= most, plan


PARTITIONED = """
    ALTER TABLE tasks RENAME TO whole;
    CREATE TABLE tasks (LIKE whole INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
        PARTITION BY HASH (user_id);
    ALTER TABLE tasks ADD PRIMARY KEY (id, user_id);
    DO $$ DECLARE definition text; BEGIN
        FOR n IN 0..7 LOOP
            EXECUTE format('CREATE TABLE tasks_%s PARTITION OF tasks FOR VALUES WITH (MODULUS 8,'
                ' REMAINDER %s)', n, n);
        END LOOP;
        FOR definition IN SELECT pg_get_indexdef(indexrelid) FROM pg_index
            WHERE indrelid = 'whole'::regclass AND NOT indisprimary LOOP
            EXECUTE regexp_replace(definition, 'INDEX \\S+ ON \\S+', 'INDEX ON tasks');
        END LOOP;
    END $$;
    INSERT INTO tasks SELECT * FROM whole;
    DROP TABLE whole
"""


@pytest.fixture(scope="module")
def partitioned(database_url: str) -> Iterator[Many]:
    """Yield a database whose tasks are in 8 partitions by user, and parameters of one user."""
    with database_of(MANY, database_url) as url:
        execute(url, PARTITIONED)
        execute(url, "VACUUM ANALYZE tasks")
        [(user, session)] = execute(
            url,
            "SELECT user_id::text, secret_hash FROM sessions JOIN users ON users.id = user_id"
            " WHERE email = 'user1@example.com' LIMIT 1",
        )
        [(task,)] = execute(url, "SELECT id::text FROM tasks WHERE user_id = %s LIMIT 1", user)
        [(closed,)] = execute(
            url,
            "UPDATE users SET email = NULL WHERE email = 'user2@example.com' RETURNING id::text",
        )
        values = {"owner": user, "user": closed, "session": bytes(session), "task": task}
        yield Many(url, values | {"limit": 51, "until": LATER, "key": "key 3"} | UNKNOWN)


@pytest.mark.parametrize(
    ("name", "plan_cache"),
    with_plans(
        sorted(
            name
            for name, statement in STATEMENTS.items()
            # `find_access` looks for whoever owns a task, and an INSERT has a place of its own.
            if name.startswith("tasks.")
            and not re.search("find_access|insert|restore|estimate", name)
        )
    ),
)
def test_of_tasks_in_partitions_by_user_each_statement_reads_those_of_one_partition(
    name: str, plan_cache: str, partitioned: Many
) -> None:
    statement = STATEMENTS[name]
    parameters = dict.fromkeys(re.findall(r"%\((\w+)\)s", statement.text))
    values = parameters | statement.defaults | partitioned.values | {"status": "completed"}
    plan, full_reads = explain(partitioned.url, statement, values, plan_cache)
    read = {
        node["Relation Name"]
        for node in nodes(plan)
        if node.get("Relation Name", "").startswith("tasks_") and node["Actual Loops"]
    }
    assert len(read) == 1, plan
    assert not any(full_reads.values()), plan


def test_of_tasks_in_partitions_only_those_of_the_user_are_deleted(partitioned: Many) -> None:
    owner = partitioned.values["owner"]
    counted = "SELECT count(*) FROM tasks WHERE user_id {} %s"

    session = SessionToken(owner, partitioned.values["session"])

    def numbers() -> list[int]:
        return [execute(partitioned.url, counted.format(sign), owner)[0][0] for sign in ("=", "<>")]

    async def scenario() -> None:
        async with open_database(partitioned.url) as database:
            portion = await bulk_tasks.delete_completed_tasks(
                database, session, until=LATER, after=None, limit=51
            )
            assert len(portion) == 51
            assert numbers() == [own - 51, others]
            few = await bulk_tasks.delete_few_completed_tasks(
                database, session, until=LATER, limit=5000, max_size=10**6
            )
            assert numbers() == [own - 51 - len(few), others]
            restored = await bulk_tasks.insert_deleted_tasks(database, session, few)
            assert len(restored) == len(few)
            assert numbers() == [own - 51, others]

    own, others = numbers()
    asyncio.run(scenario())


def test_the_exceptions_are_statements_that_read_a_whole_table(many: Many) -> None:
    for name in FULL_READS:
        statement = STATEMENTS[name]
        plan, _ = explain(many.url, statement, statement.defaults, UNPREPARED)
        assert max(node["Actual Rows"] for node in nodes(plan)) >= 1000


def test_every_statement_has_a_name_of_its_own_that_begins_with_its_table() -> None:
    assert len(STATEMENTS) > 20
    assert all(name.partition(".")[0] in TABLES for name in STATEMENTS)


def test_whatever_changes_tasks_needs_a_session_that_may() -> None:
    changes = [name for name in STATEMENTS if name.startswith("tasks.")]
    changes = [name for name in changes if not STATEMENTS[name].is_read]
    assert len(changes) == 9
    changes.remove("tasks.delete_of_closed_user")
    assert "users.email IS NULL" in STATEMENTS["tasks.delete_of_closed_user"].text
    for name in changes:
        assert "NOT sessions.is_read_only" in STATEMENTS[name].text, name


@pytest.fixture
def alice(empty_database: str) -> SessionToken:
    """Return a session of Alice, who owns."""
    return add_session(empty_database, add_user(empty_database, "alice"))


@pytest.fixture
def bob(empty_database: str) -> SessionToken:
    """Return a session of Bob, the stranger."""
    return add_session(empty_database, add_user(empty_database, "bob"))


@pytest.fixture
def run(empty_database: str) -> Iterator[Callable[[Callable[[Database], Awaitable[Any]]], Any]]:
    """Return a function that runs coroutines on one pool for the whole test."""
    with asyncio.Runner() as runner:
        database = Database(4, Metrics())
        runner.run(database.open(empty_database))

        async def start(work: Callable[[Database], Awaitable[Any]]) -> Any:
            return await work(database)

        yield lambda work: runner.run(start(work))
        runner.run(database.close())


Run = Callable[[Callable[[Database], Awaitable[Any]]], Any]
several_examples = settings(
    max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def new_task(
    database: Database, session: SessionToken, title: str = "Buy milk", **more: Any
) -> Task | None:
    fields = {"description": "", "status": "pending", "key": None} | more
    return await tasks.insert_task(database, session, title=title, **fields)


def all_rows(url: str) -> list[tuple[Any, ...]]:
    return execute(url, "SELECT * FROM tasks ORDER BY id") + execute(
        url, "SELECT * FROM sessions ORDER BY id"
    )


async def list_unless_known(database: Database, session: SessionToken) -> list[Task]:
    everything = Selection(None, None, limit=100)
    _, rows = await list_etags.list_tasks_unless_known(
        database, session, everything, seed="", known=["another"]
    )
    return rows


ATTACKS: dict[str, Callable[[Database, SessionToken, str], Awaitable[Any]]] = {
    "find": tasks.find_task,
    "find by key": lambda database, who, _: tasks.find_task_by_key(database, who, "key"),
    "update": lambda database, who, task: tasks.update_task(database, who, task, title="Bob was"),
    "complete": lambda database, who, task: tasks.update_task(
        database, who, task, status="completed"
    ),
    "delete": tasks.delete_task,
    "delete completed": lambda database, who, _: bulk_tasks.delete_completed_tasks(
        database, who, until=LATER, after=None, limit=100
    ),
    "list": lambda database, who, _: tasks.list_tasks(
        database, who, Selection(None, None, limit=100)
    ),
    "list unless known": lambda database, who, _: list_unless_known(database, who),
    "list behind": lambda database, who, task: tasks.list_tasks(
        database, who, Selection("pending", task, limit=100)
    ),
}


@several_examples
@given(attack=st.sampled_from(sorted(ATTACKS)), who=st.sampled_from(["bob", "late", "nobody"]))
def test_nobody_reaches_the_tasks_of_another(
    attack: str, who: str, empty_database: str, alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    """With a session of his own, an ended one of Alice, or none."""
    tokens = {
        "bob": SessionToken(alice.user_id, bob.secret_hash),  # whatever he says of himself
        "late": add_session(empty_database, alice.user_id, lasts="-1 second"),
        "nobody": SessionToken(alice.user_id, secrets.token_bytes(32)),
    }
    made = run(lambda database: new_task(database, alice, key=secrets.token_hex(4)))
    run(lambda database: new_task(database, alice, key="key"))
    run(lambda database: new_task(database, alice, status="completed"))
    before = all_rows(empty_database)
    assert not run(lambda database: ATTACKS[attack](database, tokens[who], made.id))
    assert all_rows(empty_database) == before


def test_a_session_that_is_over_makes_no_task_and_gets_no_summary(
    empty_database: str, alice: SessionToken, run: Run
) -> None:
    late = add_session(empty_database, alice.user_id, lasts="-1 second")
    assert run(lambda database: new_task(database, late)) is None
    ask = Selection(None, None, limit=10)
    assert run(lambda database: tasks.list_tasks_with_summary(database, late, ask)) == ([], None)
    assert run(lambda database: tasks.list_tasks_with_summary(database, alice, ask)) == (
        [],
        ListSummary("alice@example.com", 0, 0),
    )


def test_why_a_task_was_not_found_is_told(
    empty_database: str, alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    [task] = add_tasks(empty_database, alice.user_id, 1)
    nobody = SessionToken(alice.user_id, secrets.token_bytes(32))
    reader = add_session(empty_database, alice.user_id)
    hash_of_reader = reader.secret_hash
    execute(
        empty_database,
        "UPDATE sessions SET is_read_only = true WHERE secret_hash = %s",
        hash_of_reader,
    )
    for who, user, may_write in (
        (alice, alice.user_id, True),
        (bob, bob.user_id, True),
        (reader, alice.user_id, False),
        (nobody, None, False),
    ):
        for sought, owner in ((task, alice.user_id), (str(uuid7()), None)):
            access = run(lambda database: tasks.find_access(database, who, sought))  # noqa: B023  # it runs at once
            assert access == TaskAccess(user, owner, may_write)


@several_examples
@given(
    statuses=st.lists(st.sampled_from(["pending", "completed"]), max_size=12),
    status=st.sampled_from([None, "pending", "completed"]),
    size=st.integers(1, 13),
)
def test_paging_meets_every_task_once_from_the_newest_to_the_oldest(
    statuses: list[str],
    status: str | None,
    size: int,
    empty_database: str,
    alice: SessionToken,
    bob: SessionToken,
    run: Run,
) -> None:
    execute(empty_database, "DELETE FROM tasks")
    made = []
    for each in statuses:
        made += [(add_tasks(empty_database, alice.user_id, 1, status=each)[0], each)]
        add_tasks(empty_database, bob.user_id, 1, status=each)

    async def walk(database: Database) -> list[str]:
        met: list[str] = []
        while True:
            after = met[-1] if met else None
            page = await tasks.list_tasks(database, alice, Selection(status, after, size))
            assert len(page) <= size
            assert len(met) <= len(made)
            if not page:
                return met
            met += [task.id for task in page]
            await new_task(database, alice)  # newer ones do not disturb it

    assert run(walk) == [task for task, each in reversed(made) if status in (None, each)]


def test_tasks_that_are_made_at_once_have_an_order() -> None:
    ids = [str(uuid7()) for _ in range(10_000)]
    assert ids == sorted(set(ids))


def test_the_summary_comes_with_the_list_and_its_counts_stop(
    empty_database: str, alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    add_tasks(empty_database, alice.user_id, 3, status="completed")
    add_tasks(empty_database, bob.user_id, 5)
    ask = Selection("completed", None, PAGE)
    found, summary = run(lambda database: tasks.list_tasks_with_summary(database, alice, ask))
    assert [task.title for task in found] == ["task 3", "task 2", "task 1"]
    assert summary == ListSummary("alice@example.com", 0, 3)
    add_tasks(empty_database, alice.user_id, COUNT_LIMIT + 1)
    _, summary = run(lambda database: tasks.list_tasks_with_summary(database, alice, ask))
    assert summary == ListSummary("alice@example.com", COUNT_LIMIT, 3)


def test_what_is_not_given_stays_as_it_is(alice: SessionToken, run: Run) -> None:
    async def scenario(database: Database) -> None:
        task = await new_task(database, alice, "Buy milk", description="Two litres")
        assert task
        changes: list[dict[str, Any]] = [
            {"title": "x"},
            {"description": ""},
            {"status": "completed"},
        ]
        for change in changes:
            changed = await tasks.update_task(database, alice, task.id, **change)
            assert changed
            for name in ("id", "title", "description", "status", "created_at"):
                assert getattr(changed, name) == change.get(name, getattr(task, name))
            assert await tasks.find_task(database, alice, task.id) == changed
            task = changed

    run(scenario)


def test_a_version_grows_with_every_change_whatever_the_clock_does(
    empty_database: str, alice: SessionToken, run: Run
) -> None:
    values: dict[str, Any] = dict.fromkeys(("new_title", "new_description", "versions"))
    values |= {"session": alice.secret_hash, "new_status": "completed", "max_characters": 0}

    async def burst(transaction: Transaction) -> list[str]:
        """Within a transaction now() does not change."""
        update = STATEMENTS["tasks.update"]
        return [(await transaction.run(update, **values))[0][-1] for _ in range(5)]

    async def scenario(database: Database) -> list[str]:
        task = await new_task(database, alice)
        assert task
        values["task"] = task.id
        versions = [task.updated_at]
        for _ in range(5):
            changed = await tasks.update_task(database, alice, task.id, title="x")
            assert changed
            versions.append(changed.updated_at)
        versions += await database.transaction("burst", burst)
        # As if the clock had been set back by an hour.
        execute(empty_database, "UPDATE tasks SET updated_at = now() + interval '1 hour'")
        task = await tasks.find_task(database, alice, task.id)
        assert task
        versions.append(task.updated_at)
        return versions + await database.transaction("burst", burst)

    versions = run(scenario)
    timestamps = [
        execute(empty_database, "SELECT %s::timestamptz", each)[0][0] for each in versions
    ]
    assert timestamps == sorted(set(timestamps))


def test_a_change_can_be_tied_to_a_version(alice: SessionToken, run: Run) -> None:
    async def scenario(database: Database) -> None:
        task = await new_task(database, alice)
        assert task
        stale = "2026-02-02T10:00:00.5Z"
        for versions in ([], [stale]):
            kept = await tasks.update_task(database, alice, task.id, title="x", versions=versions)
            assert kept is None
            assert not await tasks.delete_task(database, alice, task.id, versions=versions)
        versions = [stale, task.updated_at]
        changed = await tasks.update_task(database, alice, task.id, title="x", versions=versions)
        assert changed
        assert not await tasks.delete_task(database, alice, task.id, versions=versions)
        assert await tasks.delete_task(database, alice, task.id, versions=[changed.updated_at])
        assert not await tasks.delete_task(database, alice, task.id)

    run(scenario)


def test_an_idempotency_key_makes_one_task_of_each_owner(
    alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    async def scenario(database: Database) -> None:
        made = await asyncio.gather(
            *(new_task(database, alice, f"Task {number}", key="k") for number in range(8))
        )
        [only] = [task for task in made if task]
        assert await tasks.find_task_by_key(database, alice, "k") == only
        assert await tasks.find_task_by_key(database, bob, "k") is None
        of_bob = await new_task(database, bob, key="k")
        assert of_bob
        assert await tasks.find_task_by_key(database, bob, "k") == of_bob
        assert [await new_task(database, alice) for _ in range(2)].count(None) == 0

    run(scenario)


def test_two_changes_of_one_version_are_one_change(alice: SessionToken, run: Run) -> None:
    async def scenario(database: Database) -> None:
        task = await new_task(database, alice)
        assert task
        versions = [task.updated_at]
        outcomes = await asyncio.gather(
            *(
                tasks.update_task(database, alice, task.id, title=str(number), versions=versions)
                for number in range(8)
            )
        )
        [winner] = [changed for changed in outcomes if changed]
        assert await tasks.find_task(database, alice, task.id) == winner

    run(scenario)


def test_the_number_of_tasks_is_estimated(
    empty_database: str, alice: SessionToken, run: Run
) -> None:
    add_tasks(empty_database, alice.user_id, 100)
    execute(empty_database, "ANALYZE tasks")
    assert run(tasks.estimate_tasks) == 100


async def begin_session(
    database: Database,
    user: str,
    secret_hash: bytes,
    *,
    password_hash: str = NO_HASH,
    idle: int = 60,
) -> str | None:
    """Begin a session as a login does."""

    async def begin(transaction: Transaction) -> str | None:
        return await sessions.insert_session(
            transaction,
            user,
            secret_hash,
            password_hash=password_hash,
            idle=idle,
            address="192.0.2.1",
            user_agent="curl/8.5.0",
        )

    return await database.transaction("begin", begin)


def test_a_session_lasts_as_long_as_it_is_used_and_thirty_days_at_most(
    empty_database: str, run: Run
) -> None:
    user = add_user(empty_database, "carol")
    left = (
        "SELECT round(extract(epoch FROM expires_at - now())), last_used_at = created_at"
        " FROM sessions WHERE secret_hash = %s"
    )

    def later(interval: str) -> None:
        """Move what has happened into the past."""
        execute(
            empty_database,
            "UPDATE sessions SET created_at = created_at - %s::interval,"
            " last_used_at = last_used_at - %s::interval, expires_at = expires_at - %s::interval",
            *(interval, interval, interval),
        )

    async def scenario(database: Database) -> None:
        secret, hour, day = secrets.token_bytes(32), 3600, 86400
        assert await begin_session(database, user, secret, idle=hour)
        assert execute(empty_database, left, secret) == [(hour, True)]
        later("30 seconds")
        await sessions.touch_session(
            database, secret, hour, "192.0.2.1"
        )  # it was written less than a minute ago
        assert execute(empty_database, left, secret) == [(hour - 30, True)]
        later("31 seconds")
        await sessions.touch_session(database, secret, hour, "192.0.2.1")
        assert execute(empty_database, left, secret) == [(hour, False)]
        later("59 minutes")
        assert await sessions.find_session_user(database, secret) == user
        later("2 minutes")
        await sessions.touch_session(database, secret, hour, "192.0.2.1")  # what is over stays so
        assert await sessions.find_session_user(database, secret) is None

        secret = secrets.token_bytes(32)
        assert await begin_session(database, user, secret, idle=90 * day)
        assert execute(empty_database, left, secret) == [(30 * day, True)]
        later("29 days")
        await sessions.touch_session(database, secret, 90 * day, "192.0.2.1")
        assert execute(empty_database, left, secret) == [(day, False)]

    run(scenario)


def test_a_session_begins_only_with_the_password_that_was_checked(
    empty_database: str, run: Run
) -> None:
    user = add_user(empty_database, "carol")

    async def scenario(database: Database) -> None:
        for who, password_hash in ((user, "another"), (str(uuid7()), NO_HASH)):
            secret = secrets.token_bytes(32)
            assert not await begin_session(database, who, secret, password_hash=password_hash)
        assert await sessions.count_live_sessions(database) == 0

    run(scenario)


def test_sessions_end_one_by_one_all_of_a_user_or_by_themselves(
    empty_database: str, alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    late = add_session(empty_database, bob.user_id, lasts="-1 second")
    others = [add_session(empty_database, alice.user_id) for _ in range(3)]

    async def scenario(database: Database) -> None:
        assert await sessions.count_live_sessions(database) == 5
        listed, email = await sessions.list_sessions(database, alice)
        assert (len(listed), email) == (4, "alice@example.com")
        assert await sessions.list_sessions(database, late) == ([], None)
        assert await sessions.delete_session(database, alice.secret_hash) == alice.user_id
        assert await sessions.delete_session(database, alice.secret_hash) is None
        assert await sessions.delete_session(database, late.secret_hash) is None
        assert await sessions.find_session_user(database, others[0].secret_hash) == alice.user_id

        async def end_all(transaction: Transaction) -> tuple[int, int]:
            return await sessions.delete_sessions_of_user(transaction, alice.user_id)

        assert await database.transaction("end", end_all) == (3, 0)
        assert await sessions.delete_ended_sessions(database, limit=10) == 1
        assert await sessions.count_live_sessions(database) == 1
        assert await sessions.find_session_user(database, bob.secret_hash) == bob.user_id

    run(scenario)


def test_accounts_are_found_changed_and_deleted_with_all_they_own(
    empty_database: str, alice: SessionToken, bob: SessionToken, run: Run
) -> None:
    add_tasks(empty_database, alice.user_id, 2)
    [kept] = add_tasks(empty_database, bob.user_id, 1)
    email = "alice@example.com"

    async def hash_of_alice(database: Database) -> str | None:
        found = await users.find_credentials(database, email, "192.0.2.1")
        return found and found.password_hash

    async def scenario(database: Database) -> None:
        assert await users.find_credentials(database, email, "192.0.2.1") == (
            *(alice.user_id, email, NO_HASH),
            False,
        )
        assert await users.find_credentials(database, f"x{email}", "192.0.2.1") is None
        listed = await users.list_users(database, after=None, limit=9)
        assert [user.email for user in listed] == [email, "bob@example.com"]
        assert await users.count_users(database) == 2

        await users.replace_password_hash(database, alice.user_id, "another", "new")
        assert await hash_of_alice(database) == NO_HASH
        await users.replace_password_hash(database, alice.user_id, NO_HASH, "new")
        assert await hash_of_alice(database) == "new"

        async def change(transaction: Transaction) -> tuple[bool, bool]:
            return (
                await users.update_password(transaction, alice.user_id, "newer"),
                await users.update_password(transaction, str(uuid7()), "newer"),
            )

        assert await database.transaction("change", change) == (True, False)
        assert await hash_of_alice(database) == "newer"

        async def close(transaction: Transaction) -> bool:
            return await users.close_user(transaction, alice.user_id)

        assert not await users.delete_closed_user(database, alice.user_id)
        assert await database.transaction("close", close)
        assert not await database.transaction("close", close)
        assert await users.find_credentials(database, email, "192.0.2.1") is None
        listed = await users.list_users(database, after=None, limit=9)
        assert [user.email for user in listed] == ["bob@example.com"]
        assert await users.find_closed_user(database) == alice.user_id
        assert await users.delete_closed_user(database, alice.user_id)
        assert not await users.delete_closed_user(database, alice.user_id)
        assert await users.find_closed_user(database) is None

    run(scenario)
    assert execute(empty_database, "SELECT id::text FROM tasks") == [(kept,)]
    assert execute(empty_database, "SELECT user_id::text FROM sessions") == [(bob.user_id,)]
