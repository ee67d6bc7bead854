"""Your own PostgreSQL: roles with few privileges, TLS, and PgBouncer in between."""

import asyncio
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg2
import pytest
from sqlalchemy import select, text

from taskapp.config.settings import SettingsError
from taskapp.db.session_options import check_options
from taskapp.db.statements import Statement
from tests.deploy.certificates import Certificate, make_authority, make_certificate
from tests.deploy.postgres import (
    ACCESS,
    PASSWORDS,
    OwnPostgres,
    as_postgres,
    give_to_postgres,
    running_postgres,
    running_standby,
)
from tests.support.database_fixtures import add_user, execute, open_database
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

ROLES = CHECKOUT / "deploy" / "postgresql-roles.sql"
PGBOUNCER = CHECKOUT / "deploy" / "pgbouncer.ini"
FORBIDDEN = [
    "CREATE TABLE more (id int)",
    "CREATE TEMPORARY TABLE more (id int)",
    "CREATE SCHEMA more",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP TABLE tasks",
    "ALTER TABLE tasks ADD COLUMN more int",
    "CREATE INDEX ON tasks (title)",
    "TRUNCATE tasks",
    "CREATE DATABASE more",
    "CREATE ROLE more",
    "SET ROLE taskapp_owner",
    "COPY tasks TO PROGRAM 'cat'",
]


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def authority(folder: Path) -> Certificate:
    return make_authority(folder)


@pytest.fixture(scope="module")
def server(folder: Path, authority: Certificate) -> Iterator[OwnPostgres]:
    with running_postgres(folder, make_certificate(folder, authority, "localhost")) as running:
        yield running


@pytest.fixture
def postgres(server: OwnPostgres) -> Iterator[OwnPostgres]:
    """A server with the database and roles of the script, without tables."""
    server.add_roles(ROLES)
    yield server
    server.remove_roles()


@contextmanager
def taskapp(url: str, *arguments: str, **settings: str) -> Iterator[ServerProcess]:
    with (
        new_data_folder() as data_folder,
        server_process(
            data_folder, *arguments, settings={"TASKAPP_DATABASE_URL": url} | settings
        ) as process,
    ):
        yield process


def migrate(url: str, owner_url: str = "") -> tuple[int, str]:
    """Run `migrate`, and return its exit code and output."""
    more = {"TASKAPP_MIGRATION_DATABASE_URL": owner_url} if owner_url else {}
    with taskapp(url, "migrate", **more) as process:
        return process.process.wait(LONG_ENOUGH), process.said + process.log_text


def use(process: ServerProcess) -> None:
    """Register, log in, and create, change and delete a task."""
    with process.wait_until_ready().client() as alice:
        alice.sign_up("alice@example.com")
        task = alice.send("POST", "/api/tasks", {"title": "Buy milk"}).json
        assert alice.send("PUT", f"/api/tasks/{task['id']}", {"status": "completed"}).status == 200
        [listed] = alice.send("GET", "/api/tasks").json["tasks"]
        assert listed["createdAt"] == task["createdAt"]
        assert alice.send("DELETE", f"/api/tasks/{task['id']}").status == 200
        assert alice.send("POST", "/api/auth/logout").status == 200
    assert process.end() == 0
    assert process.complaints() == []


# Roles


def test_the_role_of_the_process_does_all_that_people_ask(postgres: OwnPostgres) -> None:
    with taskapp(
        postgres.url("taskapp"), TASKAPP_MIGRATION_DATABASE_URL=postgres.url("taskapp_owner")
    ) as process:
        use(process)
    with taskapp(postgres.url("taskapp")) as process:  # after the migration the owner is not needed
        assert process.wait_until_ready().end() == 0


def test_the_role_of_the_process_can_neither_make_nor_drop(postgres: OwnPostgres) -> None:
    assert migrate(postgres.url("taskapp"), postgres.url("taskapp_owner"))[0] == 0
    for statement in FORBIDDEN:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            execute(postgres.url("taskapp"), statement)


def test_a_migration_without_the_owner_says_what_to_set(postgres: OwnPostgres) -> None:
    code, said = migrate(postgres.url("taskapp"))
    assert code == 1
    assert "may not create tables in the schema public" in said
    assert "TASKAPP_MIGRATION_DATABASE_URL" in said


# TLS


def test_the_server_has_to_prove_who_it_is(
    postgres: OwnPostgres, authority: Certificate, tmp_path: Path
) -> None:
    verified = f"?sslmode=verify-full&sslrootcert={authority.path}"
    owner = postgres.url("taskapp_owner", host="localhost", options=verified)
    with taskapp(
        postgres.url("taskapp", host="localhost", options=verified),
        TASKAPP_MIGRATION_DATABASE_URL=owner,
    ) as process:
        process.wait_until_ready()
        asked = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)"
        from_taskapp = "WHERE application_name = 'taskapp'"
        assert execute(postgres.administrator(), f"{asked} {from_taskapp}") == [(True,)]
        assert process.end() == 0
    stranger = make_authority(tmp_path, "stranger")
    code, said = migrate(owner.replace(str(authority.path), str(stranger.path)))
    assert (code, "certificate verify failed" in said) == (1, True)
    code, said = migrate(owner.replace("@localhost:", "@127.0.0.1:"))
    assert (code, "does not match host name" in said) == (1, True)
    assert "of-the-owner" not in said


def test_dumps_are_made_and_restored_over_tls_by_whatever_programs_are_installed(
    postgres: OwnPostgres, authority: Certificate, tmp_path: Path
) -> None:
    verified = f"?sslmode=verify-full&sslrootcert={authority.path}"
    owner = postgres.url("taskapp_owner", host="localhost", options=verified)
    emails = "SELECT email FROM users ORDER BY email"

    def run(url: str, *arguments: str) -> str:
        with taskapp(url, *arguments, TASKAPP_BACKUP_DIR=str(tmp_path)) as process:
            assert process.process.wait(LONG_ENOUGH) == 0, process.log_text
            return process.said

    run(owner, "migrate")
    add_user(owner, "alice")
    assert "-dump, " in run(owner, "backup")
    add_user(owner, "bob")
    assert "-dump, " in run(
        postgres.administrator("taskapp"), "backup"
    )  # made by the wheel's pg_dump
    [newer, older] = sorted((path.name for path in tmp_path.iterdir()), reverse=True)
    for name, accounts in ((older, ["alice"]), (newer, ["alice", "bob"])):
        assert " is good: " in run(owner, "backup", "verify", name)
        run(owner, "restore", "--replace", "--backup", name)
        assert execute(owner, emails) == [(f"{account}@example.com",) for account in accounts]


@pytest.mark.parametrize(
    ("access", "mode", "is_encrypted"),
    [
        ("hostnossl", "prefer", False),  # TLS is refused after the handshake
        ("hostnossl", "disable", False),
        ("hostnossl", "allow", False),
        ("hostssl", "allow", True),  # an unencrypted connection is refused at its log-in
        ("hostssl", "prefer", True),
        ("hostssl", "require", True),
        ("hostssl", "verify-ca", True),
        ("hostssl", "verify-full", True),
    ],
)
def test_each_sslmode_ends_up_with_what_the_server_accepts(
    access: str, mode: str, is_encrypted: bool, postgres: OwnPostgres, authority: Certificate
) -> None:
    rules = postgres.folder / "cluster" / "pg_hba.conf"
    rules.write_text(ACCESS.replace("host all", f"{access} all"))
    execute(postgres.administrator(), "SELECT pg_reload_conf()")
    asked = Statement("tls", select(text("ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")))
    url = postgres.url(
        "taskapp", host="localhost", options=f"?sslmode={mode}&sslrootcert={authority.path}"
    )

    async def scenario() -> None:
        async with open_database(url, 1) as database:
            assert await database.fetch_value(asked) is is_encrypted

    try:
        asyncio.run(scenario())
    finally:
        rules.write_text(ACCESS)
        execute(postgres.administrator(), "SELECT pg_reload_conf()")


def test_a_password_file_and_a_service_are_read(
    postgres: OwnPostgres, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = tmp_path / "passwords"
    passwords.touch(mode=0o600)
    passwords.write_text(f"localhost:{postgres.port}:taskapp:taskapp:{PASSWORDS['taskapp']}\n")
    services = tmp_path / "services"
    services.write_text(f"[tasks]\nhost=localhost\nport={postgres.port}\nuser=taskapp\n")
    monkeypatch.setenv("PGSERVICEFILE", str(services))

    async def scenario(url: str) -> None:
        async with open_database(url, 2) as database:
            one = Statement("one", select(text("1")))
            assert await asyncio.gather(*(database.fetch_one(one) for _ in range(2))) == [(1,)] * 2

    asyncio.run(scenario(f"service=tasks dbname=taskapp passfile={passwords}"))
    monkeypatch.setenv("PGPASSFILE", str(passwords))
    asyncio.run(scenario(f"postgresql://taskapp@localhost:{postgres.port}/taskapp"))


# Two servers


def test_a_standby_that_is_promoted_takes_over(authority: Certificate) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as first,
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as second,
        ExitStack() as primary_end,
    ):
        primary = primary_end.enter_context(running_postgres(Path(first)))
        primary.add_roles(ROLES)
        with running_standby(Path(second), primary) as standby:
            hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
            address = f"postgresql://{{}}:{{}}@{hosts}/taskapp?target_session_attrs=read-write"
            url, owner = (address.format(*item) for item in PASSWORDS.items())
            with taskapp(url, TASKAPP_MIGRATION_DATABASE_URL=owner) as process:
                alice = process.wait_until_ready().client().sign_up("alice@example.com")
                assert alice.send("POST", "/api/tasks", {"title": "before"}).status == 201
                wait_until(
                    lambda: (
                        execute(standby.administrator("taskapp"), "SELECT title FROM tasks")
                        == [("before",)]
                    )
                )
                primary_end.close()
                wait_until(lambda: alice.send("GET", "/api/tasks").status == 503)
                execute(standby.administrator(), "SELECT pg_promote()")
                wait_until(
                    lambda: alice.send("POST", "/api/tasks", {"title": "after"}).status == 201
                )
                assert alice.titles() == ["after", "before"]
                assert process.end() == 0


# PgBouncer


@contextmanager
def pooler(postgres: OwnPostgres, folder: Path) -> Iterator[int]:
    """Run PgBouncer with the example configuration on ports of this test; yield its port."""
    with reserved_port() as port:
        yield from _pooling(postgres, folder, port)


def _pooling(postgres: OwnPostgres, folder: Path, port: int) -> Iterator[int]:
    text = PGBOUNCER.read_text()
    for old, new in {
        "port=5432": f"port={postgres.port}",
        "= 6432": f"= {port}",
        "/etc/pgbouncer/": f"{folder}/",
    }.items():
        assert old in text
        text = text.replace(old, new)
    users = folder / "userlist.txt"
    users.write_text("".join(f'"{name}" "{word}"\n' for name, word in PASSWORDS.items()))
    configuration = folder / "pgbouncer.ini"
    configuration.write_text(text)
    give_to_postgres(users, configuration)
    with subprocess.Popen(
        as_postgres("pgbouncer", "-q", configuration), stderr=subprocess.DEVNULL
    ) as process:
        try:
            url = postgres.url("taskapp", port=port)
            wait_until(lambda: can_connect(url))
            yield port
        finally:
            process.terminate()
            process.wait(LONG_ENOUGH)


def can_connect(url: str) -> bool:
    try:
        return execute(url, "SELECT 1") == [(1,)]
    except psycopg2.OperationalError:
        return False


def test_pgbouncer_may_stand_in_between(postgres: OwnPostgres, folder: Path) -> None:
    with pooler(postgres, folder) as port:
        owner = postgres.url("taskapp_owner", port=port)
        with taskapp(
            postgres.url("taskapp", port=port), TASKAPP_MIGRATION_DATABASE_URL=owner
        ) as process:
            use(process)


def test_options_that_pgbouncer_dropped_are_missed(postgres: OwnPostgres, folder: Path) -> None:
    execute(postgres.administrator(), "ALTER ROLE taskapp RESET ALL")
    migrate(postgres.url("taskapp_owner"))
    with pooler(postgres, folder) as port, taskapp(postgres.url("taskapp", port=port)) as process:
        assert process.process.wait(LONG_ENOUGH) == 2
        assert "ALTER ROLE ... SET statement_timeout = 3500" in process.log_text


@pytest.mark.parametrize(
    "response",
    [
        ("Europe/Berlin", "ISO, MDY", 3500),
        ("UTC", "German, DMY", 3500),
        ("UTC", "ISO, MDY", 0),
        ("UTC", "ISO, MDY", 3501),
    ],
)
def test_what_a_connection_needs_is_missed_one_by_one(response: tuple[str, str, int]) -> None:
    check_options("UTC", "ISO, MDY", 3500)
    with pytest.raises(SettingsError):
        check_options(*response)
