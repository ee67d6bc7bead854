"""The bench data set is what it says, and is not loaded over somebody's data."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import RFC_4122, UUID

import psycopg2
import pytest

from bench.load import PASSWORD
from taskapp.embedded import embedded_postgres
from taskapp.passwords import PasswordHasher

CHECKOUT = Path(__file__).parents[1]
USERS, TASKS = 20, 10
EPOCH, MILLISECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(milliseconds=1)


@pytest.fixture(scope="module")
def loaded_folder() -> Iterator[Path]:
    parent = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-bench-"))  # a short path
    done = load(parent / "data", USERS, TASKS)
    assert done.returncode == 0, done.stderr
    assert "Loaded 20 users with 10 tasks each in " in done.stdout
    yield parent / "data"
    shutil.rmtree(parent)


def load(folder: Path, users: int, tasks: int, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench.load", "--users", str(users), "--tasks", str(tasks)]
    environment = {
        "PYTHONPATH": str(CHECKOUT),
        "TASKAPP_DATA_DIR": str(folder),
        "TASKAPP_BCRYPT_ROUNDS": "4",
    }
    others = {name: value for name, value in os.environ.items() if not name.startswith("TASKAPP_")}
    return subprocess.run(
        [*command, *more],
        cwd=folder.parent,  # where there is no .env
        env=others | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def select(folder: Path, query: str) -> list[tuple[Any, ...]]:
    async def run() -> list[tuple[Any, ...]]:
        async with embedded_postgres(folder) as url:
            with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())

    return asyncio.run(run())


def test_each_user_has_tasks_of_which_a_third_is_completed(loaded_folder: Path) -> None:
    rows = select(
        loaded_folder,
        "SELECT email, count(*), count(*) FILTER (WHERE status = 'completed'),"
        " min(char_length(description)), max(tasks.created_at) < now()"
        " FROM users JOIN tasks ON user_id = users.id GROUP BY email ORDER BY email",
    )
    assert [row[0] for row in rows] == [f"user{number:05d}@example.com" for number in range(1, 21)]
    assert {row[1] for row in rows} == {TASKS}
    assert {row[2] for row in rows} == {3, 4}
    assert {row[3:] for row in rows} == {(200, True)}


def test_ids_are_of_version_7_and_lie_in_time_order(loaded_folder: Path) -> None:
    rows = select(loaded_folder, "SELECT id, user_id, created_at FROM tasks ORDER BY id")
    ids = [UUID(row[0]) for row in rows]
    moments = [row[2] for row in rows]
    assert {(id_.version, id_.variant) for id_ in ids} == {(7, RFC_4122)}
    assert [id_.int >> 80 for id_ in ids] == [(moment - EPOCH) // MILLISECOND for moment in moments]
    assert all(earlier < later for earlier, later in pairwise(moments))


def test_the_tasks_of_users_are_mixed_over_time_and_over_the_table(loaded_folder: Path) -> None:
    owners = [row[0] for row in select(loaded_folder, "SELECT user_id FROM tasks ORDER BY ctid")]
    turns = [owners[start : start + USERS] for start in range(0, len(owners), USERS)]
    assert len(turns) == TASKS
    assert all(len(set(turn)) == USERS for turn in turns)


def test_the_password_that_the_bench_clients_know_opens_every_account(loaded_folder: Path) -> None:
    [(password_hash,)] = select(loaded_folder, "SELECT DISTINCT password_hash FROM users")
    hasher = PasswordHasher(4)
    assert PASSWORD == "correct horse battery"
    assert asyncio.run(hasher.matches(PASSWORD, password_hash))
    assert not hasher.is_outdated(password_hash)
    hasher.close()


def test_a_second_run_refuses_and_add_puts_new_users_beside_the_others(loaded_folder: Path) -> None:
    copy = loaded_folder.with_name("copy")
    shutil.copytree(loaded_folder, copy)
    refused = load(copy, 1, 1)
    assert refused.returncode == 1
    assert "holds 20 users, and nothing was loaded. Give --add" in refused.stderr
    added = load(copy, 1, 3, "--add")
    assert added.returncode == 0, added.stderr
    assert select(
        copy,
        "SELECT email, count(*) FROM users JOIN tasks ON user_id = users.id"
        " GROUP BY email ORDER BY email DESC LIMIT 2",
    ) == [("user00021@example.com", 3), ("user00020@example.com", TASKS)]


def test_no_users_are_no_data_set(tmp_path: Path) -> None:
    done = load(tmp_path / "data", 0, 1)
    assert done.returncode == 2
    assert "0 is not in the range x>=1" in done.stderr
    assert not (tmp_path / "data").exists()


def test_both_sizes_are_measured_and_nothing_is_left_behind(loaded_folder: Path) -> None:
    sizes = ("--users=6", "--few=2", "--tasks=5", "--sessions=2", "--requests=3")
    folder = loaded_folder.with_name("temporary")
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare_sizes", *sizes],
        cwd=CHECKOUT,
        env=os.environ | {"TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr  # three requests tell nothing about speed
    assert "| ms | 10 tasks: median | p95 | 30 tasks: median | p95 | ratio" in done.stdout
    for operation in ("list", "get", "create", "update"):
        assert re.search(rf"\| {operation} (\| \d+\.\d\d ){{5}}\|", done.stdout)
    assert list(folder.iterdir()) == []
