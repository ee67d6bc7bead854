"""The requests that are measured."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.accounts import Account
from bench.connection import write_request
from bench.load import PASSWORD

CREATED = "bench-"  # prefix of the title of every created task, used to delete them afterwards
_DESCRIPTION = "Call the office, ask for the report of last month, send it to everybody. " * 3


@dataclass(frozen=True)
class Scenario:
    """A request template: {id} is one of the account's tasks, {number} differs each time.

    `kind` selects the headers of the account; `status` is the expected status.
    """

    name: str
    method: str
    path: str
    body: Mapping[str, str] = field(default_factory=dict, hash=False)
    status: int = 200
    kind: str = "bearer"

    def request(self, account: Account, number: int) -> bytes:
        """Return the request of an account; each number selects another task."""
        task_id = account.task_ids[number * 7 % len(account.task_ids)]
        body = {name: value.replace("{number}", str(number)) for name, value in self.body.items()}
        path = self.path.replace("{id}", task_id)
        return write_request(self.method, path, account.token, body or None)


def _task(title: str, status: str) -> Mapping[str, str]:
    return {"title": f"{title}{{number}}", "description": _DESCRIPTION[:200], "status": status}


LIST = Scenario("list", "GET", "/api/tasks?limit=50")
GET = Scenario("get", "GET", "/api/tasks/{id}")
CREATE = Scenario("create", "POST", "/api/tasks", _task(CREATED, "pending"), 201)
UPDATE = Scenario("update", "PUT", "/api/tasks/{id}", _task("Updated ", "completed"))
OPERATIONS = (LIST, GET, CREATE, UPDATE)
_CREDENTIALS = {"email": "{email}", "password": PASSWORD}
LOGIN = Scenario("login", "POST", "/api/auth/login", _CREDENTIALS)
PAGE = Scenario("HTML page", "GET", "/tasks", kind="cookie")
UNCHANGED = Scenario("304", "GET", LIST.path, status=304, kind="known")
