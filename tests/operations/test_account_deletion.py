"""An account of any size can be deleted, and no statement deletes more than a portion of rows."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator

import pytest

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import NotAuthenticated, NotFound, WrongCredentials
from taskapp.operations import account_deletion, account_self_service, portions, tasks
from taskapp.operations.account_deletion import delete_closed_accounts
from taskapp.operations.account_self_service import (
    change_password,
    delete_account,
    end_other_sessions,
    load_account,
)
from taskapp.operations.accounts import (
    forget_addresses,
    list_accounts,
    log_in,
    purge_sessions,
    register,
    remove_user,
    set_password,
)
from taskapp.operations.tasks import delete_completed_tasks
from taskapp.queries.users import count_active_users, count_users
from taskapp.services import Services
from tests.conftest import PASSWORD
from tests.support.database_fixtures import add_session, add_tasks, add_user, execute

pytestmark = pytest.mark.gen_test

ALICE = "alice@example.com"
ADDRESS = "192.0.2.1"
SENT = {"email": ALICE, "password": PASSWORD}
PROOF = {"password": PASSWORD}
LATER = "2999-01-01T00:00:00Z"
MAX_PORTION = 4  # rows
MANY = 30  # rows
Operation = Callable[[Services, SessionToken], Awaitable[object]]


async def sign_up(services: Services) -> SessionToken:
    """Register Alice, and return her session."""
    await register(services, SENT, ADDRESS)
    return await begin_session(services)


async def begin_session(services: Services) -> SessionToken:
    new_cookie = services.signer.new_session_cookie
    login = await log_in(services, SENT, ADDRESS, new_cookie, user_agent="")
    session = services.signer.read_session_cookie(login.token)
    assert session
    return session


# However many rows there are


@pytest.fixture
def deletions(empty_database: str) -> Iterator[Callable[[str], list[int]]]:
    """Record how many rows of each table a statement deletes; the cascade's own count, too."""
    tables = ("tasks", "sessions", "login_addresses")
    execute(
        empty_database,
        "CREATE TABLE deletions (name text, number bigint);"
        "CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO deletions SELECT TG_TABLE_NAME, count(*) FROM gone; RETURN NULL; END $$",
    )
    for table in tables:
        execute(
            empty_database,
            f"CREATE TRIGGER note_deletion AFTER DELETE ON {table} REFERENCING OLD TABLE AS gone"
            " FOR EACH STATEMENT EXECUTE FUNCTION note_deletion()",
        )

    def of_table(name: str) -> list[int]:
        rows = execute(empty_database, "SELECT number FROM deletions WHERE name = %s", name)
        return [number for (number,) in rows if number]

    yield of_table
    execute(empty_database, "DROP FUNCTION note_deletion CASCADE; DROP TABLE deletions")


async def delete_own(services: Services, session: SessionToken) -> object:
    return await delete_account(services, session, PROOF, ADDRESS)


async def delete_as_operator(services: Services, _session: SessionToken) -> None:
    await remove_user(services, ALICE)


async def delete_completed(services: Services, session: SessionToken) -> object:
    return await delete_completed_tasks(services, session, LATER)


async def end_others(services: Services, session: SessionToken) -> object:
    return await end_other_sessions(services, session, PROOF, ADDRESS)


async def end_others_and_tokens(services: Services, session: SessionToken) -> object:
    return await end_other_sessions(services, session, PROOF | {"tokens": "yes"}, ADDRESS)


async def change(services: Services, session: SessionToken) -> object:
    sent = {"current_password": PASSWORD, "new_password": "Another pass 456"}
    new_cookie = services.signer.new_session_cookie
    return await change_password(services, session, sent, ADDRESS, new_cookie)


async def set_by_operator(services: Services, _session: SessionToken) -> object:
    return await set_password(services, ALICE, "Another pass 456")


async def purge(services: Services, _session: SessionToken) -> object:
    return await purge_sessions(services)


async def forget(services: Services, _session: SessionToken) -> None:
    await forget_addresses(services)


@pytest.mark.parametrize(
    ("table", "operation", "left"),
    [
        ("tasks", delete_own, 0),
        ("tasks", delete_as_operator, 0),
        ("tasks", delete_completed, 0),
        ("sessions", delete_own, 0),
        ("sessions", delete_as_operator, 0),
        ("sessions", end_others, 1 + MANY),  # API tokens stay
        ("sessions", end_others_and_tokens, 1),
        ("sessions", change, 1),
        ("sessions", set_by_operator, 0),
        ("sessions", purge, 1 + 2 * MANY),
        ("login_addresses", delete_own, 0),
        ("login_addresses", delete_as_operator, 0),
        ("login_addresses", change, 1),
        ("login_addresses", set_by_operator, 0),
        ("login_addresses", forget, 1 + MANY),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
async def test_no_statement_deletes_more_than_a_portion(
    services: Services,
    empty_database: str,
    deletions: Callable[[str], list[int]],
    monkeypatch: pytest.MonkeyPatch,
    table: str,
    operation: Operation,
    left: int,
) -> None:
    alice = await sign_up(services)
    add_tasks(empty_database, alice.user_id, MANY, status="completed")
    for _ in range(MANY):
        add_session(empty_database, alice.user_id)
        add_session(empty_database, alice.user_id, lasts="-1 second")
        token = add_session(empty_database, alice.user_id, lasts="infinity")
        execute(
            empty_database,
            "UPDATE sessions SET name = 'script ' || id WHERE secret_hash = %s",
            token.secret_hash,
        )
    execute(
        empty_database,
        "INSERT INTO login_addresses (user_id, address, last_login_at)"
        " SELECT %s, n::text, now() - make_interval(days => 200 * (n %% 2))"
        " FROM generate_series(1, %s) n",
        *(alice.user_id, 2 * MANY),
    )
    monkeypatch.setattr(portions, "MAX_PORTION", MAX_PORTION)
    monkeypatch.setattr(tasks, "MAX_UNDO_TASKS", MAX_PORTION - 1)  # deleted by one statement
    await operation(services, alice)
    assert max(deletions(table)) <= MAX_PORTION
    assert execute(empty_database, f"SELECT count(*) FROM {table}") == [(left,)]  # noqa: S608  # our names


# However long it takes


@pytest.fixture
def slow_tasks(empty_database: str) -> Iterator[None]:
    """Make the deletion of a task take 20 ms, as on a disk that is slow."""
    execute(
        empty_database,
        "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_sleep(0.02); RETURN OLD; END';"
        "CREATE TRIGGER wait BEFORE DELETE ON tasks FOR EACH ROW EXECUTE FUNCTION wait()",
    )
    yield
    execute(empty_database, "DROP FUNCTION wait CASCADE")


@pytest.mark.usefixtures("slow_tasks")
async def test_what_a_request_does_not_finish_is_seen_by_nobody_and_deleted_later(
    services: Services, empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = add_user(empty_database, "bob")
    add_tasks(empty_database, bob, 2)
    alice = await sign_up(services)
    add_tasks(empty_database, alice.user_id, 250)  # more than one statement may take
    monkeypatch.setattr(account_self_service, "MAX_SECONDS", 0.5)

    assert not await delete_account(services, alice, PROOF, ADDRESS)
    assert tasks_of(empty_database, alice.user_id) > 0
    with pytest.raises(NotAuthenticated):
        await load_account(services, alice)
    with pytest.raises(WrongCredentials):
        await begin_session(services)
    with pytest.raises(NotFound):
        await remove_user(services, ALICE)
    assert [user.email for user in await list_accounts(services)] == ["bob@example.com"]
    assert await count_users(services.database) == 1
    assert (await count_active_users(services.database))[0] == 1

    again = await sign_up(services)
    [kept] = add_tasks(empty_database, again.user_id, 1)
    monkeypatch.setattr(account_deletion, "MAX_SECONDS", 60.0)
    await asyncio.gather(*(delete_closed_accounts(services) for _ in range(2)))
    assert tasks_of(empty_database, alice.user_id) == 0
    assert tasks_of(empty_database, bob) == 2
    assert execute(empty_database, "SELECT id::text FROM tasks WHERE id = %s", kept) == [(kept,)]
    assert sorted(execute(empty_database, "SELECT email FROM users")) == [
        (ALICE,),
        ("bob@example.com",),
    ]


def tasks_of(url: str, user_id: str) -> int:
    [(number,)] = execute(url, "SELECT count(*) FROM tasks WHERE user_id = %s", user_id)
    return int(number)


async def test_a_login_that_races_with_the_deletion_begins_no_session(
    services: Services, empty_database: str
) -> None:
    alice = await sign_up(services)

    async def log_in_again() -> None:
        for _ in range(10):
            await begin_session(services)

    deletion, login = await asyncio.gather(
        delete_account(services, alice, PROOF, ADDRESS), log_in_again(), return_exceptions=True
    )
    assert deletion is True
    assert isinstance(login, WrongCredentials)
    assert execute(empty_database, "SELECT 1 FROM users, sessions, tasks") == []
