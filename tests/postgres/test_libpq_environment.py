"""What the environment says to libpq is for other servers than the embedded one."""

import asyncio
import os
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import Text, bindparam, select

from taskapp.db.dsn import connect_once
from taskapp.db.migrations import HEAD, read_revision
from taskapp.db.statements import Statement
from taskapp.postgres.server import embedded_postgres
from tests.support.database_fixtures import open_database
from tests.support.server_process import LONG_ENOUGH, new_data_folder, server_process

# Every variable of "Environment Variables" in libpq's manual (PostgreSQL 18), with a value that
# leads elsewhere, is refused, or changes what a session does.
ELSEWHERE = {
    "PGAPPNAME": "stranger",
    "PGCHANNELBINDING": "require",
    "PGCLIENTENCODING": "LATIN1",
    "PGCONNECT_TIMEOUT": "soon",
    "PGDATABASE": "elsewhere",
    "PGDATESTYLE": "German",
    "PGGEQO": "perhaps",
    "PGGSSDELEGATION": "1",
    "PGGSSENCMODE": "require",
    "PGGSSLIB": "elsewhere",
    "PGHOST": "elsewhere.invalid",
    "PGHOSTADDR": "192.0.2.1",
    "PGKRBSRVNAME": "elsewhere",
    "PGLOADBALANCEHOSTS": "perhaps",
    "PGLOCALEDIR": "/nonexistent",
    "PGMAXPROTOCOLVERSION": "2.9",
    "PGMINPROTOCOLVERSION": "9.9",
    "PGOAUTHCAFILE": "/nonexistent",
    "PGOAUTHDEBUG": "UNSAFE",
    "PGOPTIONS": "-c search_path=nowhere -c statement_timeout=1",
    "PGPASSFILE": "/nonexistent",
    "PGPASSWORD": "wrong",
    "PGPORT": "1",
    "PGREQUIREAUTH": "scram-sha-256",
    "PGREQUIREPEER": "nobody",
    "PGREQUIRESSL": "1",
    "PGSERVICE": "nowhere",
    "PGSERVICEFILE": "/nonexistent",
    "PGSSLCERT": "/nonexistent",
    "PGSSLCERTMODE": "require",
    "PGSSLCOMPRESSION": "1",
    "PGSSLCRL": "/nonexistent",
    "PGSSLCRLDIR": "/nonexistent",
    "PGSSLKEY": "/nonexistent",
    "PGSSLMAXPROTOCOLVERSION": "TLSv1",
    "PGSSLMINPROTOCOLVERSION": "TLSv1.3",
    "PGSSLMODE": "verify-full",
    "PGSSLNEGOTIATION": "direct",
    "PGSSLROOTCERT": "/nonexistent",
    "PGSSLSNI": "0",
    "PGSYSCONFDIR": "/nonexistent",
    "PGTARGETSESSIONATTRS": "standby",
    "PGTZ": "Asia/Tokyo",
    "PGUSER": "nobody",
}
ECHO = Statement("echo", select(bindparam("title", type_=Text)))
TITLE = "買い物 🥛 größer"


@pytest.fixture(scope="module")
def data_folder() -> Iterator[Path]:
    """Yield the folder of a server that was started with all of these variables and has a task."""
    with new_data_folder() as folder, server_process(folder, settings=ELSEWHERE) as server:
        with server.wait_until_ready().client() as alice:
            alice.sign_up("alice@example.com")
            assert alice.send("POST", "/api/tasks", {"title": TITLE}).status == 201
            assert alice.titles() == [TITLE]
        yield folder
        assert server.end() == 0
        assert server.complaints() == []


def test_the_table_has_every_variable_of_the_library_in_use() -> None:
    [library] = Path(psycopg2.__file__).parents[1].glob("psycopg2_binary.libs/libpq-*")
    known = {name.decode() for name in re.findall(rb"\0(PG[A-Z]+)\0", library.read_bytes())}
    assert len(known) > 30
    assert known <= {*ELSEWHERE}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_no_variable_of_libpq_reaches_the_embedded_server(
    name: str, data_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ELSEWHERE[name])

    async def scenario() -> None:
        async with (
            embedded_postgres(data_folder, share=True) as url,
            open_database(url, 1) as database,
        ):
            assert name not in os.environ
            assert await database.fetch_value(ECHO, title=TITLE) == TITLE
            found = read_revision(url)
        assert found
        assert found.number == HEAD

    asyncio.run(scenario())


def test_no_variable_of_libpq_reaches_the_programs_that_dump_it(data_folder: Path) -> None:
    settings = ELSEWHERE | {"TASKAPP_BACKUP_EVERY": "off"}
    with server_process(data_folder, "backup", settings=settings) as backup:
        assert backup.process.wait(LONG_ENOUGH) == 0, backup.log_text


@pytest.mark.parametrize("name", ["PGCLIENTENCODING", "PGTZ", "PGDATESTYLE"])
def test_what_a_session_has_to_be_is_ours_for_an_own_server_too(
    name: str, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, ELSEWHERE[name])

    async def scenario() -> None:
        async with open_database(empty_database, 1) as database:
            assert await database.fetch_value(ECHO, title=TITLE) == TITLE
        connection = connect_once(empty_database, "test")
        assert connection.encoding == "UTF8"
        connection.close()

    asyncio.run(scenario())
