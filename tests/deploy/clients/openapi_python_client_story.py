"""A user's session with openapi-python-client's client; its argument is the server's URL."""

import sys
from typing import Any

from taskapp_api_client import AuthenticatedClient, Client
from taskapp_api_client.api.authentication import log_in, log_out, register
from taskapp_api_client.api.health import get_health, get_liveness, get_readiness
from taskapp_api_client.api.tasks import (
    create_task,
    delete_task,
    get_task,
    list_tasks,
    put_task,
    update_task,
)
from taskapp_api_client.models import (
    HealthStatus,
    Login,
    Problem,
    Registration,
    Task,
    TaskCreate,
    TaskStatus,
    TaskUpdate,
)

EMAIL, PASSWORD = "attrs@example.com", "correct horse battery staple"
NO_TASK = "01900000-0000-7000-8000-000000000000"


def refusal(operation: Any, *arguments: Any, **named: Any) -> tuple[int, Any]:
    """Return the status of a call that is refused, and its problem."""
    response = operation.sync_detailed(*arguments, **named)
    assert isinstance(response.parsed, Problem), response
    assert response.parsed.status == response.status_code
    return response.status_code.value, response.parsed


def main(url: str) -> None:
    stranger = Client(base_url=url, raise_on_unexpected_status=True)
    assert get_health.sync(client=stranger).status == HealthStatus.HEALTHY
    assert get_liveness.sync(client=stranger).status == "live"
    assert get_readiness.sync(client=stranger).status == "ready"

    account = Registration(email=EMAIL, password=PASSWORD)
    registered = register.sync(client=stranger, body=account)
    status, problem = refusal(register, client=stranger, body=account)
    assert (status, problem.errors[0].field) == (409, "email")
    assert refusal(log_in, client=stranger, body=Login(email=EMAIL, password="wrong"))[0] == 401
    session = log_in.sync(client=stranger, body=Login(email=EMAIL, password=PASSWORD))
    assert (session.user.id, session.user.email) == (registered.user_id, EMAIL)
    assert refusal(list_tasks, client=stranger)[0] == 401

    alice = AuthenticatedClient(url, session.token, raise_on_unexpected_status=True)
    body = TaskCreate(title=" Buy milk ")
    milk = create_task.sync(client=alice, body=body, idempotency_key="milk")
    assert (milk.title, milk.description, milk.status) == ("Buy milk", "", TaskStatus.PENDING)
    assert create_task.sync(client=alice, body=body, idempotency_key="milk") == milk
    for title in ("Buy bread", "Call Ada"):
        create_task.sync(client=alice, body=TaskCreate(title=title, description="\U0001f600\n"))
    status, problem = refusal(create_task, client=alice, body=TaskCreate(title="\u200b"))
    assert (status, problem.errors[0].field) == (400, "title")

    first = list_tasks.sync(client=alice, limit=2)
    assert [task.title for task in first.tasks] == ["Call Ada", "Buy bread"]
    second = list_tasks.sync(client=alice, limit=2, after=first.next_cursor)
    assert (second.tasks, second.next_cursor) == ([milk], None)
    assert refusal(list_tasks, client=alice, after="nonsense")[0] == 400

    version = get_task.sync_detailed(milk.id, client=alice).headers["ETag"]
    unchanged = get_task.sync_detailed(milk.id, client=alice, if_none_match=version)
    assert (unchanged.status_code, unchanged.parsed) == (304, None)
    done = TaskUpdate(status=TaskStatus.COMPLETED)
    changed = update_task.sync(milk.id, client=alice, body=done, if_match=version)
    assert isinstance(changed, Task)
    assert (changed.status, changed.title) == (TaskStatus.COMPLETED, "Buy milk")
    assert refusal(update_task, milk.id, client=alice, body=done, if_match=version)[0] == 412
    put = put_task.sync(milk.id, client=alice, body=TaskUpdate(title="Buy oat milk"))
    assert (put.status, put.title) == (TaskStatus.COMPLETED, "Buy oat milk")
    completed = list_tasks.sync(client=alice, status=TaskStatus.COMPLETED)
    assert [task.id for task in completed.tasks] == [milk.id]
    assert refusal(delete_task, milk.id, client=alice, if_match=version)[0] == 412

    assert refusal(get_task, NO_TASK, client=alice)[0] == 404
    assert delete_task.sync(milk.id, client=alice).message
    assert refusal(get_task, milk.id, client=alice)[0] == 404
    log_out.sync(client=alice)
    assert refusal(list_tasks, client=alice)[0] == 401


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.write("done\n")
