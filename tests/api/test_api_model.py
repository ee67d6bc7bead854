"""The API as a state machine, held against a plain model in memory, over real HTTP."""

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from tests.conftest import PASSWORD
from tests.support.api_tools import NO_TASK, assert_problem
from tests.support.clients import ApiClient, Response

pytestmark = pytest.mark.usefixtures("app")

USERS = ["ada", "bea"]
user_names = st.sampled_from(USERS)
titles = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1).map(
    lambda text: text[:255]
)
statuses = st.sampled_from(["pending", "completed"])
descriptions = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
new_tasks = st.fixed_dictionaries(
    {"title": titles}, optional={"description": descriptions, "status": statuses}
)
changes = st.fixed_dictionaries(
    {}, optional={"title": titles, "description": descriptions, "status": statuses}
)
conditions = st.sampled_from(["none", "current", "stale", "any"])


@dataclass
class User:
    """What the model knows of a user: the tasks, oldest first, and the task of each key."""

    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)


class ApiModel(RuleBasedStateMachine):
    """Two users do what they like; the model says what has to be answered."""

    task_ids = Bundle("task_ids")
    api: ApiClient
    io_loop: Any
    runs = 0

    @initialize()
    def begin(self) -> None:
        type(self).runs += 1
        self.users = {name: User() for name in USERS}
        self.stale: dict[str, str] = {}  # a version of a task that is not the current one
        self.clients = {
            name: self.run(self.api.sign_up, f"{name}{self.runs}@example.com", PASSWORD)
            for name in USERS
        }
        self.is_logged_in = dict.fromkeys(USERS, True)

    def run(self, work: Any, *arguments: Any, **more: Any) -> Any:
        return self.io_loop.run_sync(lambda: work(*arguments, **more))

    def send(self, name: str, method: str, path: str, body: Any = None, **headers: str) -> Response:
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        response: Response = self.run(self.clients[name].send, method, path, body, headers=sent)
        return response

    def expected_refusal(self, name: str, task_id: str) -> int:
        """Return the status with which a request for a task is refused; 0 when it is not."""
        if not self.is_logged_in[name]:
            return 401
        if task_id in self.users[name].tasks:
            return 0
        return 403 if any(task_id in user.tasks for user in self.users.values()) else 404

    def condition(self, kind: str, task_id: str) -> tuple[dict[str, str], bool]:
        """Return the header of a condition on a task's version, and whether it holds."""
        if kind == "none":
            return {}, True
        if kind == "any":
            return {"If_Match": "*"}, True
        tasks = {**self.users["ada"].tasks, **self.users["bea"].tasks}
        if kind == "current" and task_id in tasks:
            return {"If_Match": f'"{tasks[task_id]["updatedAt"]}"'}, True
        return {"If_Match": f'"{self.stale.get(task_id, "other")}"'}, False

    @rule(target=task_ids)
    def make_up_an_id(self) -> str:
        return NO_TASK

    @rule(target=task_ids, name=user_names, sent=new_tasks)
    def make_task(self, name: str, sent: dict[str, str]) -> str:
        response = self.send(name, "POST", "/api/tasks", sent)
        if not self.is_logged_in[name]:
            assert_problem(response, 401)
            return NO_TASK
        return self.check_made(name, response, sent)

    @rule(target=task_ids, name=user_names, key=st.sampled_from("xyz"), sent=new_tasks)
    def make_task_with_key(self, name: str, key: str, sent: dict[str, str]) -> str:
        user = self.users[name]
        response = self.send(name, "POST", "/api/tasks", sent, Idempotency_Key=key)
        if not self.is_logged_in[name]:
            assert_problem(response, 401)
            return NO_TASK
        if key in user.keys:
            assert (response.status, response.json) == (201, user.tasks[user.keys[key]])
            return user.keys[key]
        user.keys[key] = self.check_made(name, response, sent)
        return user.keys[key]

    def check_made(self, name: str, response: Response, sent: dict[str, str]) -> str:
        assert response.status == 201
        task: dict[str, Any] = response.json
        expected = {"description": "", "status": "pending"} | sent
        assert {field: task[field] for field in expected} == expected
        assert not any(task["id"] in user.tasks for user in self.users.values())
        self.users[name].tasks[task["id"]] = task
        return str(task["id"])

    @rule(name=user_names, task_id=task_ids)
    def read_task(self, name: str, task_id: str) -> None:
        response = self.send(name, "GET", f"/api/tasks/{task_id}")
        refusal = self.expected_refusal(name, task_id)
        if refusal:
            assert_problem(response, refusal)
        else:
            assert (response.status, response.json) == (200, self.users[name].tasks[task_id])

    @rule(name=user_names, task_id=task_ids, known=st.booleans())
    def read_task_if_changed(self, name: str, task_id: str, *, known: bool) -> None:
        if self.expected_refusal(name, task_id):
            return
        task = self.users[name].tasks[task_id]
        version = task["updatedAt"] if known else self.stale.get(task_id, "other")
        response = self.send(name, "GET", f"/api/tasks/{task_id}", If_None_Match=f'"{version}"')
        assert response.status == (304 if known else 200)

    @rule(
        name=user_names,
        task_id=task_ids,
        method=st.sampled_from(["PUT", "PATCH"]),
        sent=changes,
        kind=conditions,
    )
    def change_task(
        self, name: str, task_id: str, method: str, sent: dict[str, str], kind: str
    ) -> None:
        headers, holds = self.condition(kind, task_id)
        response = self.send(name, method, f"/api/tasks/{task_id}", sent, **headers)
        status = self.expected_refusal(name, task_id) or (0 if holds else 412)
        if status:
            assert_problem(response, status)
            return
        before = self.users[name].tasks[task_id]
        after = response.json
        assert response.status == 200
        times = {"updatedAt": after["updatedAt"], "completedAt": after["completedAt"]}
        assert after == {**before, **sent, **times}
        assert (after["completedAt"] is None) == (after["status"] == "pending")
        if before["status"] == after["status"]:
            assert after["completedAt"] == before["completedAt"]
        assert after["updatedAt"] > before["updatedAt"]
        self.stale[task_id] = before["updatedAt"]
        self.users[name].tasks[task_id] = after

    @rule(name=user_names, task_id=task_ids, kind=conditions)
    def delete_task(self, name: str, task_id: str, kind: str) -> None:
        headers, holds = self.condition(kind, task_id)
        response = self.send(name, "DELETE", f"/api/tasks/{task_id}", **headers)
        status = self.expected_refusal(name, task_id) or (0 if holds else 412)
        if status:
            assert_problem(response, status)
            return
        assert response.status == 200
        user = self.users[name]
        del user.tasks[task_id]
        user.keys = {key: made for key, made in user.keys.items() if made != task_id}

    @rule(
        name=user_names,
        limit=st.none() | st.integers(1, 4) | st.just(100),
        status=st.none() | statuses,
    )
    def list_tasks(self, name: str, limit: int | None, status: str | None) -> None:
        parameters = [f"limit={limit}"] * bool(limit) + [f"status={status}"] * bool(status)
        path = "/api/tasks?" + "&".join(parameters)
        if not self.is_logged_in[name]:
            assert_problem(self.send(name, "GET", path), 401)
            return
        listed: list[Any] = []
        while path:
            response = self.send(name, "GET", path)
            assert response.status == 200
            page = response.json
            listed += page["tasks"]
            assert len(page["tasks"]) <= (limit or 50)
            link = response.headers.get("Link", "")
            path = link.partition(">")[0].removeprefix("<")
            after = parse_qs(urlsplit(path).query).get("after", [None])
            assert after == [page["nextCursor"]]
            assert not path or len(page["tasks"]) == (limit or 50)
        wanted = reversed(self.users[name].tasks.values())
        assert listed == [task for task in wanted if status in {None, task["status"]}]

    @rule(name=user_names)
    def log_out(self, name: str) -> None:
        response = self.send(name, "POST", "/api/auth/logout")
        assert response.status == (200 if self.is_logged_in[name] else 401)
        self.is_logged_in[name] = False

    @rule(name=user_names)
    def log_in(self, name: str) -> None:
        self.clients[name] = self.run(self.api.log_in, self.clients[name].email, PASSWORD)
        self.is_logged_in[name] = True

    @invariant()
    def every_list_is_as_the_model_has_it(self) -> None:
        for name in USERS:
            if hasattr(self, "users") and self.is_logged_in[name]:
                listed = self.send(name, "GET", "/api/tasks?limit=100").json["tasks"]
                assert listed == [*reversed(self.users[name].tasks.values())]


@pytest.mark.fuzz
def test_the_api_does_what_the_model_says(api: ApiClient, io_loop: Any) -> None:
    machine = type("Machine", (ApiModel,), {"api": api, "io_loop": io_loop})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
