"""The contract of the task endpoints (docs/design/api.md)."""

import asyncio
import re
from itertools import combinations
from typing import Any

import pytest

from handlers.web.application import Application
from taskapp.config.settings import Settings
from taskapp.observability.metrics import Metrics
from taskapp.services import Services
from tests.support.api_tools import (
    NEED_SESSION,
    NO_TASK,
    assert_problem,
    at_once,
    running,
    statement_counts,
    wrong_fields,
)
from tests.support.clients import ApiClient, Response
from tests.support.server_process import LONG_ENOUGH

pytestmark = pytest.mark.gen_test

TASK_FIELDS = {"id", "title", "description", "status", "createdAt", "completedAt", "updatedAt"}
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
UPDATES = ["PUT", "PATCH"]
CHANGES = [*UPDATES, "DELETE"]
NO_IDS = [
    "1",
    "abc",
    "0",
    "-1",
    "null",
    "%20",
    "%00",
    "' OR 1=1 --".replace(" ", "%20"),
    NO_TASK[:-1],
    NO_TASK + "0",
    NO_TASK.replace("-", ""),
    "{" + NO_TASK + "}",
    "%F0%9F%98%80",
    NO_TASK.replace("0", "%D9%A0"),  # Arabic digits
]


async def change(
    client: ApiClient, method: str, task_id: str, headers: dict[str, str] | None = None
) -> Response:
    """Change or delete a task."""
    body = None if method == "DELETE" else {"title": "Changed"}
    return await client.send(method, f"/api/tasks/{task_id}", body, headers=headers)


# Making a task


async def test_a_new_task_is_answered_with_201_and_all_its_fields(alice: ApiClient) -> None:
    sent = {"title": "Buy milk", "description": "Oat", "status": "completed"}
    response = await alice.post("/api/tasks", sent)
    assert response.status == 201
    assert response.headers["Content-Type"] == "application/json"
    task = response.json
    assert set(task) == TASK_FIELDS
    assert {name: task[name] for name in sent} == sent
    assert task["createdAt"] == task["updatedAt"] == task["completedAt"]
    assert TIMESTAMP.fullmatch(task["createdAt"])
    assert response.headers["Location"] == f"/api/tasks/{task['id']}"
    assert response.headers["ETag"].strip('"') in task["updatedAt"]


async def test_a_task_needs_only_a_title(alice: ApiClient) -> None:
    task = await alice.add_task("Buy milk")
    assert (task["description"], task["status"]) == ("", "pending")


async def test_a_task_that_was_made_is_in_the_list(alice: ApiClient) -> None:
    task = await alice.add_task("Buy milk", description="Oat")
    listed = await alice.get("/api/tasks")
    assert listed.json == {"tasks": [task], "nextCursor": None}


async def test_a_task_without_a_title_is_refused(alice: ApiClient) -> None:
    response = await alice.post("/api/tasks", {"description": "Oat"})
    assert wrong_fields(response) == {"title"}
    assert (await alice.get("/api/tasks")).json["tasks"] == []


async def test_every_wrong_field_is_named_at_once(alice: ApiClient) -> None:
    sent = {"title": "", "description": 7, "status": "done", "colour": "red"}
    response = await alice.post("/api/tasks", sent)
    assert wrong_fields(response) == set(sent)


@pytest.mark.parametrize("value", [None, 7, True, [], {}, ["Buy milk"]])
@pytest.mark.parametrize("field", ["title", "description", "status"])
async def test_a_field_that_is_no_text_is_refused(
    alice: ApiClient, field: str, value: object
) -> None:
    task = await alice.add_task()
    assert wrong_fields(await alice.post("/api/tasks", {"title": "x", field: value})) == {field}
    response = await alice.put(f"/api/tasks/{task['id']}", {field: value})
    assert wrong_fields(response) == {field}
    assert (await alice.get("/api/tasks")).json["tasks"] == [task]


@pytest.mark.parametrize(
    ("title", "kept"),
    [
        ("x" * 255, "x" * 255),
        ("😀" * 255, "😀" * 255),
        (" \t\nBuy  milk\u3000 ", "Buy  milk"),
        ("x" + " " * 300, "x"),
        ("שלום עולם", "שלום עולם"),
        ("e\u0301", "e\u0301"),  # not composed: kept as typed
        ("👩\u200d👩\u200d👧", "👩\u200d👩\u200d👧"),
        ("\U0001fae8", "\U0001fae8"),  # an emoji that is younger than Python 3.11's tables
        ("\u202eabc", "\u202eabc"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("'; DROP TABLE tasks; --", "'; DROP TABLE tasks; --"),
        ("%s %(title)s {0} \\", "%s %(title)s {0} \\"),
    ],
)
async def test_a_title_is_kept_as_typed_but_for_the_spaces_around_it(
    alice: ApiClient, title: str, kept: str
) -> None:
    task = await alice.add_task(title)
    assert task["title"] == kept
    assert (await alice.get(f"/api/tasks/{task['id']}")).json["title"] == kept
    changed = await alice.put(f"/api/tasks/{task['id']}", {"title": title})
    assert changed.json["title"] == kept


@pytest.mark.parametrize(
    "title", ["", " ", "\n\t", "\u00a0\u3000", "\u200b", "x" * 256, "😀" * 256, "a\0b"]
)
async def test_a_title_that_is_empty_or_too_long_is_refused(alice: ApiClient, title: str) -> None:
    task = await alice.add_task()
    assert wrong_fields(await alice.post("/api/tasks", {"title": title})) == {"title"}
    response = await alice.put(f"/api/tasks/{task['id']}", {"title": title})
    assert wrong_fields(response) == {"title"}
    assert (await alice.get("/api/tasks")).json["tasks"] == [task]


@pytest.mark.parametrize("description", ["", "  two\n\tlines \r\n", "😀" * 10_000])
async def test_a_description_is_kept_exactly_as_typed(alice: ApiClient, description: str) -> None:
    task = await alice.add_task(description=description)
    assert (await alice.get(f"/api/tasks/{task['id']}")).json["description"] == description


async def test_a_description_has_at_most_10000_characters(alice: ApiClient) -> None:
    response = await alice.post("/api/tasks", {"title": "x", "description": "x" * 10_001})
    assert wrong_fields(response) == {"description"}


# Reading one


async def test_a_task_is_read_by_its_id(alice: ApiClient) -> None:
    task = await alice.add_task()
    response = await alice.get(f"/api/tasks/{task['id']}")
    assert (response.status, response.json) == (200, task)
    assert (await alice.get(f"/api/tasks/{task['id'].upper()}")).json == task


@pytest.mark.parametrize("method", ["GET", *CHANGES])
async def test_somebody_elses_task_is_forbidden_and_stays_as_it_is(
    alice: ApiClient, bob: ApiClient, method: str
) -> None:
    task = await alice.add_task("Alice's secret")
    response = await change(bob, method, task["id"])
    assert_problem(response, 403)
    assert b"secret" not in response.body
    assert (await alice.get("/api/tasks")).json["tasks"] == [task]
    assert (await bob.get("/api/tasks")).json["tasks"] == []


@pytest.mark.parametrize("method", ["GET", *CHANGES])
async def test_an_id_that_no_task_has_is_not_found(alice: ApiClient, method: str) -> None:
    for task_id in [NO_TASK, *NO_IDS]:
        assert_problem(await change(alice, method, task_id), 404)


@pytest.mark.parametrize(("method", "path"), NEED_SESSION)
async def test_a_request_without_a_good_token_is_unauthorized(
    api: ApiClient, alice: ApiClient, method: str, path: str
) -> None:
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    for sent in [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer a.b",
        f"Basic {token}",
        token,
        f"Bearer {token[:-1]}",
        f"Bearer {token}x",
        f"Bearer x{token}",
        f"Bearer {token.partition('.')[0]}.",
        "Bearer \u00fc.\u00fc",
        "Bearer " + "x" * 5000,
    ]:
        headers = {} if sent is None else {"Authorization": sent}
        response = await api.send(method, path, {"title": "x"}, headers=headers)
        assert_problem(response, 401)
        assert response.headers["WWW-Authenticate"].startswith("Bearer")


# Changing


@pytest.mark.parametrize("method", UPDATES)
async def test_what_is_not_sent_stays_as_it_is(alice: ApiClient, method: str) -> None:
    values = {"title": "New", "description": "New text", "status": "completed"}
    for size in range(4):
        for names in combinations(values, size):
            before = await alice.add_task("Old", description="Old text")
            sent = {name: values[name] for name in names}
            response = await alice.send(method, f"/api/tasks/{before['id']}", sent)
            assert response.status == 200
            after = response.json
            times = {"updatedAt": after["updatedAt"], "completedAt": after["completedAt"]}
            assert after == {**before, **sent, **times}
            assert after["updatedAt"] > before["updatedAt"]
            assert (await alice.get(f"/api/tasks/{before['id']}")).json == after


@pytest.mark.parametrize("method", UPDATES)
async def test_a_task_can_be_sent_back_as_it_was_read(alice: ApiClient, method: str) -> None:
    task = await alice.add_task("Old", description="Text")
    read_only = {"id": NO_TASK, "createdAt": "2000-01-01T00:00:00Z", "updatedAt": 5}
    read_only["completedAt"] = "2000-01-01T00:00:00Z"
    response = await alice.send(method, f"/api/tasks/{task['id']}", {**task, **read_only})
    assert response.status == 200
    assert response.json == {**task, "updatedAt": response.json["updatedAt"]}


async def test_a_completed_task_has_the_time_of_its_completion_until_it_is_reopened(
    alice: ApiClient,
) -> None:
    task = await alice.add_task("Water the plants")
    path = f"/api/tasks/{task['id']}"
    assert task["completedAt"] is None

    async def change(**fields: str) -> Any:
        changed = (await alice.patch(path, fields)).json
        assert (await alice.get(path)).json == changed
        assert (await alice.get("/api/tasks")).json["tasks"] == [changed]
        return changed

    assert (await change(title="Water all plants"))["completedAt"] is None
    done = await change(status="completed")
    assert done["completedAt"] == done["updatedAt"] > task["updatedAt"]
    for fields in ({"status": "completed"}, {"title": "Plants"}, {"description": "All of them"}):
        assert (await change(**fields))["completedAt"] == done["completedAt"]
    assert (await change(status="pending", title="Again"))["completedAt"] is None
    assert (await change(status="completed"))["completedAt"] > done["completedAt"]


async def test_fields_that_are_only_read_are_ignored_when_a_task_is_made(
    alice: ApiClient,
) -> None:
    old = {"id": NO_TASK, "createdAt": "2000-01-01T00:00:00Z", "updatedAt": None}
    task = (await alice.post("/api/tasks", {"title": "x", **old})).json
    assert task["id"] != NO_TASK
    assert task["createdAt"] > "2020"


@pytest.mark.parametrize("name", ["colour", "Title", "user_id", "userId", "created_at", "", "é"])
async def test_an_unknown_field_is_named_and_nothing_is_changed(
    alice: ApiClient, name: str
) -> None:
    task = await alice.add_task()
    assert wrong_fields(await alice.post("/api/tasks", {"title": "x", name: "y"})) == {name}
    for method in UPDATES:
        sent = {"title": "Changed", name: "y"}
        response = await alice.send(method, f"/api/tasks/{task['id']}", sent)
        assert wrong_fields(response) == {name}
    assert (await alice.get("/api/tasks")).json["tasks"] == [task]


@pytest.mark.parametrize("status", ["done", "PENDING", " pending", "", "completed\n"])
async def test_a_status_is_pending_or_completed(alice: ApiClient, status: str) -> None:
    task = await alice.add_task()
    assert wrong_fields(await alice.post("/api/tasks", {"title": "x", "status": status})) == {
        "status"
    }
    response = await alice.put(f"/api/tasks/{task['id']}", {"status": status})
    assert wrong_fields(response) == {"status"}


async def test_a_deleted_task_is_gone(alice: ApiClient) -> None:
    task = await alice.add_task()
    other = await alice.add_task("Stays")
    response = await alice.delete(f"/api/tasks/{task['id']}")
    assert response.status == 200
    assert response.json == {"message": "Task deleted successfully"}
    for method in ["GET", *CHANGES]:
        assert_problem(await change(alice, method, task["id"]), 404)
    assert (await alice.get("/api/tasks")).json["tasks"] == [other]


# Lists


async def test_the_list_is_newest_first_and_only_ones_own(alice: ApiClient, bob: ApiClient) -> None:
    tasks = [await alice.add_task(f"Task {number}") for number in range(5)]
    bobs = await bob.add_task("Bob's")
    assert (await alice.get("/api/tasks")).json["tasks"] == tasks[::-1]
    assert (await bob.get("/api/tasks")).json["tasks"] == [bobs]


async def test_the_list_is_filtered_by_status(alice: ApiClient) -> None:
    pending = await alice.add_task("Pending")
    completed = await alice.add_task("Completed", status="completed")
    for status, tasks in [("pending", [pending]), ("completed", [completed])]:
        listed = await alice.get(f"/api/tasks?status={status}")
        assert listed.json == {"tasks": tasks, "nextCursor": None}


@pytest.mark.parametrize("status", ["", "done", "PENDING", "pending%00", "%F0%9F%98%80"])
async def test_a_filter_by_no_status_is_refused(alice: ApiClient, status: str) -> None:
    assert wrong_fields(await alice.get(f"/api/tasks?status={status}")) == {"status"}


@pytest.mark.parametrize(
    "limit", ["", "0", "101", "-1", "1.0", "ten", "1e1", "%2B5", "%205", "%D9%A3", "9" * 400]
)
async def test_a_limit_is_a_whole_number_from_1_to_100(alice: ApiClient, limit: str) -> None:
    assert wrong_fields(await alice.get(f"/api/tasks?limit={limit}")) == {"limit"}


async def test_a_page_has_50_tasks_and_100_at_most(alice: ApiClient) -> None:
    for batch in range(4):
        titles = [f"Task {batch} {number}" for number in range(26)]
        await asyncio.gather(*(alice.add_task(title) for title in titles))
    for query, size in [("", 50), ("?limit=1", 1), ("?limit=007", 7), ("?limit=100", 100)]:
        page = (await alice.get(f"/api/tasks{query}")).json
        assert len(page["tasks"]) == size
        assert page["nextCursor"]


async def walk(client: ApiClient, path: str) -> list[list[dict[str, Any]]]:
    """Read all pages by their Link headers, which say what nextCursor says."""
    pages = []
    while path:
        response = await client.get(path)
        assert response.status == 200
        pages.append(response.json["tasks"])
        link = response.headers.get("Link")
        cursor = response.json["nextCursor"]
        assert (link is None) == (cursor is None)
        match = re.fullmatch(r'<([^<>"]+)>; rel="next"', link) if link else None
        assert (link is None) == (match is None)
        path = match[1] if match else ""
        assert path == "" or f"after={cursor}" in path
    return pages


@pytest.mark.parametrize(
    ("number", "limit", "sizes"),
    [(0, 3, [0]), (2, 3, [2]), (3, 3, [3]), (4, 3, [3, 1]), (6, 3, [3, 3]), (3, 1, [1, 1, 1])],
)
async def test_pages_join_to_the_whole_list(
    alice: ApiClient, number: int, limit: int, sizes: list[int]
) -> None:
    tasks = [await alice.add_task(f"Task {place}") for place in range(number)]
    pages = await walk(alice, f"/api/tasks?limit={limit}")
    assert [len(page) for page in pages] == sizes
    assert [task for page in pages for task in page] == tasks[::-1]


async def test_the_next_page_keeps_the_filter_and_the_limit(alice: ApiClient) -> None:
    for number in range(6):
        await alice.add_task(f"Task {number}", status=["pending", "completed"][number % 2])
    pages = await walk(alice, "/api/tasks?status=completed&limit=2")
    titles = [[task["title"] for task in page] for page in pages]
    assert titles == [["Task 5", "Task 3"], ["Task 1"]]


async def test_changes_between_two_pages_neither_repeat_nor_skip_a_task(alice: ApiClient) -> None:
    tasks = [await alice.add_task(f"Task {number}") for number in range(4)]
    first = (await alice.get("/api/tasks?limit=2")).json
    await alice.add_task("Newer")
    await alice.delete(f"/api/tasks/{first['tasks'][-1]['id']}")
    second = (await alice.get(f"/api/tasks?limit=2&after={first['nextCursor']}")).json
    assert second == {"tasks": tasks[1::-1], "nextCursor": None}


async def test_a_cursor_that_was_altered_is_refused(alice: ApiClient) -> None:
    for number in range(2):
        await alice.add_task(f"Task {number}")
    cursor = (await alice.get("/api/tasks?limit=1")).json["nextCursor"]
    token = alice.headers["Authorization"].removeprefix("Bearer ")
    altered = [
        "",
        "x",
        ".",
        cursor[:-1],
        cursor + "x",
        cursor[::-1],
        f"A{cursor[1:]}" if cursor[0] != "A" else f"B{cursor[1:]}",
        cursor.partition(".")[0],
        NO_TASK,
        token,
        "%00",
        "%ED%A0%80",
        "%FF",
        "%F0%9F%98%80",
    ]
    for after in altered:
        assert_problem(await alice.get(f"/api/tasks?after={after}"), 400)


async def test_a_cursor_of_somebody_else_shows_nothing_of_theirs(
    alice: ApiClient, bob: ApiClient
) -> None:
    bobs = await bob.add_task("Bob's")
    for number in range(3):
        await alice.add_task(f"Task {number}")
    cursor = (await alice.get("/api/tasks?limit=1")).json["nextCursor"]
    assert (await bob.get(f"/api/tasks?after={cursor}")).json["tasks"] == [bobs]


@pytest.mark.parametrize("name", ["status", "limit", "after"])
async def test_a_parameter_that_came_twice_is_refused(alice: ApiClient, name: str) -> None:
    assert_problem(await alice.get(f"/api/tasks?{name}=1&{name}=1"), 400)


# Versions: ETag, If-None-Match, If-Match


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_task_that_is_known_is_not_sent_again(alice: ApiClient, method: str) -> None:
    task = await alice.add_task()
    path = f"/api/tasks/{task['id']}"
    etag = (await alice.get(path)).headers["ETag"]
    for known in [etag, f"W/{etag}", f'"other", {etag}', f'W/"other",W/{etag}', "*"]:
        response = await alice.send(method, path, headers={"If-None-Match": known})
        assert (response.status, response.body) == (304, b"")
        assert response.headers["ETag"] == etag
    for unknown in ['"other"', etag.strip('"'), ""]:
        response = await alice.send(method, path, headers={"If-None-Match": unknown})
        assert response.status == 200
    await alice.put(path, {"title": "Changed"})
    response = await alice.send(method, path, headers={"If-None-Match": etag})
    assert response.status == 200


async def test_every_answer_with_a_task_has_its_etag(alice: ApiClient) -> None:
    made = await alice.post("/api/tasks", {"title": "x"})
    path = f"/api/tasks/{made.json['id']}"
    assert (await alice.get(path)).headers["ETag"] == made.headers["ETag"]
    seen = {made.headers["ETag"]}
    for method in UPDATES:
        response = await alice.send(method, path, {"title": "y"})
        assert (await alice.get(path)).headers["ETag"] == response.headers["ETag"]
        seen.add(response.headers["ETag"])
    assert len(seen) == 3


async def test_a_list_that_is_known_is_not_sent_again_until_something_changes(
    alice: ApiClient,
) -> None:
    tags = set()

    async def expect_another(path: str = "/api/tasks") -> None:
        etag = (await alice.get(path)).headers["ETag"]
        assert etag not in tags
        tags.add(etag)
        for known in [etag, f"W/{etag}", "*", f'"x", {etag}']:
            response = await alice.get(path, headers={"If-None-Match": known})
            assert (response.status, response.body) == (304, b"")

    await expect_another()
    first = await alice.add_task()
    await expect_another()
    second = await alice.add_task()
    await expect_another()
    await expect_another("/api/tasks?limit=1")  # the same task, but there is more
    await alice.put(f"/api/tasks/{first['id']}", {"status": "completed"})
    await expect_another()
    await alice.delete(f"/api/tasks/{second['id']}")
    await expect_another()


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize(
    "match", ["{etag}", "W/{etag}", '"other", {etag}', '{etag} , "other"', "*", " * "]
)
async def test_a_change_is_made_if_the_version_is_the_current_one(
    alice: ApiClient, method: str, match: str
) -> None:
    made = await alice.post("/api/tasks", {"title": "x"})
    headers = {"If-Match": match.format(etag=made.headers["ETag"])}
    assert (await change(alice, method, made.json["id"], headers)).status == 200


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize(
    "match",
    [
        "{stale}",
        "W/{stale}",
        '{stale}, "other"',
        '"other"',
        "nonsense",
        '"',
        '""',
        ",",
        "{bare}",
        '"2026-13-45T25:61:61Z"',
        '"0000-01-01T00:00:00Z"',
        '"9999-12-31T23:59:59.999999Z"',
        '"infinity"',
        '"now"',
        '"\u0662026-01-01T00:00:00Z"',
    ],
)
async def test_a_change_is_refused_if_the_version_is_another(
    alice: ApiClient, method: str, match: str
) -> None:
    made = await alice.post("/api/tasks", {"title": "x"})
    path = f"/api/tasks/{made.json['id']}"
    now = await alice.put(path, {"title": "y"})
    match = match.format(stale=made.headers["ETag"], bare=now.headers["ETag"].strip('"'))
    response = await change(
        alice, method, made.json["id"], {"If-Match": match.encode().decode("latin-1")}
    )
    assert_problem(response, 412)
    assert (await alice.get(path)).json == now.json


@pytest.mark.parametrize("method", CHANGES)
async def test_a_condition_tells_nothing_about_somebody_elses_task(
    alice: ApiClient, bob: ApiClient, method: str
) -> None:
    made = await alice.post("/api/tasks", {"title": "x"})
    for match in [made.headers["ETag"], '"other"', "*"]:
        response = await change(bob, method, made.json["id"], {"If-Match": match})
        assert_problem(response, 403)
        assert_problem(await change(bob, method, NO_TASK, {"If-Match": match}), 404)


async def test_of_two_changes_of_one_version_only_one_is_made(alice: ApiClient) -> None:
    made = await alice.post("/api/tasks", {"title": "x"})
    path = f"/api/tasks/{made.json['id']}"
    headers = {"If-Match": made.headers["ETag"]}
    responses = await at_once(
        alice.put(path, {"title": f"Writer {number}"}, headers=headers) for number in range(10)
    )
    assert sorted(response.status for response in responses) == [200] + [412] * 9
    winner = next(response for response in responses if response.status == 200)
    assert (await alice.get(path)).json == winner.json


async def test_changes_at_once_all_give_different_versions(alice: ApiClient) -> None:
    task = await alice.add_task()
    responses = await at_once(
        alice.put(f"/api/tasks/{task['id']}", {"title": f"Writer {number}"}) for number in range(10)
    )
    assert len({response.json["updatedAt"] for response in responses}) == 10


# Idempotency-Key


async def test_twenty_sends_of_one_key_make_one_task(settings: Settings, alice: ApiClient) -> None:
    async with running(settings) as other:
        client = other.as_user(alice)
        responses = await at_once(
            client.post("/api/tasks", {"title": "Once"}, headers={"Idempotency-Key": "abc"})
            for _ in range(20)
        )
    assert {response.status for response in responses} == {201}
    listed = (await alice.get("/api/tasks")).json["tasks"]
    assert [response.json for response in responses] == listed * 20
    assert len({response.headers["Location"] for response in responses}) == 1


async def test_a_key_is_unique_for_each_owner_only(alice: ApiClient, bob: ApiClient) -> None:
    headers = {"Idempotency-Key": "abc"}
    mine = (await alice.post("/api/tasks", {"title": "Mine"}, headers=headers)).json
    theirs = (await bob.post("/api/tasks", {"title": "Theirs"}, headers=headers)).json
    assert (mine["title"], theirs["title"]) == ("Mine", "Theirs")
    assert mine["id"] != theirs["id"]


async def test_a_repeat_is_answered_with_the_task_as_it_is_now(alice: ApiClient) -> None:
    headers = {"Idempotency-Key": "abc"}
    made = await alice.post("/api/tasks", {"title": "First"}, headers=headers)
    now = await alice.put(f"/api/tasks/{made.json['id']}", {"title": "Changed"})
    again = await alice.post("/api/tasks", {"title": "Second"}, headers=headers)
    assert (again.status, again.json) == (201, now.json)
    assert again.headers["ETag"] == now.headers["ETag"]
    assert again.headers["Location"] == made.headers["Location"]


async def test_other_keys_and_none_make_other_tasks(alice: ApiClient) -> None:
    for headers in [{}, {}, {"Idempotency-Key": "a"}, {"Idempotency-Key": "A"}]:
        await alice.post("/api/tasks", {"title": "x"}, headers=headers)
    assert len((await alice.get("/api/tasks")).json["tasks"]) == 4


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "\u00e9", "a\tb"])
async def test_a_key_is_1_to_255_visible_ascii_characters(alice: ApiClient, key: str) -> None:
    headers = {"Idempotency-Key": key}
    assert_problem(await alice.post("/api/tasks", {"title": "x"}, headers=headers), 400)
    assert (await alice.get("/api/tasks")).json["tasks"] == []


async def test_the_longest_key_is_taken(alice: ApiClient) -> None:
    headers = {"Idempotency-Key": "~" * 255}
    ids = {
        (await alice.post("/api/tasks", {"title": "x"}, headers=headers)).json["id"] for _ in "ab"
    }
    assert len(ids) == 1


async def test_a_refused_task_does_not_use_up_its_key(alice: ApiClient) -> None:
    headers = {"Idempotency-Key": "abc"}
    assert_problem(await alice.post("/api/tasks", {"title": ""}, headers=headers), 400)
    response = await alice.post("/api/tasks", {"title": "x"}, headers=headers)
    assert response.json["title"] == "x"


# One trip to the database


async def statements_of(metrics: Metrics, client: ApiClient, *request: Any, **more: Any) -> Any:
    """Send a request, and return its status with the statements that it ran."""
    before = statement_counts(metrics)
    response = await client.send(*request, **more)
    after = statement_counts(metrics)
    run = {name: after[name] - before.get(name, 0) for name in after}
    return response.status, {name: count for name, count in run.items() if count}


async def test_a_request_is_one_statement_that_also_proves_the_session(
    services: Services, app: Application, alice: ApiClient
) -> None:
    task = await alice.add_task()
    assert await app.drain(
        LONG_ENOUGH
    )  # the session's use is noted once a minute, behind the request
    metrics = services.metrics
    path = f"/api/tasks/{task['id']}"
    etag = (await alice.get(path)).headers["ETag"]
    list_etag = (await alice.get("/api/tasks")).headers["ETag"]
    new = {"title": "New"}
    key = {"Idempotency-Key": "abc"}
    assert [
        await statements_of(metrics, alice, "GET", "/api/tasks"),
        await statements_of(metrics, alice, "GET", "/api/tasks?status=pending&limit=1"),
        await statements_of(
            metrics, alice, "GET", "/api/tasks", headers={"If-None-Match": list_etag}
        ),
        await statements_of(metrics, alice, "GET", path),
        await statements_of(metrics, alice, "GET", path, headers={"If-None-Match": etag}),
        await statements_of(metrics, alice, "POST", "/api/tasks", new),
        await statements_of(metrics, alice, "POST", "/api/tasks", new, headers=key),
        await statements_of(metrics, alice, "PUT", path, new),
        await statements_of(metrics, alice, "PATCH", path, new, headers={"If-Match": "*"}),
        await statements_of(metrics, alice, "DELETE", path),
    ] == [
        (200, {"tasks.list": 1}),
        (200, {"tasks.list_status": 1}),
        (304, {"tasks.list_unless_known": 1}),
        (200, {"tasks.find": 1}),
        (304, {"tasks.find": 1}),
        (201, {"tasks.insert": 1}),
        (201, {"tasks.insert_once": 1}),
        (200, {"tasks.update": 1}),
        (200, {"tasks.update": 1}),
        (200, {"tasks.delete": 1}),
    ]


async def test_only_a_request_that_found_nothing_asks_why(
    services: Services, app: Application, alice: ApiClient, bob: ApiClient
) -> None:
    task = await alice.add_task()
    await bob.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    run = await statements_of(services.metrics, bob, "GET", f"/api/tasks/{task['id']}")
    assert run == (403, {"tasks.find": 1, "tasks.find_access": 1})
    run = await statements_of(services.metrics, bob, "GET", "/api/tasks")
    assert run == (200, {"tasks.list": 1, "sessions.find_user": 1})


async def test_what_is_refused_for_its_form_asks_the_database_nothing(
    services: Services, app: Application, alice: ApiClient
) -> None:
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    for request in [
        ("POST", "/api/tasks", {"title": ""}),
        ("PUT", f"/api/tasks/{NO_TASK}", {"colour": "red"}),
        ("GET", "/api/tasks?limit=0"),
        ("GET", "/api/tasks?after=x"),
        ("PUT", "/api/tasks"),
        ("GET", "/api/nothing"),
    ]:
        status, run = await statements_of(services.metrics, alice, *request)
        assert 400 <= status < 500
        assert run == {}


async def test_an_id_that_can_be_none_asks_only_whether_the_session_has_ended(
    services: Services, app: Application, alice: ApiClient
) -> None:
    await alice.get("/api/tasks")
    assert await app.drain(LONG_ENOUGH)
    run = await statements_of(services.metrics, alice, "GET", "/api/tasks/1")
    assert run == (404, {"sessions.find_user": 1})
