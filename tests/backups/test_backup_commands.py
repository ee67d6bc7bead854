"""The commands for backups: what they say, and what they refuse."""

import asyncio
import re
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from urllib.parse import quote

import click
import psycopg2
import pytest
from click.testing import CliRunner
from sqlalchemy import text

from taskapp.backups.checksums import snapshot
from taskapp.backups.create import make_backup
from taskapp.backups.dump import restore_dump
from taskapp.backups.repository import DESCRIPTION, Backup, BackupError
from taskapp.cli.commands import COMMANDS, LazyCommands
from taskapp.db.migrations import HEAD, Revision, migrate, read_revision
from tests.support.backup_tools import (
    Instance,
    change_description,
    instance,
    original,
    short_parent,
    without_progress,
)
from tests.support.database_fixtures import (
    NEWER,
    add_tasks,
    add_user,
    as_user,
    execute,
    is_waited_for,
    make_newer,
    new_database,
    open_database,
    set_time_limits,
)
from tests.support.server_process import LONG_ENOUGH, wait_until

__all__ = ["instance", "original"]  # fixtures

cli = click.Group("taskapp", commands=LazyCommands(COMMANDS))
TABLES = "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"
TIMESTAMP = r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC"


def run(instance: Instance, *arguments: str, code: int = 0, **changes: str) -> str:
    texts = instance.settings(**changes).texts
    result = CliRunner().invoke(cli, arguments, env=dict(texts))
    if isinstance(result.exception, Exception):
        raise result.exception
    assert result.exit_code == code, result.output
    return without_progress(result.output)


def test_backups_are_made_listed_verified_and_restored(instance: Instance) -> None:
    assert re.fullmatch(r"Made /\S+Z-base, \d\.\d MiB\.\n", run(instance, "backup"))
    heading, newest, oldest = run(instance, "backup", "list").splitlines()
    assert heading.split() == ["NAME", "STATE", "OF", "DATABASE", "CONTENTS"]
    made = r"\d\.\d MiB, PostgreSQL \d\d and a dump"
    assert re.search(rf"Z-base  {TIMESTAMP}  this one  1 account, 3 tasks, {made}$", newest)
    assert re.search(rf"Z-base  {TIMESTAMP}  this one  1 account, 1 task, {made}$", oldest)
    said = run(instance, "backup", "verify", oldest.split()[0])
    assert re.match(rf"/\S+ is good: it starts, and holds the 5 rows of {TIMESTAMP}", said)
    assert re.search(r"The archive after it is good: \d+ files\.\n$", said)
    said = run(instance, "restore", "--backup", oldest.split()[0])
    assert re.match(
        rf"Restored {TIMESTAMP}\.\nIt holds 1 account and 1 task; the last change", said
    )
    assert "Everybody has to log in again, and scripts need new tokens: 2 sessions ended.\n" in said
    assert f"What was there before is in {instance.data_dir}/postgres.before-" in said


def test_the_name_of_a_folder_gives_a_terminal_no_commands(instance: Instance) -> None:
    (made,) = instance.backups
    made.path.rename(made.path.with_name("a\nb\x1b[31m"))
    (made.path.with_name("20361126T030000.000000Z-base")).mkdir()
    _, line, warning = run(instance, "backup", "list").splitlines()
    assert line.startswith(r"a\nb\u001b[31m  ")
    assert "has no backup.json" in warning


@pytest.mark.parametrize("arguments", [["restore"], ["backup", "verify"]])
def test_what_the_disk_refuses_is_a_sentence(instance: Instance, arguments: list[str]) -> None:
    segment = instance.wal[-1]
    segment.unlink()
    segment.mkdir()
    said = run(instance, *arguments, code=1)
    assert str(segment) in said or segment.stem in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said", "code"),
    [
        (["restore", "--to", "yesterday"], "is no time such as", 2),
        (["restore", "--to", "2026-01-01 10:00", "--backup", "x"], "not both", 2),
        (["restore", "--replace"], "is for a PostgreSQL of your own", 2),
        (["restore", "--backup", "x"], "There is no backup x in", 1),
        (["backup", "verify", "x"], "There is no backup x in", 1),
        (["restore", "--to", "2001-01-01 10:00"], "from before 2001-01-01 10:00:00 UTC", 1),
        (["restore", "--to", "2001-01-01T10:00+02:00"], "from before 2001-01-01 08:00:00 UTC", 1),
    ],
)
def test_what_cannot_be_done_is_said(
    original: Instance, arguments: list[str], said: str, code: int
) -> None:
    assert said in run(original, *arguments, code=code)


# A PostgreSQL of one's own


def test_a_server_of_ones_own_is_dumped_verified_and_restored(
    instance: Instance, database_url: str
) -> None:
    (instance.backups[0].path).rename(instance.data_dir / "moved")
    with new_database(database_url) as url, new_database(database_url) as other:
        assert "Made " in run(instance, "backup", DATABASE_URL=url)
        add_user(url, "alice")
        assert "-dump, " in run(instance, "backup", DATABASE_URL=url)
        assert "0 accounts, 0 tasks" in run(instance, "backup", "list").splitlines()[2]
        assert "holds the 2 rows" in run(instance, "backup", "verify", DATABASE_URL=url)
        said = run(instance, "restore", DATABASE_URL=other)
        assert re.match(rf"Restored {TIMESTAMP}\.\nIt holds 1 account and 0 tasks", said)
        assert execute(other, "SELECT email FROM users") == [("alice@example.com",)]
        add_user(other, "bob")
        said = run(instance, "restore", DATABASE_URL=other, code=1)
        assert "The database holds tables already." in said
        assert len(execute(other, "SELECT email FROM users")) == 2
        oldest = instance.backups[-1]
        said = run(instance, "restore", "--replace", "--backup", oldest.name, DATABASE_URL=other)
        assert "It holds 0 accounts" in said
        kept = instance.backups[0]
        assert f"What was there before is in {kept.path};" in said
        assert kept.tables["users"][0] == 2
        said = run(instance, "restore", "--to", "2026-01-01 10:00", DATABASE_URL=other, code=2)
        assert "A dump holds one state." in said


def test_a_dump_of_a_newer_schema_or_a_damaged_one_is_refused(
    instance: Instance, database_url: str
) -> None:
    with new_database(database_url) as url, new_database(database_url) as other:
        run(instance, "backup", DATABASE_URL=url)
        dump = instance.backups[0].path
        content = (dump / DESCRIPTION).read_text()
        for oldest_program in ("", "9998"):  # a version before this one wrote none
            change_description(dump, revision="9999", oldest_program=oldest_program)
            said = run(instance, "restore", DATABASE_URL=other, code=1)
            assert "revision 9999" in said
        (dump / DESCRIPTION).write_text(content)
        (dump / "database.dump").write_bytes(b"")
        assert "is damaged: database.dump." in run(instance, "restore", DATABASE_URL=other, code=1)
        assert execute(other, TABLES) == [(0,)]


def test_a_dump_of_a_newer_schema_that_this_program_may_use_is_restored_and_still_says_so(
    instance: Instance, database_url: str
) -> None:
    with new_database(database_url) as url, new_database(database_url) as other:
        asyncio.run(migrate(url))
        make_newer(url, oldest_program=HEAD)
        run(instance, "backup", DATABASE_URL=url)
        run(instance, "restore", DATABASE_URL=other)
        assert read_revision(other) == Revision(NEWER, HEAD)
        said = run(instance, "migrate", DATABASE_URL=other)
        assert f"Nothing to migrate: the database is at revision {NEWER}" in said


@pytest.fixture
def dump(instance: Instance, database_url: str) -> Backup:
    """A dump of more tasks than fit into the pipes between the programs that restore it."""
    with new_database(database_url) as url:
        asyncio.run(migrate(url))
        add_tasks(url, add_user(url, "alice"), 10_000)
        run(instance, "backup", DATABASE_URL=url)
    return instance.backups[0]


def test_a_dump_is_restored_as_a_whole_or_not_at_all(dump: Backup, database_url: str) -> None:
    path = dump.path / "database.dump"
    content = path.read_bytes()
    with new_database(database_url) as url:
        for end in (0, 100, len(content) // 2, len(content) - 1000):
            path.write_bytes(content[:end])
            with pytest.raises(BackupError, match="pg_restore: error: "):
                asyncio.run(restore_dump(dump, url))
            assert execute(url, TABLES) == [(0,)]
        path.write_bytes(content)
        asyncio.run(restore_dump(dump, url))
        with pytest.raises(BackupError, match="already exists"):
            asyncio.run(restore_dump(dump, url))
        assert execute(url, "SELECT count(*) FROM tasks") == [(10_000,)]


def test_a_restore_that_is_cancelled_leaves_the_database_empty(
    dump: Backup, database_url: str
) -> None:
    others = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    async def scenario(url: str) -> None:
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE tasks ()")  # which the restore waits for
            restore = asyncio.create_task(restore_dump(dump, url))
            await asyncio.to_thread(wait_until, lambda: is_waited_for(url))
            restore.cancel()
            with pytest.raises(asyncio.CancelledError):
                await restore
        wait_until(lambda: not execute(url, others))
        assert execute(url, TABLES) == [(0,)]

    with new_database(database_url) as url:
        asyncio.run(scenario(url))


def test_a_database_that_is_away_fails_the_backup_without_its_password(instance: Instance) -> None:
    said = run(instance, "backup", DATABASE_URL="postgresql://ada:hidden@127.0.0.1:1/x", code=1)
    assert "cannot be reached" in said
    assert "hidden" not in said


# Beside a running server


def test_a_server_of_ones_own_that_is_used_is_not_restored_under(
    instance: Instance, database_url: str
) -> None:
    async def beside(url: str, *arguments: str) -> str:
        async with open_database(url):  # as a server of whatever machine is connected
            return await asyncio.to_thread(run, instance, *arguments, code=1, DATABASE_URL=url)

    with new_database(database_url) as url, new_database(database_url) as empty:
        run(instance, "backup", DATABASE_URL=url)
        add_user(url, "alice")
        name = instance.backups[0].name
        for arguments in (["restore", "--replace"], ["restore", "--replace", "--backup", name]):
            assert "A taskapp server uses this database" in asyncio.run(beside(url, *arguments))
        assert execute(url, "SELECT email FROM users") == [("alice@example.com",)]
        assert len(instance.backups) == 2  # none was made before it was refused
        said = asyncio.run(beside(empty, "restore", "--backup", name))
        assert "A taskapp server uses this database" in said
        assert execute(empty, TABLES) == [(0,)]
        assert "It holds 0 accounts" in run(instance, "restore", "--replace", DATABASE_URL=url)


def test_nobody_writes_between_the_dump_and_the_end_of_what_is_replaced(
    instance: Instance, database_url: str
) -> None:
    with new_database(database_url) as url:
        run(instance, "backup", DATABASE_URL=url)
        add_user(url, "alice")
        with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
            cursor.execute("UPDATE users SET email = 'bob@example.com'")
            restored = ThreadPoolExecutor(1).submit(
                run, instance, "restore", "--replace", DATABASE_URL=url
            )
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: execute(url, waiting) == [(1,)])
            connection.commit()
        restored.result(LONG_ENOUGH)
        assert instance.backups[0].tables["users"][0] == 1  # what was written last is in the dump
        assert execute(url, "SELECT email FROM users") == []


def test_a_server_that_starts_meanwhile_finds_what_was_restored(
    instance: Instance, database_url: str
) -> None:
    with new_database(database_url) as url, new_database(database_url) as other:
        run(instance, "backup", DATABASE_URL=url)
        add_tasks(url, add_user(url, "alice"), 10_000)
        run(instance, "backup", DATABASE_URL=url)
        with ThreadPoolExecutor(2) as threads:
            restored = threads.submit(run, instance, "restore", DATABASE_URL=other)
            locked = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            wait_until(lambda: execute(other, locked) == [(1,)])
            started = threads.submit(asyncio.run, migrate(other))
            assert "It holds 1 account and 10000 tasks" in restored.result(LONG_ENOUGH)
            assert started.result(LONG_ENOUGH) is False
        assert execute(other, "SELECT count(*) FROM tasks") == [(10_000,)]


# A schema of one's own


def test_tables_outside_public_are_backed_up_verified_and_restored(
    instance: Instance, database_url: str
) -> None:
    def with_schema(url: str) -> str:
        execute(url, "CREATE SCHEMA tasks")
        execute(url, "CREATE TABLE public.neighbour AS SELECT 1 AS one")
        return f"{url}&options=-csearch_path%3Dtasks"

    with new_database(database_url) as first, new_database(database_url) as second:
        url, other = with_schema(first), with_schema(second)
        asyncio.run(migrate(url))
        add_user(url, "alice")
        run(instance, "backup", DATABASE_URL=url)
        assert "holds the 2 rows" in run(instance, "backup", "verify", DATABASE_URL=url)
        assert "It holds 1 account" in run(instance, "restore", DATABASE_URL=other)
        add_user(other, "bob")
        name = instance.backups[0].name
        execute(second, "CREATE SCHEMA first")
        for address in (other, other.replace("%3Dtasks", "%3Dfirst,tasks")):
            said = run(instance, "restore", "--replace", "--backup", name, DATABASE_URL=address)
            assert "It holds 1 account" in said
            assert execute(address, "SELECT email FROM users") == [("alice@example.com",)]
        assert execute(second, "SELECT one FROM neighbour") == [(1,)]


@pytest.mark.parametrize("schema", ["public", 'Alice\'s "tasks"'])
def test_a_database_is_shared_with_programs_whose_tables_nobody_else_may_read(
    instance: Instance, database_url: str, schema: str
) -> None:
    """The user of taskapp may create tables in its schema, and no schema."""
    quoted = '"{}"'.format(schema.replace('"', '""'))
    with new_database(database_url) as owner:
        user = f"shares_{secrets.token_hex(4)}"
        execute(owner, f"CREATE ROLE {user} LOGIN")
        execute(owner, f"CREATE SCHEMA IF NOT EXISTS {quoted}")
        execute(owner, f"GRANT CREATE, USAGE ON SCHEMA {quoted} TO {user}")
        execute(owner, "CREATE SCHEMA ledgers")
        execute(owner, "CREATE TABLE ledgers.ledger AS SELECT 1 AS one")
        path = quote(quoted.replace(" ", "\\ "), safe="")
        url = f"{as_user(owner, user)}&options=-csearch_path%3D{path}"
        asyncio.run(migrate(url))
        add_user(url, "alice")
        run(instance, "backup", DATABASE_URL=url)
        assert "holds the 2 rows" in run(instance, "backup", "verify", DATABASE_URL=url)
        add_user(url, "bob")
        run(instance, "restore", "--replace", DATABASE_URL=url)
        assert execute(url, "SELECT email FROM users") == [("alice@example.com",)]
        assert execute(owner, "SELECT one FROM ledgers.ledger") == [(1,)]
    execute(database_url, f"DROP ROLE {user}")


def test_what_other_programs_have_in_the_same_schema_is_neither_dumped_nor_touched(
    instance: Instance, database_url: str
) -> None:
    """They belong to another role; the user of taskapp may not read them."""
    with new_database(database_url) as owner:
        user = f"shares_{secrets.token_hex(4)}"
        execute(owner, f"CREATE ROLE {user} LOGIN")
        execute(owner, f"GRANT CREATE, USAGE ON SCHEMA public TO {user}")
        execute(owner, 'CREATE TABLE "Ledger $1" (id serial, day date) PARTITION BY RANGE (day)')
        execute(owner, 'CREATE TABLE first_days PARTITION OF "Ledger $1" DEFAULT')
        execute(owner, "INSERT INTO \"Ledger $1\" (day) VALUES ('2026-01-01')")
        execute(owner, 'CREATE VIEW days AS SELECT day FROM "Ledger $1"')
        execute(owner, "SELECT lo_create(0)")
        url = as_user(owner, user)
        asyncio.run(migrate(url))
        add_user(url, "alice")
        run(instance, "backup", DATABASE_URL=url)
        assert "holds the 2 rows" in run(instance, "backup", "verify", DATABASE_URL=url)
        add_user(url, "bob")
        run(instance, "restore", "--replace", DATABASE_URL=url)
        assert execute(url, "SELECT email FROM users") == [("alice@example.com",)]
        assert execute(owner, "SELECT day::text FROM days") == [("2026-01-01",)]

        execute(owner, "CREATE VIEW report AS SELECT email FROM users")
        said = run(instance, "restore", "--replace", code=1, DATABASE_URL=url)
        assert "depends on taskapp's tables: view report depends on table users. Drop" in said
        assert execute(owner, "SELECT email FROM report") == [("alice@example.com",)]
    execute(database_url, f"DROP ROLE {user}")


def test_tables_that_an_operator_has_partitioned_are_backed_up_and_replaced(
    instance: Instance, database_url: str
) -> None:
    with new_database(database_url) as url:
        asyncio.run(migrate(url))
        add_user(url, "alice")
        execute(url, "CREATE TABLE parts (LIKE users) PARTITION BY HASH (id)")
        execute(
            url, "CREATE TABLE part_0 PARTITION OF parts FOR VALUES WITH (modulus 1, remainder 0)"
        )
        execute(url, "INSERT INTO parts SELECT * FROM users")
        run(instance, "backup", DATABASE_URL=url)
        execute(url, "DELETE FROM parts")
        run(instance, "restore", "--replace", DATABASE_URL=url)
        assert execute(url, "SELECT email FROM part_0") == [("alice@example.com",)]


def test_no_limit_of_time_that_is_set_for_the_user_ends_a_backup(database_url: str) -> None:
    """A snapshot is idle for as long as pg_dump runs."""
    with new_database(database_url) as url:
        names = set_time_limits(url)
        with snapshot(url) as (connection, _):
            found = text("SELECT DISTINCT setting FROM pg_settings WHERE name = ANY(:names)")
            assert connection.execute(found, {"names": names}).scalars().all() == ["0"]


def test_a_database_without_our_tables_is_no_backup(instance: Instance, database_url: str) -> None:
    with new_database(database_url) as url, pytest.raises(BackupError, match="nothing to keep"):
        asyncio.run(make_backup(instance.settings(DATABASE_URL=url), url))


# A later major version


def test_a_dump_of_the_embedded_database_is_for_another_cluster(instance: Instance) -> None:
    run(instance, "backup", "--dump")
    dump = instance.backups[0]
    assert (dump.kind, dump.is_routine) == ("dump", False)
    instance.write("third")
    with short_parent() as parent:
        later = Instance(parent / "data", instance.data_dir / "backups")
        run(later, "restore", "--backup", dump.name)
        assert later.titles() == ["before the backup", "first", "second"]
    instance.restore()  # to the last change, and not to the dump
    assert instance.titles() == ["before the backup", "first", "second", "third"]
