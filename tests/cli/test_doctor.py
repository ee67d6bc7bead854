"""Doctor reports what is right and what is wrong, and the fix."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from taskapp.config.settings import Settings, SettingsError, load_settings
from taskapp.db.migrations import HEAD, Revision
from taskapp.doctor.backups import check_backups
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.doctor.checks import (
    check_clock,
    check_data_folder,
    check_database,
    check_free_space,
    check_limits,
    check_revision,
    check_secret_key,
    check_server,
    check_space,
    check_year,
    run_checks,
)
from taskapp.doctor.port import check_port
from taskapp.doctor.settings import (
    check_address,
    check_metrics,
    check_origins,
    check_passwords,
    check_proxies,
    check_registration,
)
from taskapp.queries.postgresql import ServerFacts
from taskapp.runtime.database_server import prepare_database
from tests.auth.test_rate_limits import redis_server
from tests.postgres.test_server import execute, owner, url_of
from tests.support.database_fixtures import new_database
from tests.support.server_process import (
    CHECKOUT,
    Client,
    Stopwatch,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

OK, INFO, WARNING, PROBLEM = Level.OK, Level.INFO, Level.WARNING, Level.PROBLEM
KEYS = "kMp4vX9qLz2Ws7Tn5Bf8Gh3Jd6Rc1Yae", "Zq7Wm2Kx9Vb4Nc6Ty1Ls8Hd3Gf5Jr0Pu"


@pytest.fixture
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # a short path
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def server() -> Iterator[tuple[Path, str]]:
    """Return a data folder whose PostgreSQL another process runs, and its URL."""
    parent = Path(tempfile.mkdtemp(prefix="ta-", dir="/tmp"))  # a short path
    with owner(parent / "data") as process:
        yield parent / "data", url_of(process)
        process.communicate("")
    shutil.rmtree(parent)


@pytest.fixture
def served(server: tuple[Path, str]) -> tuple[Settings, str]:
    """Return the settings of a running installation, and the URL of its database."""
    data_dir, url = server
    settings = make_settings(data_dir=str(data_dir))
    execute(url, "DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    asyncio.run(prepare_database(settings, url))
    return settings, url


def make_settings(**texts: str) -> Settings:
    given = {f"TASKAPP_{name.upper()}": text for name, text in texts.items()}
    return load_settings({"TASKAPP_PORT": "0"} | given)  # 8000 may be anybody's


def levels(findings: list[CheckResult]) -> dict[str, Level]:
    return {finding.subject: finding.level for finding in findings}


def assert_is(finding: CheckResult, level: Level, words: str) -> None:
    assert finding.level is level, finding
    assert words in f"{finding.text} {finding.fix}"
    assert "\n" not in f"{finding.text}{finding.fix}"
    assert finding.fix or finding.level not in {WARNING, PROBLEM} or finding.text.endswith(".")


OPEN_FILES = """
import resource, sys
from taskapp.config.settings import load_settings
from taskapp.doctor.open_files import check_open_files
limit = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
found = check_open_files(load_settings({}))
print(found.level.value, found.text, found.fix)
"""


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (20, "FAIL this process may open 20 files and sockets, and needs at least 90 Raise the"),
        (89, "FAIL this process may open 89 files"),
        (90, "warn only room for 16 connections Raise the limit: `ulimit -n 4096`"),
        (1024, "ok room for 950 connections"),
    ],
)
def test_a_limit_of_open_files_that_few_browsers_fit_into_is_found(
    limit: int, expected: str
) -> None:
    command = [sys.executable, "-c", OPEN_FILES, str(limit)]
    assert subprocess.check_output(command, text=True, cwd=CHECKOUT).startswith(expected)


# Whole set-ups


def test_a_good_set_up_is_all_right(served: tuple[Settings, str]) -> None:
    settings, _ = served
    findings = asyncio.run(run_checks(settings))
    not_ok = [finding for finding in findings if finding.level is not OK]
    # The first start generates the key, and makes the first backup a minute later.
    assert [finding.subject for finding in not_ok] == ["backups", "secret key"]
    assert {finding.level for finding in not_ok} == {INFO}


def test_what_is_not_there_yet_is_not_made_by_looking(folder: Path) -> None:
    findings = asyncio.run(run_checks(make_settings(data_dir=str(folder / "data"))))
    assert [finding.subject for finding in findings if finding.level is INFO] == [
        "database",
        "data folder",
        "backups",
        "secret key",
    ]
    assert {finding.level for finding in findings} == {OK, INFO}
    assert list(folder.iterdir()) == []


def test_every_warning_and_problem_comes_with_what_to_do(folder: Path) -> None:
    (folder / "secret-key").write_text("secret")
    folder.chmod(0o777)
    settings = make_settings(
        data_dir=str(folder),
        database_url="postgresql://ada:hidden@127.0.0.1:1/tasks",
        host="0.0.0.0",  # noqa: S104  # what is looked for
        public_url="http://tasks.example.com",
        trusted_proxies="0.0.0.0/0",
        cors_origins="http://other.example.com",
        metrics_allow="::/0",
        bcrypt_rounds="4",
        limit_storage="redis://:hidden@127.0.0.1:1/0",
        backup_every="off",
    )
    findings = asyncio.run(run_checks(settings))
    assert levels(findings) == {
        "database": PROBLEM,
        "date": OK,
        "data folder": WARNING,
        "backups": WARNING,
        "maintenance": OK,
        "secret key": PROBLEM,
        "open files": OK,
        "address": WARNING,
        "proxies": PROBLEM,
        "origins": WARNING,
        "metrics": WARNING,
        "passwords": WARNING,
        "registration": INFO,
        "limits": PROBLEM,
    }
    assert all(finding.fix for finding in findings if finding.level is not OK)
    assert "hidden" not in str(findings)


# The database


def test_an_older_database_has_to_be_migrated(served: tuple[Settings, str]) -> None:
    settings, url = served
    execute(url, "UPDATE alembic_version SET version_num = '0001'")
    finding = asyncio.run(check_database(settings))[1]
    assert_is(finding, PROBLEM, "Run `python server.py migrate`.")


def test_a_server_of_ones_own_is_looked_at(served: tuple[Settings, str], folder: Path) -> None:
    _, url = served
    settings = make_settings(database_url=url, data_dir=str(folder / "data"))
    findings = asyncio.run(check_database(settings))
    assert levels(findings) == {"database": OK, "migrations": OK, "clock": OK}
    assert check_space(settings) == []


def test_a_server_of_ones_own_that_is_away_is_said(folder: Path) -> None:
    url = f"postgresql://ada@/tasks?host={folder}"
    (finding,) = asyncio.run(check_database(make_settings(database_url=url)))
    assert_is(finding, PROBLEM, "Start that server, or correct TASKAPP_DATABASE_URL.")


def test_an_address_that_cannot_be_read_is_said_and_not_shown() -> None:
    settings = make_settings(database_url="postgresql://ada:hid/den@db.example/tasks")
    (finding,) = asyncio.run(check_database(settings))
    assert_is(finding, PROBLEM, "special characters as %2F for /")
    assert "hid" not in finding.text


def test_a_guest_who_may_not_read_the_revision_is_told(served: tuple[Settings, str]) -> None:
    _, url = served
    execute(url, "CREATE ROLE guest LOGIN; GRANT USAGE ON SCHEMA public TO guest")
    guest = make_settings(database_url=url.replace("taskapp@", "guest@"))
    (finding,) = asyncio.run(check_database(guest))
    assert_is(finding, PROBLEM, "permission denied for table alembic_version")
    execute(url, "REVOKE ALL ON SCHEMA public FROM guest; DROP ROLE guest")


@pytest.mark.parametrize("role", ["guest", "group_of_guests"])
@pytest.mark.parametrize("limited", ["ROLE guest", "DATABASE postgres"])
def test_a_limit_of_connections_below_what_taskapp_uses_is_found(
    served: tuple[Settings, str], limited: str, role: str
) -> None:
    _, url = served
    execute(url, "CREATE ROLE group_of_guests; CREATE ROLE guest LOGIN IN ROLE group_of_guests")
    execute(url, "GRANT SELECT ON ALL TABLES IN SCHEMA public TO group_of_guests")
    execute(url, f"ALTER ROLE guest SET role = {role}")  # by which the tables are another role's
    execute(url, f"ALTER {limited} CONNECTION LIMIT 12")
    try:
        guest = make_settings(database_url=url.replace("taskapp@", "guest@"))
        finding = asyncio.run(check_database(guest))[0]
        assert_is(finding, WARNING, "allows this user 12 connections, and taskapp uses up to 13")
        enough = make_settings(database_url=guest.database_url, database_pool="9")
        assert asyncio.run(check_database(enough))[0].level == OK
    finally:
        execute(url, f"ALTER {limited} CONNECTION LIMIT -1")
        execute(url, "DROP OWNED BY guest, group_of_guests; DROP ROLE guest, group_of_guests")


def test_an_empty_database_that_cannot_take_the_tables_is_found(
    served: tuple[Settings, str],
) -> None:
    _, owner_url = served
    with new_database(owner_url) as empty:
        url = f"{empty}&options=-csearch_path%3Dnowhere"
        findings = {
            f.subject: f for f in asyncio.run(check_database(make_settings(database_url=url)))
        }
    assert_is(findings["migrations"], PROBLEM, "leads to no schema")


def test_tables_that_the_user_of_the_process_does_not_find_are_missed(
    served: tuple[Settings, str],
) -> None:
    _, owner_url = served
    url = f"{owner_url}&options=-csearch_path%3Dnowhere"
    settings = make_settings(database_url=url, migration_database_url=owner_url)
    findings = {finding.subject: finding for finding in asyncio.run(check_database(settings))}
    assert_is(findings["tables"], PROBLEM, "Set search_path, or grant the tables")
    assert findings["tables"].text == 'search_path (nowhere) leads to no table "tasks"'


def test_an_embedded_database_that_cannot_run_is_said(folder: Path) -> None:
    (folder / "postgres").mkdir()
    (finding,) = asyncio.run(check_database(make_settings(data_dir=str(folder))))
    assert_is(finding, PROBLEM, "is there, but holds no database")


def test_an_embedded_database_that_refuses_is_said(served: tuple[Settings, str]) -> None:
    settings, url = served
    other = url.replace("/postgres?", "/template1?")
    execute(other, "ALTER DATABASE postgres ALLOW_CONNECTIONS false")
    try:
        (finding,) = asyncio.run(check_database(settings))
    finally:
        execute(other, "ALTER DATABASE postgres ALLOW_CONNECTIONS true")
    assert_is(finding, PROBLEM, "Restart taskapp")


SUITABLE = ServerFacts(180006, "UTF8", is_read_only=False, max_connections=100, clock=0.0)


@pytest.mark.parametrize(
    ("facts", "pool", "level", "words"),
    [
        (SUITABLE, 97, OK, "PostgreSQL 18.6 is responding"),
        (SUITABLE._replace(version=150000), 10, OK, "PostgreSQL 15.0 is responding"),
        (SUITABLE._replace(version=140012), 10, PROBLEM, "PostgreSQL 14.12 is too old"),
        (SUITABLE._replace(encoding="SQL_ASCII"), 10, PROBLEM, "uses SQL_ASCII"),
        (SUITABLE._replace(is_read_only=True), 10, PROBLEM, "is read-only"),
        (SUITABLE, 98, WARNING, "this user 100 connections, and taskapp uses up to 101"),
    ],
)
def test_the_server_has_to_suit(facts: ServerFacts, pool: int, level: Level, words: str) -> None:
    assert_is(check_server(facts, pool), level, words)


def test_a_server_that_confirms_no_writes_is_a_problem() -> None:
    assert_is(check_server(SUITABLE, 10, confirms_writes=False), PROBLEM, "a standby")


@pytest.mark.parametrize(
    ("revision", "level", "words"),
    [
        (Revision(HEAD, "0001"), OK, f"at revision {HEAD}"),
        (None, INFO, "the database is empty"),
        (Revision("0001", "0001"), PROBLEM, "Run `python server.py migrate`."),
        (Revision("9999", "9998"), PROBLEM, "Start the newer taskapp again, or restore the backup"),
        (Revision("9999", HEAD), WARNING, f"at revision 9999, which this taskapp ({HEAD}) can use"),
    ],
)
def test_the_revision_has_to_be_one_that_the_code_can_use(
    revision: Revision | None, level: Level, words: str
) -> None:
    assert_is(check_revision(revision), level, words)


@pytest.mark.parametrize(
    ("difference", "level", "words"),
    [
        (0.0, OK, "in sync"),
        (-4.9, OK, "in sync"),
        (3600.0, PROBLEM, "the database clock is 3,600 s ahead of this machine's"),
        (-5.0, PROBLEM, "the database clock is 5 s behind this machine's"),
    ],
)
def test_the_clocks_have_to_agree(difference: float, level: Level, words: str) -> None:
    assert_is(check_clock(difference), level, words)


@pytest.mark.parametrize(
    ("year", "level"), [(1970, PROBLEM), (2025, PROBLEM), (2026, OK), (2038, OK), (2100, PROBLEM)]
)
def test_the_year_has_to_be_plausible(year: int, level: Level) -> None:
    assert_is(check_year(datetime(year, 1, 1, tzinfo=UTC)), level, str(year))


# The data folder and the key


@pytest.mark.parametrize(
    ("mode", "level"),
    [
        (0o700, OK),
        (0o710, OK),  # how the mask of an access control list shows
        (0o750, WARNING),
        (0o720, WARNING),
        (0o701, WARNING),
        (0o755, WARNING),
        (0o777, WARNING),
    ],
)
def test_the_data_folder_has_to_be_private(folder: Path, mode: int, level: Level) -> None:
    folder.chmod(mode)
    assert_is(
        check_data_folder(folder), level, f"mode {mode:04o}" if level is WARNING else "closed"
    )
    fix = check_data_folder(folder).fix
    if fix:
        subprocess.run(fix, shell=True, check=True)  # noqa: S602  # as it is meant to be used
        assert check_data_folder(folder).level is OK


def test_the_data_folder_has_to_be_a_folder_that_can_be_written_to(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    assert_is(check_data_folder(file), PROBLEM, "is not writable: Not a directory")
    assert_is(check_data_folder(file / "data"), PROBLEM, f"cannot be created in {file}")
    assert_is(check_data_folder(Path("/proc/self/fd")), PROBLEM, "is not writable")
    assert_is(check_data_folder(folder / "a" / "b"), INFO, "is created at the first start")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_what_belongs_to_another_user_is_said(folder: Path) -> None:
    data_dir = folder / "data"
    data_dir.mkdir(mode=0o700)
    folder.chmod(0o755)
    settings = make_settings(data_dir=str(data_dir))
    os.seteuid(65534)
    try:
        (database,) = asyncio.run(check_database(settings))
        space = check_space(settings)
        assert_is(check_data_folder(data_dir), PROBLEM, "is not writable: Permission denied")
        assert_is(check_data_folder(data_dir / "below"), PROBLEM, "is not writable")
        assert_is(check_secret_key(settings), PROBLEM, "Run doctor as the user who runs taskapp.")
    finally:
        os.seteuid(0)
    assert "Permission denied" in database.text
    assert levels(space) == {"disk": OK}


@pytest.mark.parametrize(
    ("free", "level", "words"),
    [
        (10 * 1024**2, PROBLEM, "10 MiB free, too little"),
        (500 * 1024**2, WARNING, "only 500 MiB free"),
        (1536 * 1024**2, OK, "1.5 GiB free"),
    ],
)
def test_the_disk_has_to_have_room(free: int, level: Level, words: str) -> None:
    assert_is(check_free_space(free, Path("/data")), level, words)


def test_a_disk_of_the_backups_alone_is_looked_at_too(folder: Path) -> None:
    beside, elsewhere = str(folder / "backups"), "/proc/self"  # a disk of its own, of no size
    both = check_space(make_settings(data_dir=str(folder), backup_dir=elsewhere))
    assert [finding.level for finding in both] == [PROBLEM, OK]
    assert elsewhere in both[0].fix
    assert len(check_space(make_settings(data_dir=str(folder), backup_dir=beside))) == 1


def test_the_folder_of_the_backups_has_to_be_one_that_can_be_written_to(folder: Path) -> None:
    file = folder / "file"
    file.touch()
    settings = make_settings(data_dir=str(folder), backup_dir=str(file))
    (finding,) = asyncio.run(check_backups(settings))
    assert_is(finding, PROBLEM, f"{file} is not writable: Not a directory")


# The port


def test_the_port_has_to_be_free_or_to_be_that_of_taskapp() -> None:
    with new_data_folder() as data_folder, reserved_port() as port:
        served = make_settings(port=str(port))
        with server_process(data_folder, settings={"TASKAPP_PORT": str(port)}) as server:
            with Client(server.address) as client:
                wait_until(lambda: client.status("/api/health/live") == 200)
            (finding,) = check_port(served)
            assert_is(finding, OK, "taskapp is listening")
        (finding,) = check_port(served)
        assert_is(finding, OK, "is free")


def test_a_port_where_another_program_listens_is_said_soon() -> None:
    stopwatch = Stopwatch()
    with socket.create_server(("127.0.0.1", 0)) as silent:  # which accepts, and says nothing
        (finding,) = check_port(make_settings(port=str(silent.getsockname()[1])))
    assert_is(finding, PROBLEM, "Stop what listens there")
    assert stopwatch.seconds < 4


def test_an_address_of_another_machine_is_said() -> None:
    settings = make_settings(host="192.0.2.1", port="8000")
    (finding,) = check_port(settings)
    assert_is(finding, PROBLEM, "Cannot assign requested address")


def test_keys_of_ones_own_are_counted_and_not_shown() -> None:
    one, two = (
        check_secret_key(make_settings(secret_key=key)) for key in (KEYS[0], ",".join(KEYS))
    )
    assert_is(one, OK, "TASKAPP_SECRET_KEY is set")
    assert_is(two, OK, "with 1 older")
    assert not any(key in f"{one}{two}" for key in KEYS)


@pytest.mark.parametrize(
    ("content", "mode", "level", "words"),
    [
        (KEYS[0], 0o600, OK, "closed to other users"),
        (KEYS[0], 0o400, OK, "closed to other users"),
        (KEYS[0], 0o640, PROBLEM, "can be read by other users (mode 0640)"),
        (KEYS[0], 0o604, PROBLEM, "chmod 600"),
        ("short", 0o600, PROBLEM, "at least 32 characters"),
        ("changeme" * 4, 0o600, PROBLEM, "this value is too easy to guess"),
    ],
)
def test_the_kept_key_has_to_be_strong_and_private(
    folder: Path, content: str, mode: int, level: Level, words: str
) -> None:
    path = folder / "secret-key"
    path.write_text(f"{content}\n")
    path.chmod(mode)
    finding = check_secret_key(make_settings(data_dir=str(folder)))
    assert_is(finding, level, words)
    assert content not in finding.text


# The settings, against each other


@pytest.mark.parametrize(
    ("texts", "level", "words"),
    [
        ({}, OK, "only from this machine"),
        ({"host": "localhost"}, OK, "only from this machine"),
        ({"host": "::1"}, OK, "only from this machine"),
        # Python calls it loopback from 3.13 on.
        ({"host": "::ffff:127.0.0.1"}, OK, "only from this machine"),
        ({"host": "unix:/run/taskapp.sock"}, OK, "only from this machine"),
        ({"public_url": "http://localhost:8000"}, OK, "only from this machine"),
        ({"host": "0.0.0.0"}, WARNING, "or set TASKAPP_HOST to 127.0.0.1"),  # noqa: S104  # judged
        ({"host": "::"}, WARNING, "open to the network without https"),
        ({"host": "tasks.local"}, WARNING, "open to the network without https"),
        ({"public_url": "http://tasks.example.com"}, WARNING, "is not https"),
        ({"public_url": "https://tasks.example.com"}, OK, "Secure cookies"),
        ({"public_url": "https://tasks.example.com", "host": "0.0.0.0"}, OK, "HSTS"),  # noqa: S104  # judged
    ],
)
def test_passwords_are_not_to_be_read_on_their_way(
    texts: dict[str, str], level: Level, words: str
) -> None:
    assert_is(check_address(make_settings(**texts)), level, words)


HTTPS = {"public_url": "https://tasks.example.com"}


@pytest.mark.parametrize(
    ("texts", "level", "words"),
    [
        ({}, OK, "none trusted"),
        (HTTPS, WARNING, "such as 127.0.0.1"),
        ({**HTTPS, "trusted_proxies": "10.0.0.1"}, WARNING, "such as 127.0.0.1"),
        ({**HTTPS, "trusted_proxies": "127.0.0.0/8"}, OK, "trusted: 127.0.0.0/8"),
        ({**HTTPS, "host": "::1", "trusted_proxies": "127.0.0.1"}, WARNING, "such as ::1"),
        ({**HTTPS, "host": "unix:/run/taskapp.sock"}, WARNING, "such as unix"),
        ({**HTTPS, "host": "unix:/run/ta.sock", "trusted_proxies": "unix"}, OK, "trusted: unix"),
        ({**HTTPS, "host": "192.0.2.1"}, WARNING, "treat all clients as one"),
        ({**HTTPS, "host": "192.0.2.1", "trusted_proxies": "192.0.2.2"}, OK, "192.0.2.2/32"),
        ({"trusted_proxies": "127.0.0.1"}, WARNING, "Set TASKAPP_PUBLIC_URL"),
        ({"trusted_proxies": "127.0.0.1, 0.0.0.0/0"}, PROBLEM, "anyone can spoof theirs"),
        ({**HTTPS, "trusted_proxies": "::/0"}, PROBLEM, "anyone can spoof theirs"),
    ],
)
def test_exactly_the_proxy_is_to_be_believed(
    texts: dict[str, str], level: Level, words: str
) -> None:
    assert_is(check_proxies(make_settings(**texts)), level, words)


@pytest.mark.parametrize(
    ("origins", "level", "words"),
    [
        ("", OK, "no other site"),
        ("https://b.example, https://a.example", OK, "https://a.example, https://b.example may"),
        ("http://localhost:3000, http://127.0.0.1:3000", OK, "may call the API"),
        ("https://a.example, http://b.example", WARNING, "http://b.example is not https"),
    ],
)
def test_other_sites_are_to_come_by_https(origins: str, level: Level, words: str) -> None:
    assert_is(check_origins(make_settings(cors_origins=origins)), level, words)


def test_all_other_sites_cannot_even_be_set() -> None:
    with pytest.raises(SettingsError, match="TASKAPP_CORS_ORIGINS"):
        make_settings(cors_origins="*")


@pytest.mark.parametrize(
    ("allowed", "level", "words"),
    [
        ("127.0.0.0/8, ::1, unix", OK, "readable by 127.0.0.0/8, ::1/128, unix"),
        ("10.0.0.0/8", OK, "readable by 10.0.0.0/8"),
        ("10.0.0.0/8, ::/0", WARNING, "anyone may read /metrics"),
    ],
)
def test_metrics_are_not_for_everybody(allowed: str, level: Level, words: str) -> None:
    assert_is(check_metrics(make_settings(metrics_allow=allowed)), level, words)


@pytest.mark.parametrize(("rounds", "level"), [("12", OK), ("10", OK), ("9", WARNING)])
def test_hashes_have_to_be_expensive(rounds: str, level: Level) -> None:
    assert_is(check_passwords(make_settings(bcrypt_rounds=rounds)), level, rounds)


@pytest.mark.parametrize(
    ("texts", "level", "words"),
    [
        ({}, OK, "open"),
        (HTTPS, INFO, "TASKAPP_REGISTRATION to closed"),
        ({"host": "192.0.2.1"}, INFO, "anyone who can reach it"),
        ({**HTTPS, "registration": "closed"}, OK, "`user add`"),
    ],
)
def test_open_registration_is_said(texts: dict[str, str], level: Level, words: str) -> None:
    assert_is(check_registration(make_settings(**texts)), level, words)


# Redis


def test_a_redis_has_to_let_us_in(folder: Path) -> None:
    with redis_server(folder, "--requirepass", "opensesame"):
        for password, level in (("opensesame", OK), ("abracadabra", PROBLEM)):
            url = f"redis+unix://:{password}@{folder / 'redis.sock'}"
            finding = asyncio.run(check_limits(make_settings(limit_storage=url)))
            assert finding.level is level, finding
            assert password not in str(finding)


def test_several_taskapps_on_one_database_need_a_redis_to_count_together() -> None:
    assert_is(asyncio.run(check_limits(make_settings())), OK, "is enough for one process")
    shared = make_settings(database_url="postgresql://taskapp@127.0.0.1/taskapp")
    assert_is(asyncio.run(check_limits(shared)), INFO, "each process on this database")


def test_a_redis_that_is_away_is_said_soon() -> None:
    stopwatch = Stopwatch()
    finding = asyncio.run(check_limits(make_settings(limit_storage="redis://127.0.0.1:1/0")))
    assert_is(finding, PROBLEM, "until then nobody can log in")
    assert stopwatch.seconds < 4
