"""The flash message after a deletion brings the tasks back; nothing is kept for it."""

import struct
import time
from collections.abc import Callable
from hashlib import shake_256
from typing import Any

import pytest

from handlers.web.body_limit import MAX_BODY_SIZE
from handlers.web.cookies import MAX_VALUE_LENGTH
from schema.tables import DESCRIPTION_LENGTH, TITLE_LENGTH
from taskapp.auth.signing import UNDO_MAX_AGE
from taskapp.operations.tasks import MAX_UNDO_SIZE, MAX_UNDO_TASKS
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import add_tasks, execute
from tests.support.page_client import HOSTILE, PASSWORD, PageClient, cookie_name, titles
from tests.support.page_reader import Page

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test
GONE = "This can no longer be undone."
COMPLETED = "/tasks/completed/delete"
FLASH = cookie_name("flash")
# Characters of four bytes in a random order cannot be compressed by much: the largest token.
_NUMBERS = struct.unpack(f"{DESCRIPTION_LENGTH}H", shake_256(b"").digest(2 * DESCRIPTION_LENGTH))
LARGEST = "".join(chr(0x20000 + number % 0xA000) for number in _NUMBERS)


def rows_of(url: str) -> list[Any]:
    """Return all that is stored of all tasks, but for their idempotency keys."""
    return execute(url, "SELECT to_jsonb(tasks) - 'idempotency_key' FROM tasks ORDER BY id")


async def delete(mine: PageClient, task_id: str, query: str = "") -> Page:
    await mine.open(f"/tasks/{task_id}/delete{query}")
    return await mine.submit("Delete")


@pytest.mark.parametrize(
    "fields",
    [
        {"title": "Buy milk"},
        {"title": "Done", "status": "completed"},
        {"title": HOSTILE[0], "description": "\r\n a\tb\n" + "".join(HOSTILE)},
        {"title": "x" * TITLE_LENGTH, "description": "Ein langer Text, in Wörtern. " * 300},
        {"title": "\U00020000" * TITLE_LENGTH, "description": LARGEST},
        {"title": "買い物", "description": "牛乳とパンを買う。" * 1000},
        {"title": "\x01", "description": "\x01\x1f\u2028" * 3000},
    ],
    ids=["short", "completed", "any text", "long", "largest", "Japanese", "control characters"],
)
async def test_a_deleted_task_comes_back_as_it_was(
    mine: PageClient, alice: ApiClient, empty_database: str, fields: dict[str, str]
) -> None:
    fields = {"title": "x"} | fields
    await alice.add_task("Older")
    task = await alice.add_task(**fields) if fields["title"].strip("\x01") else None
    if task is None:  # a title needs a visible character
        task = await alice.add_task(**fields | {"title": f"{fields['title']}x"})
    await alice.add_task("Newer")
    await alice.put(f"/api/tasks/{task['id']}", {"title": task["title"]})  # another time of change
    before = rows_of(empty_database)
    page = await delete(mine, task["id"])
    assert (page.status, page.flash_message) == (200, "Task deleted. Undo")
    assert page.titles == await titles(alice) == ["Newer", "Older"]
    response = await mine.send("Undo")
    assert (response.status, response.location) == (303, f"/tasks#task-{task['id']}")
    page = await mine.follow(response)
    assert page.flash_message == "Task restored."
    assert rows_of(empty_database) == before
    assert (await mine.open("/tasks")).flash_message == ""


@pytest.mark.parametrize(("length", "status"), [(100, 303), (DESCRIPTION_LENGTH, 200)])
async def test_what_fits_into_a_cookie_is_redirected_and_what_does_not_is_in_the_response(
    mine: PageClient, alice: ApiClient, length: int, status: int
) -> None:
    for query in ("", "?status=pending"):
        await alice.add_task("Kept")
        task = await alice.add_task("Long", description=LARGEST[:length])
        await mine.open(f"/tasks/{task['id']}/delete{query}")
        page = await mine.send("Delete")
        assert page.status == status
        lines = page.headers.get_list("Set-Cookie")
        assert all(len(line) < MAX_VALUE_LENGTH + 200 for line in lines)
        assert (FLASH in mine.cookies) == (status == 303)
        page = await mine.follow(page)
        current = [tag["href"] for tag in page.tags("a") if "aria-current" in tag]
        assert current == [f"/tasks{query}"]
        assert page.titles[0] == "Kept"
        undone = await mine.send("Undo")
        assert undone.location == f"/tasks{query}#task-{task['id']}"
        await mine.open("/tasks")


async def test_it_is_offered_until_the_next_page(mine: PageClient, alice: ApiClient) -> None:
    task = await alice.add_task("Buy milk")
    assert (await delete(mine, task["id"])).has_form("Undo")
    assert not (await mine.open("/tasks")).has_form("Undo")


async def test_undoing_twice_says_the_same_and_changes_nothing(
    mine: PageClient, alice: ApiClient, empty_database: str, task: dict[str, str]
) -> None:
    form = await delete(mine, task["id"])
    await mine.submit("Undo")
    await alice.put(f"/api/tasks/{task['id']}", {"title": "Changed since"})
    before = rows_of(empty_database)
    mine.page = form
    page = await mine.submit("Undo")
    assert page.flash_message == "Task restored."
    assert rows_of(empty_database) == before


async def test_a_form_that_was_sent_again_after_the_deletion_keeps_the_undo_possible(
    mine: PageClient, alice: ApiClient
) -> None:
    form = await mine.open("/tasks")
    page = await mine.submit("Add", title="Buy milk")
    deleted = await delete(mine, page.rows[0].id)
    mine.page = form
    await mine.submit("Add", title="Buy milk")  # with the same idempotency key
    mine.page = deleted
    assert (await mine.submit("Undo")).titles == ["Buy milk", "Buy milk"]


# Many at once


async def test_completed_tasks_that_were_deleted_come_back_as_they_were(
    mine: PageClient, alice: ApiClient, bob: ApiClient, empty_database: str
) -> None:
    add_tasks(empty_database, bob.user_id, 1, status="completed")
    add_tasks(empty_database, alice.user_id, MAX_UNDO_TASKS, status="completed")
    await alice.add_task("Pending")
    before = rows_of(empty_database)
    page = await mine.open(f"{COMPLETED}?status=completed")
    assert "You can undo this right afterwards. Pending tasks are kept." in page.text
    page = await mine.submit("Delete")
    assert page.flash_message == f"{MAX_UNDO_TASKS} completed tasks deleted. Undo"
    assert await titles(alice) == ["Pending"]
    page = await mine.submit("Undo")
    assert page.flash_message == f"{MAX_UNDO_TASKS} tasks restored."
    assert rows_of(empty_database) == before


@pytest.mark.parametrize(("number", "description"), [(2, ""), (MAX_UNDO_TASKS, ""), (1, LARGEST)])
async def test_a_deletion_that_is_sent_twice_can_be_undone(
    mine: PageClient, alice: ApiClient, empty_database: str, number: int, description: str
) -> None:
    add_tasks(empty_database, alice.user_id, number, status="completed")
    execute(empty_database, "UPDATE tasks SET description = %s", description)
    before = rows_of(empty_database)
    question = await mine.open(COMPLETED)
    await mine.send("Delete")
    mine.page = question
    mine.cookies.pop(FLASH, None)  # the browser drops the first response
    page = await mine.submit("Delete")
    assert page.flash_message.startswith(f"{number} completed task")
    page = await mine.submit("Undo")
    assert page.flash_message in {f"{number} tasks restored.", "Task restored."}
    assert rows_of(empty_database) == before


async def test_a_deletion_that_is_sent_twice_names_and_restores_what_was_deleted(
    mine: PageClient, alice: ApiClient, empty_database: str
) -> None:
    completed = add_tasks(empty_database, alice.user_id, 3, status="completed")
    question = await mine.open(COMPLETED)
    await alice.put(f"/api/tasks/{completed[0]}", {"title": "Opened again", "status": "pending"})
    before = rows_of(empty_database)
    for _ in range(2):
        mine.page = question
        page = await mine.submit("Delete")
        assert page.flash_message == "2 completed tasks deleted. Undo"
        assert page.titles == ["Opened again"]
    page = await mine.submit("Undo")
    assert page.flash_message == "2 tasks restored."
    assert rows_of(empty_database) == before


@pytest.mark.parametrize(
    ("number", "description", "is_offered"),
    [
        (MAX_UNDO_TASKS + 1, "", False),
        (2, "x" * DESCRIPTION_LENGTH, True),
        (7, "x" * DESCRIPTION_LENGTH, False),  # more than MAX_UNDO_SIZE
        (1, LARGEST, True),
    ],
)
async def test_too_much_for_a_form_is_deleted_for_good_and_the_question_says_so(
    mine: PageClient,
    alice: ApiClient,
    empty_database: str,
    number: int,
    description: str,
    *,
    is_offered: bool,
) -> None:
    add_tasks(empty_database, alice.user_id, number, status="completed")
    execute(empty_database, "UPDATE tasks SET description = %s", description)
    page = await mine.open(COMPLETED)
    words = "You can undo this" if is_offered else "This cannot be undone."
    assert words in page.text
    page = await mine.submit("Delete")
    assert page.has_form("Undo") == is_offered
    assert page.flash_message.startswith(f"{number} completed task")
    assert await titles(alice) == []
    if is_offered:
        await mine.submit("Undo")
        assert len(await titles(alice)) == number


async def test_the_largest_form_is_accepted(services: Services) -> None:
    text = LARGEST * 2
    parts = MAX_UNDO_TASKS
    each = text[: MAX_UNDO_SIZE // 4 // parts]  # 4 bytes a character
    task = {"id": "0" * 36, "createdAt": "2" * 27, "updatedAt": "2" * 27, "status": "completed"}
    tasks = [task | {"title": each[number:] + each[:number]} for number in range(parts)]
    assert len(services.signer.sign_undo("0" * 36, tasks)) < MAX_BODY_SIZE / 2


# Whose it is


async def test_nobody_else_is_offered_it_or_can_use_it(
    mine: PageClient, bobs: PageClient, bob: ApiClient, alice: ApiClient, task: dict[str, str]
) -> None:
    await mine.open(f"/tasks/{task['id']}/delete")
    await mine.send("Delete")
    cookie = mine.cookies[FLASH]
    bobs.cookies[FLASH] = cookie
    page = await bobs.open("/tasks")
    assert page.flash_message == "Task deleted."
    assert cookie.rpartition("..")[2] not in page.html
    text = cookie.partition("..")[2]
    page = await bobs.fetch("POST", "/tasks/restore", bobs.csrf_field | {"deleted": text})
    assert page.status == 400
    assert GONE in page.text
    assert await titles(bob) == await titles(alice) == []


ALTERED: dict[str, Callable[[str], str]] = {
    "nothing": lambda _: "",
    "cut off": lambda text: text[:-1],
    "another payload": lambda text: "x" + text[1:],
    "no signature": lambda text: text.rpartition(".")[0],
}


@pytest.mark.parametrize("altered", ALTERED)
async def test_what_was_altered_restores_nothing(
    mine: PageClient, alice: ApiClient, task: dict[str, str], altered: str
) -> None:
    page = await delete(mine, task["id"])
    text = page.button("Undo").fields["deleted"]
    page = await mine.send("Undo", deleted=ALTERED[altered](text))
    assert page.status == 400
    assert GONE in page.text
    assert await titles(alice) == []


async def test_a_token_for_something_else_restores_nothing(
    mine: PageClient, alice: ApiClient, services: Services
) -> None:
    await mine.open("/tasks")
    for text in (
        services.signer.sign_undo(alice.user_id, "a text"),
        services.signer.sign_undo(alice.user_id, [{"id": "of a version with other fields"}]),
        services.signer.sign_cursor(alice.user_id),
        mine.csrf_field["csrf_token"],
        mine.cookies[cookie_name("session")],
    ):
        page = await mine.fetch("POST", "/tasks/restore", mine.csrf_field | {"deleted": text})
        assert page.status == 400
    assert await titles(alice) == []


@pytest.mark.parametrize(("age", "status"), [(UNDO_MAX_AGE - 60, 303), (UNDO_MAX_AGE + 60, 400)])
async def test_it_ends_a_day_after_the_deletion(
    mine: PageClient,
    task: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    age: int,
    status: int,
) -> None:
    now = time.time()
    await mine.open(f"/tasks/{task['id']}/delete")
    with monkeypatch.context() as patch:
        patch.setattr("itsdangerous.timed.time.time", lambda: now - age)
        await mine.send("Delete")
    text = mine.cookies[FLASH].partition("..")[2]
    page = await mine.fetch("POST", "/tasks/restore", mine.csrf_field | {"deleted": text})
    assert page.status == status


async def test_after_the_account_is_deleted_nothing_comes_back(
    mine: PageClient, alice: ApiClient, empty_database: str, task: dict[str, str]
) -> None:
    form = await delete(mine, task["id"])
    cookie = mine.cookies[cookie_name("session")]
    await mine.open("/account/delete")
    await mine.submit("Delete my account", password=PASSWORD)
    mine.page, mine.cookies[cookie_name("session")] = form, cookie
    assert (await mine.send("Undo")).location.startswith("/login")
    await mine.sign_up("alice@example.com")
    await mine.log_in("alice@example.com")
    deleted = form.button("Undo").fields
    page = await mine.fetch("POST", "/tasks/restore", mine.csrf_field | deleted)
    assert page.status == 400
    assert rows_of(empty_database) == []


async def test_the_log_names_ids_and_no_text(
    mine: PageClient, alice: ApiClient, capsys: pytest.CaptureFixture[str]
) -> None:
    task = await alice.add_task("Very secret", description=LARGEST)
    page = await delete(mine, task["id"])
    text = page.button("Undo").fields["deleted"]
    await mine.submit("Undo")
    lines = capsys.readouterr().err
    assert '"event":"task.restored"' in lines
    assert task["id"] in lines
    assert "secret" not in lines
    assert text[:40] not in lines
