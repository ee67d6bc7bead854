"""A migration of many rows is stopped or killed: nothing is half done, and the next one goes on."""

import asyncio
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
from alembic import command

from taskapp.db.migrations import HEAD, STOPPED, migrate
from tests.db.test_migrations import alembic, catalog, revision_of
from tests.support.database_fixtures import add_tasks, add_user, execute, new_database
from tests.support.server_process import (
    LONG_ENOUGH,
    ServerProcess,
    postgres_processes,
    server_process,
    wait_until,
)

BEFORE = "0007"  # four migrations before the one that counts the tasks of each user
TASKS = 5000
# Counting takes for ever the first times, after all else that the migrations do in its transaction.
# A sequence alone stays as it is when they are rolled back.
SLOW = """
    CREATE SEQUENCE attempts;
    CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN IF nextval('attempts') <= %s THEN PERFORM pg_sleep(3600); END IF; RETURN NEW; END $$;
    CREATE TRIGGER take_long BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION take_long()
"""
AT_WORK = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND"
COUNTING = f"{AT_WORK} wait_event = 'PgSleep'"
CONNECTED = f"{AT_WORK} application_name = 'taskapp migrations'"
COUNTS = "SELECT task_count FROM users"


def make_old(url: str, *, attempts: int) -> None:
    """Fill a database of before, whose migration takes for ever this many times."""
    alembic(url, lambda config: command.upgrade(config, BEFORE))
    add_tasks(url, add_user(url, "alice"), TASKS)
    execute(url, SLOW, attempts)


@contextmanager
def migrating(folder: Path, url: str, *arguments: str) -> Iterator[ServerProcess]:
    settings = {"TASKAPP_DATABASE_URL": url}
    with server_process(folder, *arguments, settings=settings) as process:
        yield process


@pytest.mark.parametrize("arguments", [(), ("migrate",)], ids=["start", "migrate"])
def test_of_a_stopped_migration_nothing_is_left_and_the_next_one_goes_on(
    database_url: str, folder: Path, arguments: tuple[str, ...]
) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGKILL)
    with ExitStack() as stack:
        urls = [stack.enter_context(new_database(database_url)) for _ in numbers]
        for url in urls:
            make_old(url, attempts=1)
        before = catalog(urls[0])
        stopped = [stack.enter_context(migrating(folder, url, *arguments)) for url in urls]
        wait_until(lambda: all(execute(url, COUNTING) == [(1,)] for url in urls))
        for process, number in zip(stopped, numbers, strict=True):
            process.process.send_signal(number)
        codes = [process.process.wait(LONG_ENOUGH) for process in stopped]
        assert codes == ([1, 1, -signal.SIGKILL] if arguments else [0, 0, -signal.SIGKILL])
        for process in stopped[:2]:
            assert STOPPED in process.log_text
            assert "Traceback" not in process.log_text
        # PostgreSQL notices that nobody waits for the statement, which holds locks.
        wait_until(lambda: all(execute(url, CONNECTED) == [(0,)] for url in urls))
        for url in urls:
            assert (catalog(url), revision_of(url)) == (before, BEFORE)
        for url in urls:
            assert asyncio.run(migrate(url))
            assert (revision_of(url), execute(url, COUNTS)) == (HEAD, [(TASKS,)])


def test_an_embedded_database_is_as_before_too(folder: Path) -> None:
    with server_process(folder) as server:
        server.wait_until_ready()
        url = f"postgresql://taskapp@/postgres?host={folder}/socket"
        alembic(url, lambda config: command.downgrade(config, "base"))
        make_old(url, attempts=2)
    for number, arguments in ((signal.SIGTERM, ("migrate",)), (signal.SIGKILL, ())):
        with server_process(folder, *arguments) as process:
            wait_until(lambda: is_counting(url))
            assert process.end(number) == (-number if number == signal.SIGKILL else 1)
            wait_until(lambda: not postgres_processes(folder))
    with server_process(folder) as server, server.wait_until_ready().client() as alice:
        assert (revision_of(url), execute(url, COUNTS)) == (HEAD, [(TASKS,)])
        alice.sign_up("bob@example.com")
        assert len(list((folder / "backups").glob("*-before-migration-*"))) == 3


def is_counting(url: str) -> bool:
    try:
        return execute(url, COUNTING) == [(1,)]
    except psycopg2.OperationalError:  # it is starting
        return False
