"""A user's session with openapi-generator's Python client; its argument is the server's URL."""

import sys
from typing import Any

from taskapp_client import (
    ApiClient,
    ApiException,
    AuthenticationApi,
    Configuration,
    HealthApi,
    Login,
    Problem,
    Registration,
    TaskCreate,
    TasksApi,
    TaskStatus,
    TaskUpdate,
)

EMAIL, PASSWORD = "python@example.com", "correct horse battery staple"
NO_TASK = "01900000-0000-7000-8000-000000000000"


def refusal(call: Any, *arguments: Any, **named: Any) -> tuple[int, Any]:
    """Return the status of a call that is refused, and its problem."""
    try:
        call(*arguments, **named)
    except ApiException as error:
        return error.status, error.data
    raise AssertionError(f"{call} was not refused")


def main(url: str) -> None:
    configuration = Configuration(host=url)
    client = ApiClient(configuration)
    assert HealthApi(client).get_health().status == "healthy"
    assert HealthApi(client).get_liveness().status == "live"
    assert HealthApi(client).get_readiness().status == "ready"

    accounts = AuthenticationApi(client)
    registered = accounts.register(Registration(email=EMAIL, password=PASSWORD))
    status, problem = refusal(accounts.register, Registration(email=EMAIL, password=PASSWORD))
    assert (status, problem.errors[0].var_field) == (409, "email")
    status, problem = refusal(accounts.log_in, Login(email=EMAIL, password="wrong"))
    assert (status, type(problem)) == (401, Problem)
    session = accounts.log_in(Login(email=EMAIL, password=PASSWORD))
    assert (session.user.id, session.user.email) == (registered.user_id, EMAIL)
    tasks = TasksApi(client)
    assert refusal(tasks.list_tasks)[0] == 401
    configuration.access_token = session.token

    milk = tasks.create_task(TaskCreate(title=" Buy milk "), idempotency_key="milk")
    assert (milk.title, milk.description, milk.status) == ("Buy milk", "", TaskStatus.PENDING)
    assert tasks.create_task(TaskCreate(title="Buy milk"), idempotency_key="milk") == milk
    for title in ("Buy bread", "Call Ada"):
        tasks.create_task(TaskCreate(title=title, description="\U0001f600\n"))
    status, problem = refusal(tasks.create_task, TaskCreate(title="\u200b"))
    assert (status, problem.errors[0].var_field) == (400, "title")

    first = tasks.list_tasks(limit=2)
    assert [task.title for task in first.tasks] == ["Call Ada", "Buy bread"]
    second = tasks.list_tasks(limit=2, after=first.next_cursor)
    assert (second.tasks, second.next_cursor) == ([milk], None)
    assert refusal(tasks.list_tasks, after="nonsense")[0] == 400

    read = tasks.get_task_with_http_info(milk.id)
    version = read.headers["Etag"]  # the client has them in a dict, as the server spells them
    assert refusal(tasks.get_task, milk.id, if_none_match=version) == (304, None)
    done = TaskUpdate(status=TaskStatus.COMPLETED)
    changed = tasks.update_task(milk.id, done, if_match=version)
    assert (changed.status, changed.title) == (TaskStatus.COMPLETED, "Buy milk")
    status, problem = refusal(tasks.update_task, milk.id, done, if_match=version)
    assert (status, problem.status) == (412, 412)
    assert tasks.put_task(milk.id, TaskUpdate(title="Buy oat milk")).status == TaskStatus.COMPLETED
    assert [task.id for task in tasks.list_tasks(status=TaskStatus.COMPLETED).tasks] == [milk.id]
    assert refusal(tasks.delete_task, milk.id, if_match=version)[0] == 412

    status, problem = refusal(tasks.get_task, NO_TASK)
    assert (status, problem.type) == (404, "about:blank")
    assert tasks.delete_task(milk.id).message
    assert refusal(tasks.get_task, milk.id)[0] == 404
    accounts.log_out()
    assert refusal(tasks.list_tasks)[0] == 401


if __name__ == "__main__":
    main(*sys.argv[1:])
    sys.stdout.write("done\n")
