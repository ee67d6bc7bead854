"""The synchronous standby of an own PostgreSQL is away: nothing is promised that only one has."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from uuid_utils import uuid7

from taskapp.config.settings import load_settings
from taskapp.core.errors import OutcomeUnknown, WritesStalled
from taskapp.doctor.check_results import Level
from taskapp.doctor.checks import check_database
from taskapp.operations.tasks import key_of_text
from tests.faults.outage import TIMEOUT, Browser
from tests.faults.own_postgres import own_postgres
from tests.support.database_fixtures import execute
from tests.support.server_process import (
    Client,
    Response,
    ServerProcess,
    new_data_folder,
    server_process,
    wait_until,
)

POOL = 60  # of which one address may use a quarter
WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
CANCEL = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
UNCANCELED = 1 + 1 + 1  # the write that was given up, what was behind its response, and a trial
PROMISED = 30  # seconds, within which taskapp writes again when the standby is back


@dataclass
class Site:
    """A taskapp, its PostgreSQL, and Alice in a script and in a browser."""

    server: ServerProcess
    url: str
    alice: Client
    browser: Browser
    user_id: str

    def of(self, email: str) -> "Site":
        """Return the same for another account: changes of one account come one after the other."""
        with self.server.client() as somebody:
            somebody.sign_up(email)
        [(user_id,)] = execute(self.url, "SELECT id::text FROM users WHERE email = %s", email)
        browser = Browser(self.server.address, email)
        return replace(self, alice=somebody, browser=browser, user_id=user_id)

    def commit_here_only(self, statement: str, *values: object) -> None:
        """Commit as a server does that is killed before its standby has the commit."""
        execute(f"{self.url}&options=-csynchronous_commit%3Dlocal", statement, *values)

    def send(self, method: str, path: str, body: object = None, **headers: str) -> Response:
        headers = {"Authorization": f"Bearer {self.alice.token}"} | headers
        with self.server.client() as client:
            return client.send(method, path, body, **headers)

    def add(self, title: str, status: str = "pending") -> tuple[str, str]:
        """Add a task; return its path in the API and its version."""
        response = self.send("POST", "/api/tasks", {"title": title, "status": status})
        assert response.status == 201, response.body
        return f"/api/tasks/{response.json['id']}", response.headers["ETag"]

    def waiting(self) -> int:
        return int(execute(self.url, WAITING)[0][0])

    def metric(self, name: str) -> float:
        with self.server.client() as client:
            text = client.send("GET", "/metrics").body.decode()
        found = re.search(rf"^taskapp_{name} (\S+)$", text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def health(self) -> str:
        return str(self.send("GET", "/api/health").json["database"])

    def events(self, name: str) -> list[dict[str, Any]]:
        return [line for line in self.server.log if line["event"] == name]

    @contextmanager
    def standby_away(self) -> Iterator[None]:
        self._set_standby("away")
        try:
            yield
        finally:
            self._set_standby("")

    def _set_standby(self, name: str) -> None:
        execute(self.url, f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
        execute(self.url, "SELECT pg_reload_conf()")
        wait_until(lambda: execute(self.url, "SHOW synchronous_standby_names") == [(name,)])


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with own_postgres() as postgres, new_data_folder() as folder:
        settings = {"TASKAPP_DATABASE_URL": postgres.url, "TASKAPP_DATABASE_POOL": str(POOL)}
        with server_process(folder, settings=settings) as server:
            with server.wait_until_ready().client() as alice:
                alice.sign_up("alice@example.com")
            browser = Browser(server.address, alice.email)
            [(user_id,)] = execute(postgres.url, "SELECT id::text FROM users")
            yield Site(server, postgres.url, alice, browser, user_id)
            assert server.surprises() == []


Replay = Callable[[], Response]


def created_by_script(site: Site) -> Replay:
    key = str(uuid7())
    insert_with_key(site, key)
    return partial(site.send, "POST", "/api/tasks", {"title": "x"}, Idempotency_Key=key)


def insert_with_key(site: Site, key: str) -> None:
    site.commit_here_only(
        "INSERT INTO tasks (id, user_id, title, idempotency_key) VALUES (%s, %s, 'x', %s)",
        *(str(uuid7()), site.user_id, key),
    )


def created_by_form(site: Site) -> Replay:
    key = str(uuid7())
    insert_with_key(site, key_of_text(key, "x"))
    return partial(site.browser.post, "/tasks", title="x", key=key)


def several_created(site: Site) -> Replay:
    key = str(uuid7())
    insert_with_key(site, key_of_text(key, "0 x"))
    insert_with_key(site, key_of_text(key, "1 y"))
    return partial(site.browser.post, "/tasks/several", titles="x\ny", key=key)


def put(site: Site) -> Replay:
    path, version = site.add("x")
    edit_here(site, path)
    sent = {"title": "edited", "description": "", "status": "pending"}
    return partial(site.send, "PUT", path, sent, If_Match=version)


def patched(site: Site) -> Replay:
    path, version = site.add("x")
    edit_here(site, path)
    return partial(site.send, "PATCH", path, {"title": "edited"}, If_Match=version)


def edit_here(site: Site, path: str) -> None:
    site.commit_here_only(
        "UPDATE tasks SET title = 'edited', updated_at = now() WHERE id = %s", id_in(path)
    )


def id_in(path: str) -> str:
    return path.rpartition("/")[2]


def edited_by_form(site: Site) -> Replay:
    path, version = site.add("x")
    edit_here(site, path)
    form = {"title": "edited", "description": "", "status": "pending", "version": version[1:-1]}
    return partial(site.browser.post, f"/tasks/{id_in(path)}/edit", **form)


def deleted(site: Site) -> Replay:
    path, _ = site.add("x")
    delete_here(site, path)
    return partial(site.send, "DELETE", path)


def delete_here(site: Site, path: str) -> None:
    site.commit_here_only("DELETE FROM tasks WHERE id = %s", id_in(path))


def deleted_by_form(site: Site) -> Replay:
    path, _ = site.add("x")
    delete_here(site, path)
    return partial(site.browser.post, f"/tasks/{id_in(path)}/delete")


def status_set_of_a_deleted_task(site: Site) -> Replay:
    path, _ = site.add("x")
    delete_here(site, path)
    return partial(site.browser.post, f"/tasks/{id_in(path)}/status", status="completed")


def completed_deleted(site: Site) -> Replay:
    site.add("x", "completed")
    site.commit_here_only("DELETE FROM tasks WHERE status = 'completed'")
    return partial(site.browser.post, "/tasks/completed/delete", until="2999-01-01T00:00:00Z")


def registered(site: Site) -> Replay:
    site.commit_here_only(
        "INSERT INTO users (id, email, password_hash) VALUES (%s, 'bob@example.com', 'x')",
        str(uuid7()),
    )
    account = {"email": "bob@example.com", "password": "Long-enough-7361"}
    return partial(site.send, "POST", "/api/auth/register", account)


def logged_out(site: Site) -> Replay:
    with site.server.client() as client:
        client.log_in(site.alice.email)
    site.commit_here_only(
        "DELETE FROM sessions WHERE created_at = (SELECT max(created_at) FROM sessions)"
    )
    return partial(site.send, "POST", "/api/auth/logout", Authorization=f"Bearer {client.token}")


# Requests that repeat what the server has committed already, and their responses.
REPLAYS: dict[Callable[[Site], Replay], int] = {
    created_by_script: 201,
    created_by_form: 303,
    several_created: 303,
    put: 412,
    patched: 412,
    edited_by_form: 303,
    deleted: 404,
    deleted_by_form: 404,
    status_set_of_a_deleted_task: 404,
    completed_deleted: 303,
    registered: 409,
    logged_out: 401,
}


def test_what_only_the_primary_has_is_not_told_as_done_and_the_words_say_unknown(
    site: Site,
) -> None:
    replays = {
        prepare.__name__: prepare(site.of(f"{prepare.__name__}@example.com")) for prepare in REPLAYS
    }
    with site.standby_away():
        assert answers(replays) == dict.fromkeys(replays, "503, unknown")
    wait_until(lambda: site.health() == "connected")
    assert answers(replays) == {
        prepare.__name__: str(status) for prepare, status in REPLAYS.items()
    }


def answers(replays: dict[str, Replay]) -> dict[str, str]:
    """Send all requests at the same time."""
    with ThreadPoolExecutor(len(replays)) as others:
        sent = {name: others.submit(replay) for name, replay in replays.items()}
    return {name: describe(response.result()) for name, response in sent.items()}


def describe(response: Response) -> str:
    if response.status != 503:
        return str(response.status)
    assert int(response.headers["Retry-After"]) > 0
    assert response.seconds < TIMEOUT
    text = response.body.decode()
    words = {OutcomeUnknown: "unknown", WritesStalled: "refused"}
    return f"503, {next((words[e] for e in words if str(e.detail) in text), text)}"


def test_a_wait_for_the_standby_that_somebody_cancels_is_no_confirmation(site: Site) -> None:
    with site.standby_away(), ThreadPoolExecutor() as others:
        first = others.submit(site.send, "POST", "/api/tasks", {"title": "canceled"})

        def ends_while_every_wait_is_canceled() -> bool:
            execute(site.url, CANCEL)
            return first.done()

        wait_until(ends_while_every_wait_is_canceled)
        assert describe(first.result()) == "503, unknown"
    wait_until(lambda: site.health() == "connected")


def test_stalled_writes_are_refused_at_once_said_everywhere_and_leave_room_for_reads(
    site: Site,
) -> None:
    unknown = site.metric("database_unknown_writes_total")
    stalls = len(site.events("database.writes_stalled"))
    new_task = partial(site.send, "POST", "/api/tasks", {"title": "not yet"})
    with site.standby_away():
        assert describe(new_task()) == "503, unknown"
        with site.server.client() as client:
            assert client.status("/api/health/ready") == 200
        wait_until(lambda: site.health() == "writes-stalled")
        health = site.send("GET", "/api/health")
        assert health.status == 503
        wait_until(lambda: len(site.events("database.writes_stalled")) == stalls + 1)
        assert site.metric("database_writes_stalled") == 1
        assert site.metric("database_writable") == 0
        for _ in range(POOL):
            response = new_task()
            assert describe(response) == "503, refused"
            assert response.seconds < 1
        assert describe(site.browser.post("/tasks", title="Typed with care")) == "503, refused"
        first_trial = waiting_trials(site)
        wait_until(lambda: bool(waiting_trials(site) - first_trial))  # it has been given up
        wait_until(lambda: site.waiting() <= UNCANCELED)
        assert site.send("GET", "/api/tasks").status == 200
        assert b"read-only" in site.send("GET", "/status").body
        settings = load_settings({"TASKAPP_DATABASE_URL": site.url})
        finding = asyncio.run(check_database(settings))[0]
        assert (finding.level, finding.subject) == (Level.PROBLEM, "database")
        assert "does not confirm writes" in finding.text
        # Of the unknown ones: the first, and what was written behind a response.
        assert 1 <= site.metric("database_unknown_writes_total") - unknown <= 3
    wait_until(lambda: new_task().status == 201, PROMISED)
    wait_until(lambda: site.health() == "connected")
    assert site.metric("database_writes_stalled") == 0
    assert site.waiting() == 0
    assert len(site.events("database.writes_resumed")) == len(
        site.events("database.writes_stalled")
    )
    problems = [
        line["problem"]
        for line in site.events("availability.changed")
        if line["part"] == "database"
    ]
    assert problems[-2:] == ["writes-stalled", None], json.dumps(problems)


def waiting_trials(site: Site) -> set[int]:
    """Return the processes of trial writes that wait, also those that were given up."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query LIKE %s"
    return {pid for (pid,) in execute(site.url, waiting, "%trial%")}
