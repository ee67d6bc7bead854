"""The bench data set is as documented, and is never loaded over existing users."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from uuid import RFC_4122, UUID

import pytest

from bench.load import PASSWORD
from taskapp.auth.passwords import PasswordHasher
from tests.support.database_fixtures import execute, new_database
from tests.support.environment import inherited_environment

CHECKOUT = Path(__file__).parents[2]
USERS, TASKS = 20, 10
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def loaded(database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with new_database(database_url) as url:
        done = load(url, tmp_path_factory.mktemp("bench"), USERS, TASKS)
        assert done.returncode == 0, done.stderr
        assert "Loaded 20 users with 10 tasks each in " in done.stdout
        yield url


def load(
    url: str, folder: Path, users: int, tasks: int, *more: str
) -> subprocess.CompletedProcess[str]:
    return run(
        ["bench.load", f"--users={users}", f"--tasks={tasks}", *more],
        folder,
        {"TASKAPP_DATABASE_URL": url, "TASKAPP_BCRYPT_ROUNDS": "4"},
    )


def run(
    command: list[str], folder: Path, environment: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,  # has no .env
        env=inherited_environment() | {"PYTHONPATH": str(CHECKOUT)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_user_has_tasks_of_which_a_third_is_completed(loaded: str) -> None:
    rows = execute(
        loaded,
        "SELECT email, count(*), count(*) FILTER (WHERE status = 'completed'),"
        " min(char_length(description)), max(tasks.created_at) < now()"
        " FROM users JOIN tasks ON user_id = users.id GROUP BY email ORDER BY email",
    )
    assert [row[0] for row in rows] == [f"user{number:05d}@example.com" for number in range(1, 21)]
    assert {row[1] for row in rows} == {TASKS}
    assert {row[2] for row in rows} == {3, 4}
    assert {row[3:] for row in rows} == {(200, True)}


def test_ids_are_of_version_7_and_lie_in_time_order(loaded: str) -> None:
    rows = execute(loaded, "SELECT id, created_at FROM tasks ORDER BY id")
    ids = [UUID(row[0]) for row in rows]
    timestamps = [row[1] for row in rows]
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    assert [id_.int >> 80 for id_ in ids] == [
        (timestamp - EPOCH) // MILLISECOND for timestamp in timestamps
    ]
    assert all(earlier < later for earlier, later in pairwise(timestamps))


def test_the_tasks_of_users_are_mixed_over_time_and_over_the_table(loaded: str) -> None:
    owners = [row[0] for row in execute(loaded, "SELECT user_id FROM tasks ORDER BY ctid")]
    turns = [owners[start : start + USERS] for start in range(0, len(owners), USERS)]
    assert len(turns) == TASKS
    assert all(len(set(turn)) == USERS for turn in turns)


def test_the_password_that_the_bench_clients_know_opens_every_account(loaded: str) -> None:
    [(password_hash,)] = execute(loaded, "SELECT DISTINCT password_hash FROM users")
    hasher = PasswordHasher(4)
    assert PASSWORD == "correct horse battery"
    assert asyncio.run(hasher.matches(PASSWORD, password_hash))
    assert not hasher.is_outdated(password_hash)
    hasher.close()


def test_a_second_run_refuses_and_add_puts_new_users_beside_the_others(
    database_url: str, tmp_path: Path
) -> None:
    with new_database(database_url) as url:
        assert load(url, tmp_path, 2, 3).returncode == 0
        refused = load(url, tmp_path, 1, 1)
        assert refused.returncode == 1
        assert "holds 2 users, and nothing was loaded. Use --add" in refused.stderr
        assert execute(url, "SELECT count(*) FROM tasks") == [(6,)]
        assert load(url, tmp_path, 1, 4, "--add").returncode == 0
        counts = "SELECT email, count(*) FROM users JOIN tasks ON user_id = users.id GROUP BY email"
        assert sorted(execute(url, counts)) == [
            ("user00001@example.com", 3),
            ("user00002@example.com", 3),
            ("user00003@example.com", 4),
        ]


def test_no_users_are_no_data_set(database_url: str, tmp_path: Path) -> None:
    done = load(database_url, tmp_path, 0, 1)
    assert done.returncode == 2
    assert "0 is not in the range x>=1" in done.stderr
