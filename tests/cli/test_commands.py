"""The command line does what it says, beside a running server and without one."""

import asyncio
import fcntl
import json
import os
import pty
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import click
import pytest
from alembic import command
from alembic.config import Config
from click.testing import CliRunner, Result
from sqlalchemy import NullPool, create_engine, make_url
from wcwidth import width

from taskapp.auth.passwords import PasswordHasher
from taskapp.cli.commands import COMMANDS, LazyCommands
from taskapp.cli.common import EPILOG, report_errors
from taskapp.config.settings import SETTINGS, load_settings
from taskapp.db.migrations import FOLDER, HEAD
from taskapp.postgres.programs import preferred_programs
from taskapp.runtime.database_server import prepare_database
from tests.postgres.test_server import execute, owner, url_of
from tests.support.server_process import LONG_ENOUGH, reserved_port, wait_until

CHECKOUT = Path(__file__).parents[2]
PASSWORD = "SecurePass123!"
FIRST_REVISION = "0001"
NEWER_REVISION = "9999"

cli = click.Group("taskapp", commands=LazyCommands(COMMANDS))


@pytest.fixture(autouse=True)
def _clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Remove the settings and the `.env` file of the user who runs the tests."""
    for name in os.environ:
        if name.startswith("TASKAPP_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TASKAPP_BCRYPT_ROUNDS", "4")
    monkeypatch.chdir(tmp_path)


@contextmanager
def new_folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # a short path
    try:
        yield parent / "data"
    finally:
        shutil.rmtree(parent)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, str]]:
    """Return a data folder whose PostgreSQL another process runs, and its URL."""
    with new_folder() as folder, owner(folder) as process:
        yield folder, url_of(process)
        process.communicate("")


@pytest.fixture
def served(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the URL of an empty database at the newest revision, which a server uses."""
    folder, url = server
    monkeypatch.setenv("TASKAPP_DATA_DIR", str(folder))
    execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    asyncio.run(prepare_database(load_settings(os.environ), url))
    return url


@pytest.fixture
def old(server: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Path, str]]:
    """Return a data folder in use whose database has an account and is at the first revision."""
    folder, url = server
    monkeypatch.setenv("TASKAPP_DATA_DIR", str(folder))
    make_old(url)
    yield folder, url
    backups = folder / "backups"
    if backups.is_dir():
        shutil.rmtree(backups)
    else:
        backups.unlink(missing_ok=True)


def make_old(url: str) -> None:
    execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    engine = create_engine(make_url(url).set(drivername="postgresql+psycopg2"), poolclass=NullPool)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, FIRST_REVISION)
        connection.commit()
    execute(
        url,
        "INSERT INTO users (id, email, password_hash) "
        "VALUES (gen_random_uuid(), 'ada@example.com', 'kept')",
    )


def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
    result = CliRunner().invoke(cli, arguments, input=stdin)
    if isinstance(result.exception, Exception):
        raise result.exception
    assert PASSWORD not in result.output
    return result


def succeed(*arguments: str, stdin: str | bytes | None = None) -> str:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def fail(*arguments: str, stdin: str | bytes | None = None, code: int = 1) -> str:
    result = run(*arguments, stdin=stdin)
    assert (result.exit_code, result.stdout) == (code, "")
    return result.stderr


def walk(group: click.Group, *before: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name in group.commands:
        found = group.commands[name]
        yield (*before, name), found
        if isinstance(found, click.Group):
            yield from walk(found, *before, name)


def add(email: str) -> None:
    succeed("user", "add", email, stdin=f"{PASSWORD}\n")


def emails(url: str) -> list[str]:
    return [email for (email,) in execute(url, "SELECT email FROM users ORDER BY email")]


def revision(url: str) -> str:
    return str(execute(url, "SELECT version_num FROM alembic_version")[0][0])


def password_matches(url: str, email: str, password: str) -> bool:
    ((password_hash,),) = execute(url, "SELECT password_hash FROM users WHERE email = %s", email)

    async def check() -> bool:
        hasher = PasswordHasher(4)
        try:
            return await hasher.matches(password, password_hash)
        finally:
            hasher.close()

    return asyncio.run(check())


def add_session(url: str, email: str, ends: str) -> None:
    execute(
        url,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at) SELECT gen_random_uuid(), id,"
        " sha256(gen_random_uuid()::text::bytea), now() + %s::interval FROM users WHERE email = %s",
        ends,
        email,
    )


# Accounts


def test_an_account_is_added_and_listed_with_its_address_as_typed(served: str) -> None:
    said = succeed("user", "add", " Ada@Example.com", stdin=f"{PASSWORD}\n")
    assert said == "Added Ada@Example.com.\n"
    assert emails(served) == ["ada@example.com"]
    assert succeed("user", "list").splitlines()[1].startswith("Ada@Example.com ")


def test_the_list_is_aligned(served: str) -> None:
    add("ada@example.com")
    add("grace.hopper@example.com")
    add("\u4eca\u65e5@example.com")  # characters of two columns
    ids = [identity for (identity,) in execute(served, "SELECT id::text FROM users ORDER BY email")]
    header, *lines = succeed("user", "list").splitlines()
    assert header.split() == ["EMAIL", "CREATED", "ID"]
    assert [line.split()[0] for line in lines] == emails(served)
    assert [line.split()[2] for line in lines] == ids
    assert len({width(line.partition(id_)[0]) for line, id_ in zip(lines, ids, strict=True)}) == 1


def test_the_list_is_read_by_machines_line_by_line(served: str) -> None:
    assert succeed("user", "list", "--json") == ""
    add("ada@example.com")
    (account,) = map(json.loads, succeed("user", "list", "--json").splitlines())
    assert set(account) == {"id", "email", "createdAt"}
    assert account["email"] == "ada@example.com"
    assert account["createdAt"].endswith("Z")


@pytest.mark.parametrize(
    ("typed", "password"),
    [
        (b" two spaces\tand a tab \n", " two spaces\tand a tab "),
        (b"a line of Windows\r\n", "a line of Windows"),
        (b"without an end", "without an end"),
        (b"first line only\nsecond line\n", "first line only"),
        ("fünf Äpfel 🍎\n".encode(), "fünf Äpfel 🍎"),
        (b"carriage\rreturn kept\n", "carriage\rreturn kept"),
    ],
)
def test_a_password_is_taken_exactly_as_typed(served: str, typed: bytes, password: str) -> None:
    succeed("user", "add", "ada@example.com", stdin=typed)
    assert password_matches(served, "ada@example.com", password)


@pytest.mark.parametrize(
    ("email", "stdin", "code", "said"),
    [
        ("ada@example.com", b"short\n", 1, "Password: Must be at least 8 characters"),
        ("ada@example.com", b"\n", 1, "Password: Must be at least 8 characters"),
        ("ada@example.com", b"aaaaaaaaaaaa\n", 1, "Password: This password is too easy to guess."),
        (
            "ada@example.com",
            b"nul \0 in the middle\n",
            1,
            "Password: Contains unsupported characters",
        ),
        ("ada@example.com", b"", 1, "Pass it as one line on standard input"),
        ("ada@example.com", b"\xff\xfe\xfd not utf-8\n", 1, "must be valid UTF-8"),
        ("ada", f"{PASSWORD}\n".encode(), 2, "Must be a valid email address"),
        ("ada@intranet", f"{PASSWORD}\n".encode(), 2, "must contain a dot"),
        ("a\udcff@example.com", f"{PASSWORD}\n".encode(), 2, "Must be a valid email address"),
    ],
)
def test_what_cannot_be_an_account_is_refused(
    served: str, email: str, stdin: bytes, code: int, said: str
) -> None:
    assert said in fail("user", "add", email, stdin=stdin, code=code)
    assert emails(served) == []


def test_an_address_is_added_once(served: str) -> None:
    add("ada@example.com")
    said = fail("user", "add", "ADA@example.com", stdin=f"{PASSWORD}\n")
    assert said == "Email address: An account with this email address already exists.\n"
    assert len(emails(served)) == 1


def test_accounts_are_added_where_registration_is_closed(
    served: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPP_REGISTRATION", "closed")
    add("ada@example.com")
    assert emails(served) == ["ada@example.com"]


def test_setting_a_password_ends_the_sessions_and_tokens_of_that_user_only(served: str) -> None:
    for email in ("ada@example.com", "grace@example.com"):
        add(email)
        add_session(served, email, "1 hour")
    execute(
        served,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at, name)"
        " SELECT gen_random_uuid(), id, sha256(convert_to(n::text, 'UTF8')), 'infinity', 'CI ' || n"
        " FROM users, generate_series(1, 2) n WHERE email = 'ada@example.com'",
    )
    said = succeed("user", "set-password", "ada@example.com", stdin="Another pass 456\n")
    assert said == (
        "Set the password of ada@example.com, ended 1 session and revoked 2 API tokens.\n"
    )
    left = execute(served, "SELECT email FROM sessions JOIN users ON users.id = user_id")
    assert left == [("grace@example.com",)]
    assert password_matches(served, "ada@example.com", "Another pass 456")
    assert password_matches(served, "grace@example.com", PASSWORD)


def test_a_password_that_is_refused_leaves_the_old_one(served: str) -> None:
    add("ada@example.com")
    said = fail("user", "set-password", "ada@example.com", stdin="ada@example.com\n")
    assert "too easy to guess" in said
    assert password_matches(served, "ada@example.com", PASSWORD)


@pytest.mark.usefixtures("served")
def test_accounts_that_are_not_there_are_not_changed() -> None:
    nobody = "There is no account with this email address.\n"
    assert fail("user", "set-password", "ada@example.com", stdin=f"{PASSWORD}\n") == nobody
    assert fail("user", "delete", "ada@example.com", "--yes") == nobody


def test_deleting_asks_first(served: str) -> None:
    add("ada@example.com")
    for response in ("n\n", "\n", ""):
        said = fail("user", "delete", "ada@example.com", stdin=response)
        assert said.startswith("Delete ada@example.com and all of its tasks permanently? [y/N]: ")
    assert emails(served) == ["ada@example.com"]
    result = run("user", "delete", "Ada@example.com", stdin="y\n")
    assert (result.exit_code, result.stdout) == (
        0,
        "Deleted Ada@example.com and all of its tasks.\n",
    )
    assert emails(served) == []


def test_deleting_can_be_told_not_to_ask(served: str) -> None:
    add("ada@example.com")
    succeed("user", "delete", "--yes", "ada@example.com")
    assert emails(served) == []


def test_purging_deletes_the_sessions_that_have_ended(served: str) -> None:
    add("ada@example.com")
    for ends in ("-1 hour", "-1 second", "1 hour"):
        add_session(served, "ada@example.com", ends)
    assert succeed("sessions", "purge") == "Deleted 2 expired sessions.\n"
    assert succeed("sessions", "purge") == "Deleted 0 expired sessions.\n"
    assert execute(served, "SELECT count(*) FROM sessions") == [(1,)]


@pytest.mark.usefixtures("served")
def test_log_lines_are_there_for_who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKAPP_LOG_LEVEL", "debug")
    result = run("user", "add", "ada@example.com", stdin=f"{PASSWORD}\n")
    assert " INFO    user.added userId=" in result.stderr
    assert "ada@example.com" not in result.stderr


# At a terminal


def at_terminal(typed: list[str], *arguments: str) -> tuple[int, str]:
    """Run a command at a terminal, and type a line at each prompt."""
    script = "from tests.cli.test_commands import cli; cli()"
    master, slave = pty.openpty()
    # In its own session, so that no prompt reaches the terminal of the user who runs the tests.
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *arguments],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        cwd=CHECKOUT,
        start_new_session=True,
    ) as process:
        os.close(slave)
        shown = ""
        with closing(os.fdopen(master, "rb", buffering=0)) as terminal:
            for line in typed:
                shown += read_question(terminal.fileno())
                os.write(terminal.fileno(), f"{line}\n".encode())
            shown += read_to_end(terminal.fileno())
        return process.wait(), shown


def read_question(terminal: int) -> str:
    shown = ""
    while not shown.endswith(": "):
        shown += os.read(terminal, 1024).decode()
    return shown


def read_to_end(terminal: int) -> str:
    shown = ""
    try:
        while chunk := os.read(terminal, 1024):
            shown += chunk.decode()
    except OSError:  # how Linux says that nobody is at the other end any more
        pass
    return shown


def test_a_terminal_is_asked_twice_and_shows_nothing(served: str) -> None:
    typed = [PASSWORD, "something else", PASSWORD, PASSWORD]
    code, shown = at_terminal(typed, "user", "add", "ada@example.com")
    assert code == 0
    assert "do not match" in shown
    assert PASSWORD not in shown
    assert shown.endswith("Added ada@example.com.\r\n")
    assert password_matches(served, "ada@example.com", PASSWORD)


# Settings


def test_settings_are_shown_with_secrets_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "kMp4vX9qLz2Ws7Tn5Bf8Gh3Jd6Rc1Yae"
    monkeypatch.setenv("TASKAPP_SECRET_KEY", secret)
    monkeypatch.setenv("TASKAPP_PORT", "8123")
    shown = {line.split()[0]: line.split()[1] for line in succeed("settings").splitlines()}
    assert shown["TASKAPP_PORT"] == "8123"
    assert shown["TASKAPP_SECRET_KEY"] == "********"
    assert shown["TASKAPP_PUBLIC_URL"] == "-"
    assert len(shown) == len(SETTINGS)


def test_every_wrong_setting_is_named_with_exit_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKAPP_PORT", "http")
    monkeypatch.setenv("TASKAPP_CORS_ORIGINS", "*")
    monkeypatch.setenv("TASKAPP_COLOUR", "blue")
    for name in ("settings", "migrate", "doctor"):
        lines = fail(name, code=2).splitlines()
        assert [line.partition(":")[0] for line in lines] == [
            "TASKAPP_PORT",
            "TASKAPP_CORS_ORIGINS",
            "TASKAPP_COLOUR",
        ]


def shown_setting(name: str) -> str:
    lines = succeed("settings").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name} "))


def test_a_file_in_the_working_directory_sets_what_the_environment_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path(".env").write_text("# mine\nexport TASKAPP_PORT=8001\nTASKAPP_HOST='::1' # here\nOTHER\n")
    monkeypatch.setenv("TASKAPP_HOST", "127.0.0.2")
    assert shown_setting("TASKAPP_PORT") == "8001"
    assert shown_setting("TASKAPP_HOST") == "127.0.0.2"


def test_a_secret_of_the_environment_wins_over_one_of_the_file_in_either_form(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Path("secret").write_text("kMp4vX9qLz2Ws7Tn5Bf8Gh3Jd6Rc1Yae\n")
    Path(".env").write_text("TASKAPP_SECRET_KEY=short\n")
    monkeypatch.setenv("TASKAPP_SECRET_KEY_FILE", "secret")
    assert shown_setting("TASKAPP_SECRET_KEY") == "********"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"TASKAPP_PORT=8001\nTASKAPP_HOST\n", ".env: TASKAPP_HOST has no value"),
        (b"# mine\nTASKAPP_HOST='unclosed\n", ".env: line 2 is not NAME=value"),
        (b"TASKAPP_HOST=\xff\n", "The file .env cannot be read"),
        (b"TASKAPP_COLOUR=blue\n", "TASKAPP_COLOUR: unknown setting"),
    ],
)
def test_a_file_of_settings_that_is_wrong_is_refused(content: bytes, said: str) -> None:
    Path(".env").write_bytes(content)
    assert said in fail("settings", code=2)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o644, 0o660, 0o664, 0o606, 0o666])
def test_a_file_of_settings_that_others_may_write_is_refused(mode: int) -> None:
    Path(".env").write_text("TASKAPP_PORT=8001\n")
    Path(".env").chmod(mode)
    if mode & 0o022:
        assert "others may write it. Run `chmod go-w .env`." in fail("settings", code=2)
    else:
        assert shown_setting("TASKAPP_PORT") == "8001"


# The revision of the database


def test_a_new_data_folder_just_works(monkeypatch: pytest.MonkeyPatch) -> None:
    with new_folder() as folder:
        monkeypatch.setenv("TASKAPP_DATA_DIR", str(folder))
        add("ada@example.com")
        assert succeed("migrate") == f"The database is already at revision {HEAD}.\n"
        assert "ada@example.com" in succeed("user", "list")
        assert not (folder / "backups").exists()
        assert (folder / "secret-key").stat().st_mode & 0o777 == 0o600


def test_an_older_database_is_left_alone_by_all_but_migrate(old: tuple[Path, str]) -> None:
    _, url = old
    said = f"The database is at revision {FIRST_REVISION}, but this taskapp needs {HEAD}. Run "
    for arguments in (["user", "list"], ["user", "delete", "--yes", "ada@example.com"]):
        assert fail(*arguments).startswith(f"{said}`python server.py migrate` first")
    assert (revision(url), emails(url)) == (FIRST_REVISION, ["ada@example.com"])


def test_migrating_backs_up_first_and_keeps_the_data(old: tuple[Path, str]) -> None:
    folder, url = old
    first, second = succeed("migrate").splitlines()
    (backup,) = (folder / "backups").iterdir()
    assert first == f"Backed up the database to {backup}."
    assert second == f"Migrated the database to revision {HEAD}."
    assert (revision(url), emails(url)) == (HEAD, ["ada@example.com"])
    assert backup.name.endswith(f"Z-before-migration-{HEAD}")
    dump = backup / "database.dump"
    assert dump.stat().st_mode & 0o777 == 0o600
    assert backup.parent.stat().st_mode & 0o777 == 0o700
    pg_restore = preferred_programs(None).path("pg_restore")
    restored = subprocess.check_output([pg_restore, "--file=-", dump], text=True)
    assert f"COPY public.alembic_version (version_num) FROM stdin;\n{FIRST_REVISION}\n" in restored
    assert "ada@example.com\tkept" in restored
    assert "CREATE TABLE public.tasks" not in restored


def test_a_database_without_accounts_needs_no_backup(old: tuple[Path, str]) -> None:
    folder, url = old
    execute(url, "DELETE FROM users")
    assert succeed("migrate") == f"Migrated the database to revision {HEAD}.\n"
    assert not (folder / "backups").exists()


def test_a_folder_of_backups_that_cannot_be_made_stops_the_migration(
    old: tuple[Path, str],
) -> None:
    folder, url = old
    (folder / "backups").touch()
    said = fail("migrate")
    assert said.startswith(f"The backup in {folder / 'backups'} that has to precede the migration")
    assert "File exists" in said
    assert (revision(url), emails(url)) == (FIRST_REVISION, ["ada@example.com"])


def test_a_backup_that_does_not_fit_stops_the_migration(old: tuple[Path, str]) -> None:
    folder, url = old
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        result = CliRunner().invoke(cli, ["migrate"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert result.exit_code == 1
    assert "could not be made, so the database was left as it is: pg_dump" in result.stderr
    assert list((folder / "backups").iterdir()) == []
    assert revision(url) == FIRST_REVISION


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes what belongs to another user")
def test_backups_belong_to_whom_the_data_folder_belongs_to(old: tuple[Path, str]) -> None:
    folder, _ = old
    os.chown(folder, 65534, 65534)
    try:
        succeed("migrate")
    finally:
        os.chown(folder, 0, 0)
    for path in (folder / "backups", *(folder / "backups").iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_a_newer_database_is_refused_by_all(served: str) -> None:
    execute(served, "UPDATE alembic_version SET version_num = %s", NEWER_REVISION)
    said = f"The database is at revision {NEWER_REVISION}, and this taskapp knows none after {HEAD}"
    assert fail("migrate").startswith(said)
    assert fail("user", "list").startswith(said)


def test_two_that_migrate_at_once_both_succeed_and_leave_no_connection(
    server: tuple[Path, str],
) -> None:
    folder, url = server
    settings = load_settings({"TASKAPP_DATA_DIR": str(folder)})
    execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")

    async def both() -> None:
        async with asyncio.timeout(LONG_ENOUGH):
            await asyncio.gather(*(prepare_database(settings, url) for _ in range(2)))

    asyncio.run(both())
    assert revision(url) == HEAD
    others = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'taskapp%'"
    wait_until(lambda: execute(url, others) == [])  # PostgreSQL takes leave of each in its time


# A PostgreSQL of one's own, and what is in the way


@pytest.fixture
def own_server(served: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Return the URL of a server that the settings name, as if it were not the embedded one."""
    monkeypatch.setenv("TASKAPP_DATA_DIR", str(tmp_path / "own"))
    monkeypatch.setenv("TASKAPP_DATABASE_URL", served)
    return served


def test_a_server_of_ones_own_is_used_and_none_is_started(own_server: str, tmp_path: Path) -> None:
    add("ada@example.com")
    assert emails(own_server) == ["ada@example.com"]
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["secret-key"]


def test_a_server_of_ones_own_is_not_backed_up(own_server: str, tmp_path: Path) -> None:
    make_old(own_server)
    assert succeed("migrate") == f"Migrated the database to revision {HEAD}.\n"
    assert not (tmp_path / "own").exists()


def test_an_address_as_libpq_writes_it_is_understood(
    own_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = own_server.partition("host=")[2].partition("&")[0]
    monkeypatch.setenv("TASKAPP_DATABASE_URL", f"postgres://taskapp@{folder}/postgres")
    add("ada@example.com")
    assert emails(own_server) == ["ada@example.com"]


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("postgresql://ada:hidden@127.0.0.1:1/tasks", 1),
        ("postgresql://ada:hidden@127.0.0.1:port/tasks", 2),
        ("postgresql://ada:hid/den@127.0.0.1/tasks", 2),
        ("postgresql://ada:hidden@127.0.0.1/tasks?nonsense=1", 2),
        ("postgresql://ada:hidden@[::1/tasks", 2),
    ],
)
def test_a_server_that_is_not_reached_is_said_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, url: str, code: int
) -> None:
    monkeypatch.setenv("TASKAPP_DATABASE_URL", url)
    for arguments in (["migrate"], ["user", "list"]):
        said = fail(*arguments, code=code)
        assert said.startswith("The database cannot be reached: " if code == 1 else "TASKAPP_DATAB")
        assert said.count("\n") == 1
        assert "hid" not in said


def test_a_user_of_the_database_who_may_not_is_told(
    own_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grants = "GRANT USAGE ON SCHEMA public TO guest"
    execute(own_server, f"DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN; {grants}")
    monkeypatch.setenv("TASKAPP_DATABASE_URL", own_server.replace("taskapp@", "guest@"))
    said = "The database refuses: permission denied for table alembic_version"
    assert said in fail("user", "list")
    execute(own_server, f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {grants}")
    assert "may not create tables in the schema public. Run GRANT CREATE" in fail("migrate")
    execute(own_server, "REVOKE ALL ON SCHEMA public FROM guest; DROP ROLE guest")


def test_a_revision_of_another_program_is_not_touched(own_server: str) -> None:
    execute(own_server, "UPDATE alembic_version SET version_num = '000-another'")
    assert "cannot be migrated" in fail("migrate")


def test_a_data_folder_in_use_is_said_with_who_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("taskapp.postgres.server._SHARE_TIMEOUT", 0.1)
    with new_folder() as folder:
        folder.mkdir()
        monkeypatch.setenv("TASKAPP_DATA_DIR", str(folder))
        with (folder / "taskapp.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            assert "is in use by another process. Stop that one first" in fail("migrate")


def test_a_data_folder_that_cannot_be_one_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("TASKAPP_DATA_DIR", "file")
    assert "PostgreSQL can't run in the data folder" in fail("user", "list")


MORE_ARGUMENTS: dict[tuple[str, ...], list[str]] = {
    ("task", "add"): ["title"],
    ("task", "done"): ["id"],
}
WITH_JSON = [
    (*names, *MORE_ARGUMENTS.get(names, []), "--json")
    for names, each in walk(cli)
    if any("--json" in parameter.opts for parameter in each.params)
]


@pytest.mark.parametrize("arguments", WITH_JSON, ids=" ".join)
def test_with_json_each_failure_is_json_too(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKAPP_DATA_DIR", "data")
    with reserved_port() as closed:
        monkeypatch.setenv("TASKAPP_PORT", str(closed))
        monkeypatch.setenv("TASKAPP_DATABASE_URL", f"postgresql://u:p@127.0.0.1:{closed}/d")
        monkeypatch.setenv("TASKAPP_CLIENT_URL", f"http://127.0.0.1:{closed}")
        monkeypatch.setenv("TASKAPP_CLIENT_TOKEN", "taskapp_a.b")
        away = run(*arguments)
        monkeypatch.setenv("TASKAPP_CLIENT_TOKEN", "")
        tokenless = run(*arguments)
        monkeypatch.setenv("TASKAPP_SESSION_IDLE", "long")
        wrong = run(*arguments)
    for result in (away, tokenless, wrong):
        assert all(isinstance(json.loads(line), dict) for line in result.stdout.splitlines())
    if " ".join(arguments[:-1]) not in {"settings", "maintenance", "backup list"}:  # ask nobody
        assert away.exit_code == 1
        assert away.stdout
    assert wrong.exit_code == 2
    assert json.loads(wrong.stdout)["problem"] == wrong.stderr.rstrip("\n")


def test_an_error_that_is_not_ours_is_not_hidden() -> None:
    @report_errors
    def divide() -> float:
        return 1 / len("")

    with pytest.raises(ZeroDivisionError):
        divide()


# The doctor


@pytest.fixture
def any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use any free port."""
    monkeypatch.setenv("TASKAPP_PORT", "0")


@pytest.mark.usefixtures("served", "any_port")
def test_the_doctor_says_all_in_columns_and_warnings_are_no_failure() -> None:
    *lines, empty, summary = succeed("doctor").splitlines()
    assert lines[0].startswith("ok    database      PostgreSQL ")
    warned = next(number for number, line in enumerate(lines) if line.startswith("warn"))
    assert lines[warned : warned + 2] == [
        "warn  passwords     bcrypt cost 4 is too low",
        "                    Set TASKAPP_BCRYPT_ROUNDS to 12, or at least 10.",
    ]
    assert (empty, summary) == ("", "0 problems, 1 warning.")


@pytest.mark.usefixtures("any_port")
def test_the_doctor_fails_when_something_is_wrong(old: tuple[Path, str]) -> None:
    _, url = old
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (1, "")
    assert "FAIL  migrations    the database is at revision 0001" in result.stdout
    assert result.stdout.endswith("1 problem, 1 warning.\n")
    assert revision(url) == FIRST_REVISION


# Help


@pytest.mark.parametrize("arguments", [names for names, _ in walk(cli)], ids=" ".join)
def test_every_help_gives_the_exit_codes(arguments: tuple[str, ...]) -> None:
    assert EPILOG in succeed(*arguments, "--help")


def test_wrong_usage_ends_with_exit_code_2() -> None:
    assert "Missing argument 'EMAIL'" in fail("user", "add", code=2)
    assert "No such option" in fail("user", "list", "--csv", code=2)
    assert "No such command" in fail("sessions", "steal", code=2)
    assert "unexpected extra argument" in fail("user", "add", "a@b.example", PASSWORD[:-1], code=2)
