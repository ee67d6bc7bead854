"""Data of an earlier revision of the tables can be used at this one."""

import asyncio
from typing import Any

import pytest
from alembic import command

from taskapp.auth.passwords import PasswordHasher
from taskapp.auth.signing import Signer
from taskapp.db.migrations import HEAD
from tests.db.test_migrations import REVISIONS, alembic, revision_of
from tests.support.database_fixtures import add_session, add_tasks, add_user, execute, new_database
from tests.support.server_process import (
    PASSWORD,
    Client,
    new_data_folder,
    server_process,
)

ALICE = "alice@example.com"
KEY = "only-for-tests-0123456789-abcdefghijklmnop"
FIRST_WITH_TASKS = "0002"


@pytest.mark.parametrize("revision", REVISIONS[:-1])
def test_accounts_tasks_and_sessions_of_an_earlier_revision_are_of_use(
    database_url: str, revision: str
) -> None:
    with new_database(database_url) as url, new_data_folder() as folder:
        alembic(url, lambda config: command.upgrade(config, revision))
        token, tasks = fill(url, has_tasks=revision >= FIRST_WITH_TASKS)
        settings = {"TASKAPP_DATABASE_URL": url, "TASKAPP_SECRET_KEY": KEY}
        with server_process(folder, settings=settings) as server:
            alice = server.wait_until_ready().client()
            alice.token = token
            assert listed(alice) == tasks
            alice.log_in(ALICE)
            assert listed(alice) == tasks
            assert {task["completedAt"] for task in tasks_of(alice)} <= {None}
            assert alice.send("POST", "/api/tasks", {"title": "new"}).status == 201
            new = tasks_of(alice)[0]
            done = alice.send("PATCH", f"/api/tasks/{new['id']}", {"status": "completed"}).json
            assert done["completedAt"] == done["updatedAt"]
        assert revision_of(url) == HEAD


def fill(url: str, *, has_tasks: bool) -> tuple[str, dict[str, str]]:
    """Add Alice with a password, a live session and tasks; return its token and their states."""
    user_id = add_user(url, "alice")
    hasher = PasswordHasher(4)
    password_hash = asyncio.run(hasher.hash(PASSWORD))
    hasher.close()
    execute(url, "UPDATE users SET password_hash = %s", password_hash)
    token, secret_hash = Signer((KEY,)).new_bearer_token(user_id)
    add_session(url, user_id)
    execute(url, "UPDATE sessions SET secret_hash = %s", secret_hash)
    if not has_tasks:
        return token, {}
    add_tasks(url, user_id, 2)
    add_tasks(url, user_id, 1, status="completed")
    rows = execute(url, "SELECT id::text, title || status FROM tasks")
    return token, {row[0]: row[1] for row in rows}


def tasks_of(client: Client) -> list[dict[str, Any]]:
    response = client.send("GET", "/api/tasks")
    assert response.status == 200, response.body
    tasks: list[dict[str, Any]] = response.json["tasks"]
    return tasks


def listed(client: Client) -> dict[str, str]:
    return {task["id"]: task["title"] + task["status"] for task in tasks_of(client)}
