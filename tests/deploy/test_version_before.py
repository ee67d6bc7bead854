"""The version before works on the tables of the next one, or is refused: the way back (ADR 0055).

Needs the git history, for the version before.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from taskapp.db.migrations import FOLDER, HEAD
from tests.deploy.versions import (
    NEXT,
    add_migration,
    checked_out,
    copy_program,
    git,
    run_command,
)
from tests.support.database_fixtures import execute, new_database
from tests.support.server_process import (
    LONG_ENOUGH,
    PROGRAM,
    ServerProcess,
    server_process,
)

# Of the kind that the version before does not notice, and of the kind that it cannot live with.
EXPANDING = "ALTER TABLE tasks ADD COLUMN due_on date"
RENAMING = "ALTER TABLE tasks RENAME COLUMN title TO name"


@pytest.fixture
def url(database_url: str) -> Iterator[str]:
    """Return the URL of a database without tables."""
    with new_database(database_url) as own_url:
        yield own_url


def use(server: ServerProcess, email: str) -> None:
    """Register, log in, add, edit, complete and delete a task."""
    user = server.client().sign_up(email)
    for title in ("Buy milk", "Call Bob"):
        task = user.send("POST", "/api/tasks", {"title": title})
        assert task.status == 201, task.body
    path = f"/api/tasks/{task.json['id']}"
    changes = {"title": "Call Carol", "description": "Tomorrow", "status": "completed"}
    for name, value in changes.items():
        changed = user.send("PUT", path, {name: value})
        assert (changed.status, changed.json[name]) == (200, value)
    assert user.titles() == ["Call Carol", "Buy milk"]
    assert user.send("DELETE", path).status == 200
    assert user.titles() == ["Buy milk"]
    assert server.surprises() == []


def next_program(folder: Path, oldest_program: str, statement: str) -> Path:
    program = copy_program(folder / "next")
    add_migration(program, oldest_program, statement)
    return program


def revision_of(url: str) -> str:
    [[revision]] = execute(url, "SELECT version_num FROM alembic_version")
    return str(revision)


def test_this_version_starts_and_works_on_the_tables_of_the_next(url: str, tmp_path: Path) -> None:
    settings = {"TASKAPP_DATABASE_URL": url}
    program = next_program(tmp_path, HEAD, EXPANDING)
    assert f"to revision {NEXT}" in run_command(program, tmp_path / "data", "migrate", **settings)
    with server_process(tmp_path / "data", settings=settings) as server:
        use(server.wait_until_ready(), "alice@example.com")
        [warning] = [line for line in server.log if line["event"] == "database.newer_accepted"]
        assert (warning["level"], warning["revision"], warning["expected"]) == (
            "warning",
            NEXT,
            HEAD,
        )
        assert server.end() == 0
    said = run_command(PROGRAM, tmp_path / "data", "migrate", **settings)
    assert f"Nothing to migrate: the database is at revision {NEXT}" in said
    assert "alice@example.com" in run_command(
        PROGRAM, tmp_path / "data", "user", "list", **settings
    )
    with server_process(tmp_path / "data", program=program, settings=settings) as server:
        use(server.wait_until_ready(), "bob@example.com")
    assert revision_of(url) == NEXT


def test_this_version_refuses_the_tables_of_the_next_that_it_cannot_use(
    url: str, tmp_path: Path
) -> None:
    settings = {"TASKAPP_DATABASE_URL": url}
    run_command(next_program(tmp_path, NEXT, RENAMING), tmp_path / "data", "migrate", **settings)
    for arguments in ((), ("migrate",), ("user", "list")):
        with server_process(tmp_path / "data", *arguments, settings=settings) as server:
            assert server.process.wait(LONG_ENOUGH) == 1
            assert f"The database is at revision {NEXT}, and this taskapp knows" in server.log_text
    assert revision_of(url) == NEXT


def test_the_oldest_program_of_the_newest_tables_works_on_them_as_it_says(
    url: str, tmp_path: Path
) -> None:
    """The program runs already, because those before ADR 0055 do not start on newer tables."""
    settings = {"TASKAPP_DATABASE_URL": url}
    with (
        checked_out(last_commit_at(oldest_program_of(HEAD))) as program,
        server_process(tmp_path / "data", program=program, settings=settings) as server,
    ):
        use(server.wait_until_ready(), "alice@example.com")
        assert revision_of(url) == oldest_program_of(HEAD)
        run_command(PROGRAM, tmp_path / "data", "migrate", **settings)
        assert revision_of(url) == HEAD
        use(server, "bob@example.com")
        assert counted(url) == [(1, 8)] * 2


def oldest_program_of(revision: str) -> str:
    module = ScriptDirectory(str(FOLDER)).get_revision(revision).module
    return str(module.oldest_program)


def last_commit_at(revision: str) -> str:
    """Return the commit before the one that added the revision after this one."""
    added = f":(glob)schema/versions/{int(revision) + 1:04}_*.py"
    found = git("log", "--diff-filter=A", "--format=%H", "HEAD", "--", added)
    return f"{found.stdout.decode().split()[-1]}^"


def counted(url: str) -> list[tuple[int, int]]:
    return execute(url, "SELECT task_count, task_characters FROM users")
