"""The pool is fair, and survives failures of the server and the network and canceled callers."""

import asyncio
import errno
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from sqlalchemy import bindparam, func, insert, literal, select, text

from schema.tables import users
from taskapp.config.settings import SettingsError
from taskapp.core.errors import OutcomeUnknown, Unavailable, UniqueViolation
from taskapp.db.database import STATEMENT_TIMEOUT, Database, Transaction
from taskapp.db.statements import Statement
from taskapp.observability.metrics import Metrics
from taskapp.postgres.server import EmbeddedPostgres
from taskapp.queries.users import count_users, insert_user
from taskapp.runtime.startup import install_loop_error_handler
from tests.support.database_fixtures import (
    NO_HASH,
    add_user,
    as_user,
    execute,
    is_waited_for,
    open_database,
)
from tests.support.server_process import LONG_ENOUGH, Stopwatch, processor_seconds, wait_until

TIMEOUT = 5.0  # seconds in which every answer has to come


def read(name: str, expression: str) -> Statement:
    return Statement(name, select(text(expression)))


def change(name: str, statement: str) -> Statement:
    return Statement(name, text(statement))


ONE = Statement("one", select(literal(1)))
NAP = Statement("nap", select(func.pg_sleep(bindparam("seconds")).label("nap")))
HELD = read("held", "pg_advisory_xact_lock_shared(1)")
FAIL = read("fail", "1 / (random() * 0)::integer FROM pg_sleep(0.1)")
ADD = change(
    "add",
    "INSERT INTO users (id, email, password_hash)"
    " VALUES (gen_random_uuid(), :email, '-') RETURNING id",
)
ADD_SLOWLY = Statement(
    "add_slowly",
    insert(users)
    .from_select(
        ["id", "email", "password_hash"],
        select(
            func.gen_random_uuid(),
            literal("slow") + func.gen_random_uuid().cast(users.c.email.type) + literal("@x.org"),
            literal(NO_HASH),
        ).where(func.pg_sleep(bindparam("seconds")).cast(users.c.email.type) == ""),
    )
    .returning(users.c.id),
)
CONNECTIONS = (  # others may be at work on the same server
    "FROM pg_stat_activity WHERE application_name = 'taskapp' AND datname = current_database()"
)


@asynccontextmanager
async def responsive(at_most: float = 1.0) -> AsyncIterator[None]:
    """Assert that nothing blocks the event loop for longer during the block; in seconds.

    The time in which other processes had the processor does not count.
    """
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        last, last_waited = time.perf_counter(), processor_seconds(os.getpid())[1]
        while True:
            await asyncio.sleep(0.01)
            now, waited = time.perf_counter(), processor_seconds(os.getpid())[1]
            longest = max(longest, now - last - (waited - last_waited))
            last, last_waited = now, waited

    ticker = asyncio.create_task(tick())
    yield
    ticker.cancel()
    assert longest < at_most


def kill_connections(url: str) -> None:
    """Let the server terminate all connections of the pool, and wait until it has."""
    execute(url, f"SELECT pg_terminate_backend(pid) {CONNECTIONS}")
    while states(url):
        time.sleep(0.001)


def states(url: str) -> list[tuple[str, int]]:
    """Return the number of the pool's connections by state."""
    return execute(url, f"SELECT state, count(*) {CONNECTIONS} GROUP BY state")


async def fill(database: Database, connections: int) -> None:
    """Make the pool open this many connections."""
    await asyncio.gather(*(database.fetch_all(NAP, seconds=0.05) for _ in range(connections)))


def gauge(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(f"taskapp_database_pool_{name}") or 0.0


def gauges(metrics: Metrics) -> tuple[float, float, float]:
    return gauge(metrics, "size"), gauge(metrics, "used"), gauge(metrics, "waiting")


@contextmanager
def holding(url: str) -> Iterator[None]:
    """Let HELD wait for as long as the block lasts."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(1)")
        yield


def test_a_second_row_of_the_same_value_names_the_rule_it_breaks(empty_database: str) -> None:
    async def scenario() -> None:
        async with open_database(empty_database) as database:
            await insert_user(database, "alice@example.com", NO_HASH)
            with pytest.raises(UniqueViolation) as refusal:
                await insert_user(database, "alice@example.com", NO_HASH)
        assert refusal.value.constraint == "uq_users_email"

    asyncio.run(scenario())


def test_a_refused_row_does_not_disturb_the_next_statement(empty_database: str) -> None:
    async def scenario() -> None:
        async with open_database(empty_database, pool_size=1) as database:
            await insert_user(database, "alice@example.com", NO_HASH)
            for number in range(50):
                with pytest.raises(UniqueViolation):
                    await insert_user(database, "alice@example.com", NO_HASH)
                await insert_user(database, f"bob{number}@example.com", NO_HASH)
            assert await count_users(database) == 51

    asyncio.run(scenario())


def test_the_first_to_ask_is_the_first_to_get_a_connection(empty_database: str) -> None:
    """Every caller asks again at once, and is still not served twice before all others were."""
    served: list[tuple[int, int]] = []

    async def caller(database: Database, number: int) -> None:
        for turn in range(5):
            await database.fetch_all(NAP, seconds=0.001)
            served.append((turn, number))

    async def scenario() -> None:
        async with open_database(empty_database, pool_size=1) as database:
            await asyncio.gather(*(caller(database, number) for number in range(10)))

    asyncio.run(scenario())
    assert served == sorted(served)


def test_the_pool_never_exceeds_its_size_and_says_how_it_is_used(empty_database: str) -> None:
    metrics = Metrics()

    async def scenario() -> None:
        async with open_database(empty_database, 3, metrics) as database:
            with holding(empty_database):
                held = [asyncio.create_task(database.fetch_all(HELD)) for _ in range(8)]
                while gauges(metrics) != (3, 3, 5):
                    assert gauge(metrics, "size") <= 3
                    assert not any(task.done() for task in held)
                    await asyncio.sleep(0.001)
            while not all(task.done() for task in held):
                assert gauge(metrics, "size") <= 3
                await asyncio.sleep(0.001)
            await asyncio.gather(*held)
            assert states(empty_database) == [("idle", 3)]
            assert gauges(metrics) == (3, 0, 0)

    asyncio.run(scenario())


def test_timestamps_are_rfc_3339_in_utc_to_the_microsecond(empty_database: str) -> None:
    timestamps = read(
        "timestamps",
        "'2026-02-02 12:00:00+02'::timestamptz, '2026-02-02 10:00:00.000001Z'::timestamptz,"
        " '2026-02-02 10:00:00.5Z'::timestamptz, NULL::timestamptz",
    )

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            assert await database.fetch_one(timestamps) == (
                "2026-02-02T10:00:00Z",
                "2026-02-02T10:00:00.000001Z",
                "2026-02-02T10:00:00.5Z",
                None,
            )

    asyncio.run(scenario())


def test_a_read_is_tried_again_when_its_connection_was_killed(empty_database: str) -> None:
    async def scenario() -> None:
        async with open_database(empty_database, pool_size=8) as database:
            await fill(database, 8)
            kill_connections(empty_database)  # the loop stands still, and so hears nothing yet
            assert await asyncio.gather(*(database.fetch_one(ONE) for _ in range(8))) == [(1,)] * 8

    asyncio.run(scenario())


def test_a_change_on_a_killed_connection_is_made_or_unknown(empty_database: str) -> None:
    async def add(database: Database, number: int) -> bool:
        try:
            await insert_user(database, f"user{number}@example.com", NO_HASH)
        except OutcomeUnknown:
            return False
        return True

    async def scenario() -> None:
        made = 0
        async with open_database(empty_database) as database:
            for turn in range(10):
                await fill(database, 4)
                kill_connections(empty_database)
                for _ in range(10 * (turn % 2)):
                    await asyncio.sleep(0.001)  # turns enough to hear of it: then it is made
                results = await asyncio.gather(*(add(database, turn * 4 + n) for n in range(4)))
                assert all(results) or not turn % 2
                made += sum(results)
            assert await count_users(database) >= made

    asyncio.run(scenario())


def test_a_connection_that_breaks_as_it_is_made_is_unavailable(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    breaking = asyncio.Event()

    async def break_off(connection: Any) -> None:
        if breaking.is_set():
            connection.close()

    async def scenario() -> None:
        async with open_database(empty_database, pool_size=1) as database:
            kill_connections(empty_database)
            breaking.set()
            with pytest.raises(Unavailable):
                await database.fetch_one(ONE)
        with pytest.raises(Unavailable):
            await Database(1, Metrics()).open(empty_database)

    monkeypatch.setattr("taskapp.db.pool._prepare_connection", break_off)
    asyncio.run(scenario())


@pytest.mark.parametrize("when", ["before it begins", "between", "before it ends"])
def test_a_transaction_that_loses_its_connection_leaves_nothing(
    empty_database: str, when: str
) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.run(ADD, email="alice@example.com")
        if when == "between":
            await asyncio.to_thread(kill_connections, empty_database)
        await transaction.run(ADD, email="bob@example.com")
        if when == "before it ends":
            kill_connections(empty_database)

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            await database.fetch_one(ONE)
            if when == "before it begins":
                kill_connections(empty_database)
            with pytest.raises(OutcomeUnknown):
                await database.transaction("work", work)
            assert await count_users(database) == 0

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error",
    [
        psycopg2.DatabaseError("error with status PGRES_TUPLES_OK and no message from the libpq"),
        OSError(errno.EBADF, "Bad file descriptor"),
    ],
    ids=["of libpq", "of the socket"],
)
def test_an_error_that_the_server_did_not_send_leaves_the_outcome_unknown(
    empty_database: str, error: Exception
) -> None:
    async def work(transaction: Transaction) -> None:
        await transaction.run(ADD, email="alice@example.com")
        raise error

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            with pytest.raises(OutcomeUnknown):
                await database.transaction("work", work)
            assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


def test_a_transaction_is_done_as_a_whole_or_not_at_all(empty_database: str) -> None:
    async def work(transaction: Transaction) -> str:
        await transaction.run(ADD, email="alice@example.com")
        await transaction.run(ADD, email="bob@example.com")
        return "done"

    async def fail(transaction: Transaction) -> None:
        await transaction.run(ADD, email="carol@example.com")
        raise LookupError

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            assert await database.transaction("work", work) == "done"
            with pytest.raises(LookupError):
                await database.transaction("fail", fail)
            with pytest.raises(UniqueViolation):
                await database.transaction("work", work)
            assert await count_users(database) == 2

    asyncio.run(scenario())


def test_of_two_transactions_that_wait_for_each_other_one_is_refused(empty_database: str) -> None:
    for name in ("alice", "bob"):
        add_user(empty_database, name)
    impatient = change("impatient", "SET LOCAL deadlock_timeout = '50ms'")
    lock = change("lock", "UPDATE users SET updated_at = now() WHERE email = :email RETURNING id")

    def touch(
        first: str, second: str, both: asyncio.Barrier
    ) -> Callable[[Transaction], Awaitable[None]]:
        async def work(transaction: Transaction) -> None:
            await transaction.run(impatient)
            await transaction.run(lock, email=first)
            await both.wait()
            await transaction.run(lock, email=second)

        return work

    async def scenario() -> Sequence[BaseException | None]:
        alice, bob, both = "alice@example.com", "bob@example.com", asyncio.Barrier(2)
        async with open_database(empty_database) as database:
            return await asyncio.gather(
                database.transaction("one", touch(alice, bob, both)),
                database.transaction("other", touch(bob, alice, both)),
                return_exceptions=True,
            )

    refusals = [outcome for outcome in asyncio.run(scenario()) if outcome is not None]
    assert [type(refusal) for refusal in refusals] == [Unavailable]


async def add_and_linger(database: Database, chance: random.Random) -> None:
    """Add a user in a slow transaction."""

    async def work(transaction: Transaction) -> None:
        await transaction.run(ADD, email=f"{chance.random()}@example.com")
        await asyncio.sleep(chance.random() / 50)
        await transaction.run(NAP, seconds=chance.random() / 50)

    await database.transaction("linger", work)


async def start_and_cancel(database: Database, chance: random.Random) -> list[asyncio.Task[Any]]:
    """Start reads, changes and transactions, and cancel most of them at random times."""
    kinds: list[Callable[[], Coroutine[Any, Any, Any]]] = [
        lambda: database.fetch_all(NAP, seconds=chance.random() / 50),
        lambda: database.fetch_all(ADD_SLOWLY, seconds=chance.random() / 50),
        lambda: add_and_linger(database, chance),
    ]
    tasks: list[asyncio.Task[Any]] = []
    for _ in range(200):
        tasks.append(asyncio.create_task(chance.choice(kinds)()))
        await asyncio.sleep(chance.random() / 200)
        chance.choice(tasks).cancel()
    for task in chance.sample(tasks, 100):
        task.cancel()
    return tasks


def wait_for_states(url: str, expected: list[tuple[str, int]]) -> None:
    """Wait until the server has ended the statements of canceled callers."""
    wait_until(lambda: states(url) == expected)


def test_cancelled_statements_leak_no_connection_and_no_transaction(empty_database: str) -> None:
    metrics = Metrics()

    async def scenario() -> None:
        async with open_database(empty_database, 4, metrics) as database, responsive():
            tasks = await start_and_cancel(database, random.Random(2))  # noqa: S311  # a fixed seed
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            failures = {type(one) for one in outcomes if isinstance(one, BaseException)}
            assert failures == {asyncio.CancelledError}
            assert gauge(metrics, "used") == 0
            await fill(database, 4)
            await asyncio.to_thread(wait_for_states, empty_database, [("idle", 4)])

    asyncio.run(scenario())


def test_a_cancelled_statement_leaves_the_connections_of_others_alone(empty_database: str) -> None:
    """The next connection reuses the file descriptor, which a second close would close."""

    async def scenario() -> None:
        async with open_database(empty_database, pool_size=1) as database:
            for _ in range(20):
                nap = asyncio.create_task(database.fetch_all(NAP, seconds=0.05))
                await asyncio.sleep(0.01)
                nap.cancel()
                async with asyncio.timeout(LONG_ENOUGH):
                    assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


def test_a_statement_over_the_servers_time_limit_is_unavailable_and_no_surprise(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("taskapp.db.pool.OPTIONS", "-c timezone=UTC -c statement_timeout=200")

    async def scenario() -> None:
        install_loop_error_handler()
        async with open_database(empty_database) as database:
            for statement in (NAP, ADD_SLOWLY):
                with pytest.raises(Unavailable) as refusal:
                    await database.fetch_all(statement, seconds=1)
                assert type(refusal.value) is Unavailable  # it was not done, and we know it
            await fill(database, 4)

    asyncio.run(scenario())
    # PostgreSQL's own lines may still be those of an earlier test.
    assert [line for line in caplog.records if line.name != "taskapp.postgresql"] == []


@pytest.mark.parametrize(("statement", "error"), [(NAP, Unavailable), (ADD_SLOWLY, OutcomeUnknown)])
def test_a_statement_over_our_time_limit_is_given_up(
    empty_database: str,
    monkeypatch: pytest.MonkeyPatch,
    statement: Statement,
    error: type[Unavailable],
) -> None:
    async def scenario() -> None:
        async with open_database(empty_database, pool_size=2) as database:
            for _ in range(3):
                await database.fetch_one(ONE)  # opens a connection, which has no hurry
                while database.are_writes_stalled:  # noqa: ASYNC110  # until a trial write succeeds
                    await asyncio.sleep(0.001)
                with monkeypatch.context() as hasty:
                    hasty.setattr("taskapp.db.database.STATEMENT_TIMEOUT", 0.2)
                    with pytest.raises(Unavailable) as refusal:
                        await database.fetch_all(statement, seconds=1)
                assert type(refusal.value) is error
            assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


def test_the_server_gives_up_before_we_do(empty_database: str) -> None:
    """A change that took too long is then known not to have been committed."""
    limit = read("limit", "extract(epoch FROM current_setting('statement_timeout')::interval)")

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            [[seconds]] = await database.fetch_all(limit)
            assert 0 < seconds < STATEMENT_TIMEOUT < TIMEOUT

    asyncio.run(scenario())


def test_a_statement_may_take_longer_than_connecting(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.db.pool.CONNECT_TIMEOUT", 1.0)

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            await database.fetch_one(ONE)
            assert await database.fetch_all(NAP, seconds=1.5)

    asyncio.run(scenario())


def test_waiting_for_a_connection_counts_as_time(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.db.database.STATEMENT_TIMEOUT", 2)

    async def scenario() -> None:
        async with open_database(empty_database, pool_size=1) as database:
            naps = [database.fetch_all(NAP, seconds=1.1) for _ in range(4)]
            stopwatch = Stopwatch()
            outcomes = await asyncio.gather(*naps, return_exceptions=True)
            assert stopwatch.seconds < 4 * 1.1  # as long as all of them would take
        assert [type(outcome) for outcome in outcomes] == [list, *[Unavailable] * 3]

    asyncio.run(scenario())


def test_a_read_that_is_tried_again_gets_no_more_time(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.db.database.STATEMENT_TIMEOUT", 2)

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            stopwatch = Stopwatch()
            nap = asyncio.create_task(database.fetch_all(NAP, seconds=5))
            await asyncio.sleep(1)
            await asyncio.to_thread(
                execute, empty_database, f"SELECT pg_terminate_backend(pid) {CONNECTIONS}"
            )
            with pytest.raises(Unavailable):
                await nap
            assert stopwatch.seconds < 1 + 2

    asyncio.run(scenario())


def test_a_read_is_unavailable_when_it_loses_two_connections(empty_database: str) -> None:
    suicide = read("suicide", "pg_terminate_backend(pg_backend_pid())")

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            with pytest.raises(Unavailable) as refusal:
                await database.fetch_all(suicide)
            assert type(refusal.value) is Unavailable
            assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


@pytest.mark.parametrize("code", ["53100", "53200"])
def test_a_write_without_room_is_remembered_for_a_while(
    empty_database: str, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    refuse = change("refuse", f"DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '{code}'; END $$")

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            assert database.accepts_writes
            with pytest.raises(Unavailable) as refusal:
                await database.fetch_all(refuse)
            assert type(refusal.value) is Unavailable
            assert not database.accepts_writes
            assert await database.fetch_one(ONE) == (1,)
            assert not database.accepts_writes
            monkeypatch.setattr("taskapp.db.database.REJECTED_WRITE_MEMORY", 0.0)
            assert database.accepts_writes

    asyncio.run(scenario())


def test_a_read_only_server_is_asked_and_not_remembered(empty_database: str) -> None:
    refuse = change("refuse", "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '25006'; END $$")

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            with pytest.raises(Unavailable) as refusal:
                await database.fetch_all(refuse)
            assert type(refusal.value) is Unavailable
            assert database.accepts_writes

    asyncio.run(scenario())


def test_a_write_that_succeeds_again_is_remembered_at_once(empty_database: str) -> None:
    name = "a write for which there was no room"
    refused = change(name, "DO $$ BEGIN RAISE EXCEPTION USING ERRCODE = '53100'; END $$")
    done = change(name, "DO $$ BEGIN END $$")

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            with pytest.raises(Unavailable):
                await database.fetch_all(refused)
            assert not database.accepts_writes
            await database.fetch_all(done)
            assert database.accepts_writes

    asyncio.run(scenario())


def test_a_server_with_no_connection_left_is_unavailable(empty_database: str) -> None:
    execute(empty_database, "CREATE ROLE one_only LOGIN CONNECTION LIMIT 1")

    async def scenario() -> None:
        url = as_user(empty_database, "one_only")
        async with open_database(url, pool_size=2) as database:
            with holding(empty_database):
                held = asyncio.create_task(database.fetch_all(HELD))
                while not is_waited_for(empty_database):  # noqa: ASYNC110  # it is PostgreSQL that has to be asked
                    await asyncio.sleep(0.001)
                with pytest.raises(Unavailable):
                    await database.fetch_one(ONE)
            await held
            assert await database.fetch_one(ONE) == (1,)

    try:
        asyncio.run(scenario())
    finally:
        execute(empty_database, "DROP ROLE one_only")


def test_nothing_runs_before_it_is_opened_or_after_it_is_closed(empty_database: str) -> None:
    async def scenario() -> None:
        closed = Database(2, Metrics())
        with pytest.raises(Unavailable):
            await closed.fetch_one(ONE)
        async with open_database(empty_database) as database:
            nap = asyncio.create_task(database.fetch_all(NAP, seconds=0.1))
            await asyncio.sleep(0.05)
        assert nap.done()
        assert nap.exception() is None
        with pytest.raises(Unavailable):
            await database.fetch_one(ONE)

    asyncio.run(scenario())


def test_closing_waits_for_what_runs_and_not_for_what_failed(empty_database: str) -> None:
    async def scenario() -> list[Any]:
        async with open_database(empty_database, pool_size=2) as database:
            work = [
                asyncio.create_task(database.fetch_all(NAP, seconds=0.1)),
                asyncio.create_task(database.fetch_all(FAIL)),
                asyncio.create_task(database.fetch_all(NAP, seconds=0.1)),  # it has to wait
            ]
            await asyncio.sleep(0.05)
            stopwatch = Stopwatch()
        assert stopwatch.seconds < STATEMENT_TIMEOUT - 1
        return await asyncio.gather(*work, return_exceptions=True)

    done, failed, waited = asyncio.run(scenario())
    assert done == [("",)]
    assert "division by zero" in str(failed)
    assert waited == [("",)] or type(waited) is Unavailable


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://taskapp:s3cret@127.0.0.1:1/taskapp",
        "postgresql://taskapp:s3cret@/taskapp?host=/nowhere",
    ],
)
def test_a_server_that_cannot_be_reached_is_named_without_the_password(url: str) -> None:
    async def scenario() -> None:
        with pytest.raises(Unavailable, match=r"cannot be reached: \w") as refusal:
            await Database(1, Metrics()).open(url)
        assert "s3cret" not in str(refusal.value)

    asyncio.run(scenario())


def test_an_address_that_cannot_be_read_is_refused_without_the_password() -> None:
    url = "postgresql://taskapp:s3cret@localhost:nonsense/taskapp"
    with pytest.raises(SettingsError, match="cannot be read as an address") as refusal:
        asyncio.run(Database(1, Metrics()).open(url))
    assert "s3cret" not in str(refusal.value)


@pytest.fixture(scope="module")
def own_folder() -> Iterator[Path]:
    """Return a data folder whose server a test may stop."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))  # a socket's path has to be short
    yield folder / "data"
    shutil.rmtree(folder)


@asynccontextmanager
async def own_server(folder: Path) -> AsyncIterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


def test_a_stopped_server_is_unavailable_and_the_first_statement_after_it_works(
    own_folder: Path,
) -> None:
    async def scenario() -> None:
        async with own_server(own_folder) as server, open_database(server.url) as database:
            await fill(database, 4)
            for _ in range(2):
                await server.stop()
                for _ in range(3):
                    stopwatch = Stopwatch()
                    with pytest.raises(Unavailable):
                        await database.fetch_one(ONE)
                    assert stopwatch.seconds < TIMEOUT
                await server.start()
                assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


def test_the_loop_rests_after_the_server_has_closed_idle_connections(own_folder: Path) -> None:
    async def scenario() -> None:
        async with own_server(own_folder) as server, open_database(server.url, 10) as database:
            await fill(database, 10)
            await server.stop()
            before = time.process_time()
            await asyncio.sleep(1)
            assert time.process_time() - before < 0.3

    asyncio.run(scenario())


class Proxy:
    """Connects a pool to its server; it can stop forwarding, or cut off a response."""

    def __init__(self, folder: Path, target: str) -> None:
        self._path = folder / ".s.PGSQL.5432"
        self._target = target
        self.passes = asyncio.Event()
        self.passes.set()
        self.cuts_next_answer = False
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_unix_server(self._accept, self._path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        self._tasks.add(task)
        await self.passes.wait()
        there, out = await asyncio.open_unix_connection(self._target)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._pump(here, out))
                both.create_task(self._pump(there, back, is_answer=True))
        finally:
            for writer in (out, back):
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, is_answer: bool = False
    ) -> None:
        while data := await source.read(65536):
            await self.passes.wait()
            if is_answer and self.cuts_next_answer:
                self.cuts_next_answer = False
                break
            sink.write(data)
        sink.close()


@pytest.fixture
def proxied(empty_database: str) -> Iterator[tuple[Path, str, str]]:
    """Return the folder of a proxy's socket, the server's socket, and the URL through the proxy."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))
    [(socket,)] = execute(empty_database, "SHOW unix_socket_directories")
    [(port,)] = execute(empty_database, "SHOW port")
    url = psycopg2.extensions.make_dsn(empty_database, host=str(folder), port="5432")
    yield folder, str(Path(socket.strip('"'), f".s.PGSQL.{port}")), url
    shutil.rmtree(folder)


def test_a_network_that_swallows_everything_is_unavailable_in_time(
    proxied: tuple[Path, str, str],
) -> None:
    folder, target, url = proxied

    async def ask(database: Database) -> float:
        stopwatch = Stopwatch()
        with pytest.raises(Unavailable):
            await database.fetch_one(ONE)
        return stopwatch.seconds

    async def scenario() -> None:
        async with Proxy(folder, target) as proxy, open_database(url, 4) as database:
            await fill(database, 2)  # so that some wait for an answer, and some for a connection
            proxy.passes.clear()
            async with responsive():
                waits = await asyncio.gather(*(ask(database) for _ in range(12)))
            assert max(waits) < TIMEOUT
            proxy.passes.set()
            assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())


def test_a_change_whose_answer_is_cut_off_is_unknown_and_made_once(
    proxied: tuple[Path, str, str], empty_database: str
) -> None:
    folder, target, url = proxied

    async def scenario() -> None:
        async with Proxy(folder, target) as proxy, open_database(url, 1) as database:
            proxy.cuts_next_answer = True
            with pytest.raises(OutcomeUnknown):
                await database.fetch_all(ADD, email="alice@example.com")
            assert execute(empty_database, "SELECT email FROM users") == [("alice@example.com",)]
            for _ in range(2):
                assert await database.fetch_one(ONE) == (1,)  # a read may be asked again
                proxy.cuts_next_answer = True

    asyncio.run(scenario())


def test_who_is_late_and_cancelled_as_well_is_cancelled(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.db.database.STATEMENT_TIMEOUT", 1)

    async def scenario() -> None:
        async with open_database(empty_database) as database:
            nap = asyncio.create_task(database.fetch_all(NAP, seconds=5))
            await asyncio.sleep(0.1)
            time.sleep(1)  # noqa: ASYNC251  # so that both come before the task is woken
            nap.cancel()
            with pytest.raises(asyncio.CancelledError):
                await nap
            monkeypatch.undo()
            assert await database.fetch_one(ONE) == (1,)

    asyncio.run(scenario())
