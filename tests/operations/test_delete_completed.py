"""Exactly the completed tasks that the confirmation page counted are deleted."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import BadRequest, NotAuthenticated
from taskapp.forms.parameters import is_version
from taskapp.operations import portions
from taskapp.operations.tasks import (
    MAX_UNDO_TASKS,
    delete_completed_tasks,
    find_completed,
    set_task_status,
    update_task,
)
from taskapp.queries import bulk_tasks
from taskapp.queries.bulk_tasks import CompletedSummary
from taskapp.queries.tasks import COUNT_LIMIT
from taskapp.services import Services
from tests.support.api_tools import statement_counts
from tests.support.database_fixtures import (
    add_session,
    add_tasks,
    add_user,
    execute,
    is_waited_for,
)
from tests.support.server_process import LONG_ENOUGH, wait_until

pytestmark = pytest.mark.gen_test

LATER = "2999-01-01T00:00:00Z"
STATEMENT = "tasks.delete_completed"


@pytest.fixture
def alice(empty_database: str) -> SessionToken:
    """Return a session of Alice, who owns."""
    return add_session(empty_database, add_user(empty_database, "alice"))


@pytest.fixture
def bob(empty_database: str) -> SessionToken:
    """Return a session of Bob, the stranger."""
    return add_session(empty_database, add_user(empty_database, "bob"))


def tasks_of(url: str, session: SessionToken) -> list[str]:
    """Return the ids of a user's tasks, oldest first."""
    rows = execute(
        url, "SELECT id::text FROM tasks WHERE user_id = %s ORDER BY id", session.user_id
    )
    return [row[0] for row in rows]


async def require_until(services: Services, session: SessionToken) -> str:
    """Count the completed tasks, and return the timestamp."""
    completed = await find_completed(services, session)
    assert completed.until is not None
    assert is_version(completed.until)
    return completed.until


CHANGES: dict[str, dict[str, str]] = {
    "completed": {"status": "completed"},
    "opened": {"status": "pending"},
    "edited": {"title": "Edited"},
}


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    fates=st.lists(
        st.tuples(
            st.sampled_from(["pending", "completed"]), st.sampled_from(["left alone", *CHANGES])
        ),
        max_size=12,
    ),
    batch=st.integers(1, 5),
    max_undo=st.sampled_from([0, 1, 2, 100]),
)
def test_what_was_counted_and_not_changed_since_is_deleted_in_whatever_batches(
    fates: list[tuple[str, str]],
    batch: int,
    max_undo: int,
    services: Services,
    empty_database: str,
    alice: SessionToken,
    bob: SessionToken,
    io_loop: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(portions, "MAX_PORTION", batch)
    monkeypatch.setattr("taskapp.operations.tasks.MAX_UNDO_TASKS", max_undo)
    execute(empty_database, "DELETE FROM tasks")
    tasks = [add_tasks(empty_database, alice.user_id, 1, status=status)[0] for status, _ in fates]
    of_bob = [add_tasks(empty_database, bob.user_id, 1, status=status)[0] for status, _ in fates]

    async def scenario() -> None:
        asked = await find_completed(services, alice)
        assert asked.count == sum(status == "completed" for status, _ in fates)
        assert (asked.until is None) == (asked.count == 0)
        doomed = set()
        for task, (status, change) in zip(tasks, fates, strict=True):
            if change in CHANGES:
                await update_task(services, alice, task, CHANGES[change])
            elif status == "completed":
                doomed.add(task)
        if asked.until is not None:
            deleted = await delete_completed_tasks(services, alice, asked.until)
            assert deleted.number == len(doomed)
            assert {task.id for task in deleted.tasks} == (
                doomed if len(doomed) <= max_undo else set()
            )
        assert tasks_of(empty_database, alice) == [task for task in tasks if task not in doomed]
        assert tasks_of(empty_database, bob) == of_bob

    io_loop.run_sync(scenario)


@pytest.mark.parametrize(
    ("number", "statements"),
    [(0, 1), (1, 1), (9, 1), (10, 2), (30, 3), (COUNT_LIMIT + 1, 16)],  # 10, 20, ... 640, 1000
)
async def test_however_many_there_are_all_are_deleted_and_counted(
    services: Services,
    empty_database: str,
    alice: SessionToken,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    statements: int,
) -> None:
    monkeypatch.setattr("taskapp.operations.tasks.MAX_UNDO_TASKS", 0)
    monkeypatch.setattr(portions, "_FAST", LONG_ENOUGH)  # however busy the machine is
    monkeypatch.setattr("taskapp.operations.tasks.MAX_DELETION_SECONDS", LONG_ENOUGH)
    add_tasks(empty_database, alice.user_id, number, status="completed")
    kept = add_tasks(empty_database, alice.user_id, 2)
    asked = await find_completed(services, alice)
    assert asked.count == min(number, COUNT_LIMIT)
    deleted = await delete_completed_tasks(services, alice, asked.until or LATER)
    assert deleted.number == number
    assert tasks_of(empty_database, alice) == kept
    assert await find_completed(services, alice) == CompletedSummary(0, None, are_few=True)
    assert statement_counts(services.metrics)[STATEMENT] == statements
    lines = list(map(json.loads, capsys.readouterr().err.splitlines()))
    assert {(line["event"], line["userId"]) for line in lines} <= {("tasks.deleted", alice.user_id)}
    assert sum(line["count"] for line in lines) == number
    assert deletions(services) == (number or None)


def deletions(services: Services) -> float | None:
    return services.metrics.registry.get_sample_value(
        "taskapp_task_operations_total", {"operation": "deleted"}
    )


@pytest.mark.parametrize(
    "until", ["", "now", "infinity", "2026-02-30T10:00:00Z", "2026-02-02", "' OR 1=1 --", "\0"]
)
async def test_what_is_no_timestamp_deletes_nothing(
    services: Services, empty_database: str, alice: SessionToken, until: str
) -> None:
    tasks = add_tasks(empty_database, alice.user_id, 2, status="completed")
    with pytest.raises(BadRequest, match="The form is incomplete"):
        await delete_completed_tasks(services, alice, until)
    assert tasks_of(empty_database, alice) == tasks


async def test_a_session_that_is_over_counts_and_deletes_nothing(
    services: Services, empty_database: str, alice: SessionToken
) -> None:
    tasks = add_tasks(empty_database, alice.user_id, 2, status="completed")
    late = add_session(empty_database, alice.user_id, lasts="-1 second")
    with pytest.raises(NotAuthenticated):
        await find_completed(services, late)
    with pytest.raises(NotAuthenticated):
        await delete_completed_tasks(services, late, LATER)
    assert tasks_of(empty_database, alice) == tasks


async def test_a_session_of_another_deletes_his_own_whatever_it_says_of_itself(
    services: Services, empty_database: str, alice: SessionToken, bob: SessionToken
) -> None:
    tasks = add_tasks(empty_database, alice.user_id, 2, status="completed")
    add_tasks(empty_database, bob.user_id, 3, status="completed")
    disguised = SessionToken(alice.user_id, bob.secret_hash)
    assert (await find_completed(services, disguised)).count == 3
    assert (await delete_completed_tasks(services, disguised, LATER)).number == 3
    assert tasks_of(empty_database, alice) == tasks
    assert tasks_of(empty_database, bob) == []


@pytest.fixture
def ends_sessions(empty_database: str) -> Iterator[None]:
    """End the session that deletes tasks while it does."""
    execute(
        empty_database,
        "CREATE FUNCTION end_sessions() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN DELETE FROM sessions; RETURN NULL; END';"
        "CREATE TRIGGER end_sessions AFTER DELETE ON tasks FOR EACH ROW"
        " EXECUTE FUNCTION end_sessions()",
    )
    yield
    execute(empty_database, "DROP FUNCTION end_sessions CASCADE")


@pytest.mark.usefixtures("ends_sessions")
async def test_a_session_that_ends_on_the_way_stops_it_and_what_was_done_is_recorded(
    services: Services, empty_database: str, alice: SessionToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(portions, "MAX_PORTION", 2)
    monkeypatch.setattr("taskapp.operations.tasks.MAX_UNDO_TASKS", 0)
    tasks = add_tasks(empty_database, alice.user_id, 5, status="completed")
    with pytest.raises(NotAuthenticated):
        await delete_completed_tasks(services, alice, LATER)
    assert tasks_of(empty_database, alice) == tasks[:3]
    assert deletions(services) == 2


async def test_a_clock_that_is_set_back_deletes_nothing_that_was_not_counted(
    services: Services, empty_database: str, alice: SessionToken
) -> None:
    _, ahead = add_tasks(empty_database, alice.user_id, 2, status="completed")
    [pending] = add_tasks(empty_database, alice.user_id, 1)
    execute(
        empty_database,
        "UPDATE tasks SET updated_at = now() + interval '1 hour' WHERE id = %s",
        ahead,
    )
    asked = await find_completed(services, alice)
    assert asked.count == 1
    assert asked.until is not None
    await set_task_status(services, alice, pending, {"status": "completed"})
    assert (await delete_completed_tasks(services, alice, asked.until)).number == 1
    assert tasks_of(empty_database, alice) == [ahead, pending]


async def test_a_batch_is_the_newest_behind_the_one_before(
    services: Services, empty_database: str, alice: SessionToken
) -> None:
    """Deleted rows stay in the index for a while, and must not be read again in every batch."""
    tasks = add_tasks(empty_database, alice.user_id, 5, status="completed")
    deleted = await bulk_tasks.delete_completed_tasks(
        services.database, alice, until=LATER, after=tasks[4], limit=2
    )
    assert sorted(deleted) == tasks[2:4]


@pytest.mark.parametrize("number", [MAX_UNDO_TASKS, MAX_UNDO_TASKS + 10])
async def test_two_that_delete_at_once_delete_each_task_once(
    services: Services,
    empty_database: str,
    alice: SessionToken,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    monkeypatch.setattr(portions, "MAX_PORTION", 7)
    add_tasks(empty_database, alice.user_id, number, status="completed")
    until = await require_until(services, alice)
    deletions = await asyncio.gather(
        *(delete_completed_tasks(services, alice, until) for _ in range(4))
    )
    assert sum(deletion.number for deletion in deletions) == number
    assert tasks_of(empty_database, alice) == []


@pytest.mark.parametrize("max_undo", [0, 100])
@pytest.mark.parametrize(
    ("meanwhile", "is_kept"),
    [
        ("UPDATE tasks SET status = 'pending', updated_at = now() WHERE id = %s", True),
        ("DELETE FROM tasks WHERE id = %s", False),
    ],
    ids=["opened", "deleted"],
)
async def test_a_task_that_changes_while_its_deletion_waits_is_left_alone_and_no_other(
    services: Services,
    empty_database: str,
    alice: SessionToken,
    monkeypatch: pytest.MonkeyPatch,
    meanwhile: str,
    *,
    is_kept: bool,
    max_undo: int,
) -> None:
    monkeypatch.setattr(portions, "MAX_PORTION", 2)
    monkeypatch.setattr("taskapp.operations.tasks.MAX_UNDO_TASKS", max_undo)
    tasks = add_tasks(empty_database, alice.user_id, 3, status="completed")
    until = await require_until(services, alice)
    with closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as cursor:
        cursor.execute(meanwhile, (tasks[-1],))
        deletion = asyncio.create_task(delete_completed_tasks(services, alice, until))
        await asyncio.to_thread(wait_until, lambda: is_waited_for(empty_database))
        connection.commit()
        assert (await deletion).number == 2
    assert tasks_of(empty_database, alice) == (tasks[-1:] if is_kept else [])
