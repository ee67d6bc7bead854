"""Migrations create the tables from any older revision, one process at a time."""

import asyncio
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from urllib.parse import quote

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, make_url, text

from schema import COMPATIBILITY
from schema.tables import metadata
from taskapp.core.errors import Unavailable
from taskapp.db.migrations import (
    FOLDER,
    HEAD,
    LOCK,
    IncompatibleMigrationError,
    MigrationError,
    NewerDatabaseError,
    Revision,
    connected,
    migrate,
    read_revision,
)
from tests.support.database_fixtures import (
    add_session,
    add_user,
    as_user,
    execute,
    new_database,
    set_time_limits,
)
from tests.support.server_process import LONG_ENOUGH

REVISIONS = [path.name[:4] for path in sorted((FOLDER / "versions").glob("[0-9]*.py"))]
# The definitions of the tables in PostgreSQL's catalog, by name.
CATALOG = """
    SELECT 'column', table_name || '.' || column_name,
           concat_ws(' ', data_type, is_nullable, column_default)
    FROM information_schema.columns WHERE table_schema = 'public'
    UNION ALL
    SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE connamespace = 'public'::regnamespace
    UNION ALL
    SELECT 'index', tablename || '.' || indexname, indexdef
    FROM pg_indexes WHERE schemaname = 'public'
"""


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """Return the URL of a database without tables."""
    with new_database(database_url) as own_url:
        yield own_url


@contextmanager
def connection(url: str) -> Iterator[Connection]:
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"), poolclass=NullPool)
    with engine.connect() as opened:
        yield opened


def alembic(url: str, work: Callable[[Config], None]) -> None:
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    with connection(url) as opened:
        config.attributes["connection"] = opened
        work(config)
        opened.commit()


def step(
    url: str, direction: Callable[[Config, str], None], revision: str
) -> dict[tuple[str, str], str]:
    """Go up or down to a revision, and return the catalog there."""
    alembic(url, lambda config: direction(config, revision))
    return catalog(url)


def catalog(url: str) -> dict[tuple[str, str], str]:
    return {(kind, name): text for kind, name, text in execute(url, CATALOG)}


def revision_of(url: str) -> str:
    [[revision]] = execute(url, "SELECT version_num FROM alembic_version")
    return str(revision)


def test_the_migrations_make_what_the_tables_say(url: str, database_url: str) -> None:
    assert asyncio.run(migrate(url)) is True
    alembic(url, command.check)
    with connection(url) as opened:
        context = MigrationContext.configure(
            opened, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, metadata) == []
    with new_database(database_url) as direct_url, connection(direct_url) as opened:
        metadata.create_all(opened)
        opened.commit()
        expected = catalog(direct_url)
    found = {key: text for key, text in catalog(url).items() if "alembic_version" not in key[1]}
    assert found == expected
    assert len(expected) > 30


def test_head_is_the_last_of_one_line_of_revisions() -> None:
    script = ScriptDirectory(str(FOLDER))
    assert script.get_heads() == [HEAD] == REVISIONS[-1:]
    assert [revision.revision for revision in script.walk_revisions()] == REVISIONS[::-1]


def test_a_migrated_database_is_left_alone(url: str) -> None:
    assert [asyncio.run(migrate(url)) for _ in range(3)] == [True, False, False]
    assert revision_of(url) == HEAD


def test_it_goes_down_to_nothing_and_up_again_step_by_step(url: str) -> None:
    on_the_way_up = [step(url, command.upgrade, revision) for revision in REVISIONS]
    on_the_way_down = [step(url, command.downgrade, revision) for revision in REVISIONS[-2::-1]]
    assert on_the_way_down == on_the_way_up[-2::-1]
    nothing = step(url, command.downgrade, "base")
    assert {name.split(".")[0] for _, name in nothing} == {"alembic_version"}
    assert asyncio.run(migrate(url)) is True
    assert catalog(url) == on_the_way_up[-1]


def test_what_is_stored_survives_every_migration(url: str) -> None:
    alembic(url, lambda config: command.upgrade(config, "0001"))
    alice = add_user(url, "alice")
    add_session(url, alice)
    asyncio.run(migrate(url))
    assert execute(url, "SELECT id::text, email FROM users") == [(alice, "alice@example.com")]
    assert execute(url, "SELECT user_id::text FROM sessions") == [(alice,)]


def test_tokens_of_one_name_get_different_ones_and_keep_working(url: str) -> None:
    alembic(url, lambda config: command.upgrade(config, "0005"))
    longest = "x" * 100
    for name in ("alice", "bob"):
        user = add_user(url, name)
        for hours, token in enumerate(["Backup", "Backup", longest, longest, longest]):
            session = add_session(url, user)
            execute(
                url,
                "UPDATE sessions SET name = %s, created_at = now() + make_interval(hours => %s)"
                " WHERE secret_hash = %s",
                token,
                hours,
                session.secret_hash,
            )
    secrets = execute(url, "SELECT secret_hash FROM sessions ORDER BY 1")
    asyncio.run(migrate(url))
    assert execute(url, "SELECT secret_hash FROM sessions ORDER BY 1") == secrets
    named = execute(
        url,
        "SELECT name = %s OR name = 'Backup', left(name, 6), count(*) FROM sessions"
        " GROUP BY user_id, 1, 2 ORDER BY 1, 2",
        longest,
    )
    of_each = [(False, "Backup", 1), (False, "xxxxxx", 2), (True, "Backup", 1), (True, "xxxxxx", 1)]
    assert named == [each for each in of_each for _ in ("alice", "bob")]


def _migrate(url: str) -> bool:
    return asyncio.run(migrate(url))


def test_of_processes_that_start_at_once_one_migrates_and_all_go_on(url: str) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(3, mp_context=context) as pool:
        outcomes = list(pool.map(_migrate, [url] * 3))
    assert sorted(outcomes) == [False, False, True]
    assert revision_of(url) == HEAD


def test_it_waits_for_another_process_and_leaves_the_lock_behind(url: str) -> None:
    """Two migrations in one process run one after the other too, and no connection blocks them."""

    async def scenario() -> list[bool]:
        return await asyncio.gather(*(migrate(url) for _ in range(4)))

    assert sorted(asyncio.run(scenario())) == [False, False, False, True]
    assert execute(url, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory'") == []
    left = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'taskapp migrations'"
    assert execute(url, left) == []


def test_a_newer_database_is_refused_and_left_as_it_is(url: str) -> None:
    asyncio.run(migrate(url))
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    before = catalog(url)
    with pytest.raises(NewerDatabaseError, match=rf"at revision 9999, .* none after {HEAD}\."):
        asyncio.run(migrate(url))
    assert (catalog(url), revision_of(url)) == (before, "9999")


def test_each_revision_says_in_the_database_which_programs_may_use_it(url: str) -> None:
    script = ScriptDirectory(str(FOLDER))
    stated = {each.revision: each.module.oldest_program for each in script.walk_revisions()}
    oldest = [stated[revision] for revision in REVISIONS]
    assert oldest == sorted(oldest)  # a program that is shut out does not come back
    assert {*oldest} <= {*REVISIONS}
    assert all(stated[revision] <= revision for revision in REVISIONS)
    up, down = (partial(step, url, direction) for direction in (command.upgrade, command.downgrade))
    for go, revisions in ((up, REVISIONS), (down, REVISIONS[-2::-1])):
        for revision in revisions:
            go(revision)
            assert read_revision(url) == Revision(revision, stated[revision])


@pytest.mark.parametrize(
    ("comment", "may_be_used"),
    [
        (COMPATIBILITY.format(revision="9999", oldest_program=HEAD), True),
        (COMPATIBILITY.format(revision="9999", oldest_program="0001"), True),
        (COMPATIBILITY.format(revision="9999", oldest_program="9998"), False),
        (COMPATIBILITY.format(revision="9998", oldest_program=HEAD), False),
        (COMPATIBILITY.format(revision="9999", oldest_program=HEAD) + "0", False),
        (COMPATIBILITY.format(revision="9999", oldest_program=""), False),
        ("Ours", False),
        (None, False),
    ],
    ids=["this", "older", "newer", "other revision", "longer", "without", "text", "none"],
)
def test_a_newer_database_is_used_if_it_says_that_this_program_may(
    url: str, comment: str | None, may_be_used: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(migrate(url))
    execute(url, "UPDATE alembic_version SET version_num = '9999'")
    execute(url, "COMMENT ON TABLE alembic_version IS %s", comment)
    capsys.readouterr()
    if may_be_used:
        assert asyncio.run(migrate(url)) is False
        assert "database.newer_accepted" in capsys.readouterr().err
    else:
        with pytest.raises(NewerDatabaseError):
            asyncio.run(migrate(url))
    assert revision_of(url) == "9999"


def test_on_demand_no_program_that_may_use_the_tables_now_is_shut_out(url: str) -> None:
    assert asyncio.run(migrate(url, only_compatible=True)) is True  # an empty database
    head = read_revision(url)
    assert head
    older = REVISIONS[REVISIONS.index(head.oldest_program) - 1]
    step(url, command.downgrade, older)
    with pytest.raises(IncompatibleMigrationError, match=f"of revision {older} cannot use"):
        asyncio.run(migrate(url, only_compatible=True))
    assert revision_of(url) == older
    step(url, command.upgrade, head.oldest_program)
    asyncio.run(migrate(url, only_compatible=True))
    assert revision_of(url) == HEAD


def test_an_unknown_revision_is_rejected(url: str) -> None:
    asyncio.run(migrate(url))
    execute(url, "UPDATE alembic_version SET version_num = '0000'")
    with pytest.raises(MigrationError, match=r"cannot be migrated: .*0000"):
        asyncio.run(migrate(url))
    assert revision_of(url) == "0000"


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII"])
def test_tables_are_not_created_where_characters_would_be_lost(
    database_url: str, encoding: str
) -> None:
    options = f"ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' LOCALE_PROVIDER libc"
    with (
        new_database(database_url, options) as url,
        pytest.raises(MigrationError, match=f"has the encoding {encoding}, .* ENCODING 'UTF8'"),
    ):
        asyncio.run(migrate(url))


@pytest.mark.parametrize("path", ["", '"not there"', "pg_temp"])
def test_a_search_path_that_leads_nowhere_is_refused_with_the_fix(url: str, path: str) -> None:
    options = quote(f"-csearch_path={path}".replace(" ", "\\ "))
    with pytest.raises(MigrationError, match=r"leads to no schema .* Run GRANT USAGE, CREATE"):
        asyncio.run(
            migrate(f"{url}&options={options}" if "?" in url else f"{url}?options={options}")
        )


def test_a_failing_migration_changes_nothing(url: str) -> None:
    alembic(url, lambda config: command.upgrade(config, "0001"))
    execute(url, "CREATE VIEW tasks AS SELECT 1")  # in the way of the next one
    before = catalog(url)
    with pytest.raises(MigrationError, match=r"The database refuses: .*tasks"):
        asyncio.run(migrate(url))
    assert (catalog(url), revision_of(url)) == (before, "0001")


def test_a_backup_is_made_before_a_database_that_holds_tables_is_changed(url: str) -> None:
    backups: list[str] = []

    async def back_up(revision: str) -> None:
        assert revision_of(url) == revision
        backups.append(revision)

    async def fail(revision: str) -> None:
        raise OSError(f"no space for a backup of {revision}")

    asyncio.run(migrate(url, back_up))
    assert backups == []  # it was empty
    alembic(url, lambda config: command.downgrade(config, "0001"))
    with pytest.raises(OSError, match="no space"):
        asyncio.run(migrate(url, fail))
    assert revision_of(url) == "0001"
    asyncio.run(migrate(url, back_up))
    assert backups == ["0001"]
    asyncio.run(migrate(url, back_up))
    assert backups == ["0001"]


def test_a_database_that_cannot_be_reached_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="cannot be reached") as refusal:
        asyncio.run(migrate("postgresql://taskapp:s3cret@127.0.0.1:1/taskapp"))
    assert "s3cret" not in str(refusal.value)


@pytest.mark.parametrize("code", ["55P03", "57014", "53100", "40P01"])
def test_a_server_that_answers_is_not_said_to_be_out_of_reach(url: str, code: str) -> None:
    # Another session has a lock, a timeout, a full disk, a deadlock: the driver's type of error is
    # that of a lost connection.
    refusal = f"DO $$ BEGIN RAISE 'Bob has it' USING ERRCODE = '{code}'; END $$"
    with (
        pytest.raises(Unavailable, match="The database refuses for now: Bob has it"),
        connected(url) as connection,
    ):
        connection.execute(text(refusal))


def test_a_database_that_may_not_be_read_is_not_taken_for_an_empty_one(url: str) -> None:
    asyncio.run(migrate(url))
    execute(url, "CREATE ROLE stranger LOGIN")
    try:
        with pytest.raises(MigrationError, match="permission denied"):
            asyncio.run(migrate(as_user(url, "stranger")))
    finally:
        execute(url, "DROP ROLE stranger")


def test_a_connection_that_is_lost_while_it_waits_is_unavailable_and_the_wait_is_logged(
    url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    waiting = "FROM pg_stat_activity WHERE wait_event = 'advisory' AND datname = current_database()"

    async def scenario() -> None:
        with connection(url) as holder:
            holder.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            attempt = asyncio.create_task(migrate(url))
            async with asyncio.timeout(LONG_ENOUGH):
                while not execute(url, f"SELECT pg_terminate_backend(pid) {waiting}"):
                    assert not attempt.done()
                    await asyncio.sleep(0.01)
            with pytest.raises(Unavailable):
                await attempt

    asyncio.run(scenario())
    logged = capsys.readouterr().err
    assert logged.count("database.migration_waiting") == 1
    assert asyncio.run(migrate(url)) is True
    assert "database.migration_waiting" not in capsys.readouterr().err


def test_no_column_has_a_value_that_only_python_knows() -> None:
    """Statements are compiled at import, where Python-side defaults would compile to NULL."""
    for table in metadata.tables.values():
        for column in table.columns:
            assert column.default is None, column
            assert column.onupdate is None, column


def test_no_limit_of_time_that_is_set_for_the_user_ends_a_migration(url: str) -> None:
    names = set_time_limits(url)
    execute(url, "CREATE TABLE seen AS SELECT name, setting FROM pg_settings WHERE false")
    execute(
        url,
        "CREATE FUNCTION note_limits() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.seen SELECT name, setting FROM pg_settings; END $$",
    )
    execute(url, "CREATE EVENT TRIGGER sees ON ddl_command_end EXECUTE FUNCTION note_limits()")
    asyncio.run(migrate(url))
    seen = execute(url, "SELECT DISTINCT name, setting FROM seen WHERE name = ANY(%s)", names)
    assert sorted(seen) == sorted((name, "0") for name in names)
