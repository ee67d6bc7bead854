"""What one account may have is bounded, however many requests come at once."""

import asyncio
import secrets

import pytest

from taskapp.auth.signing import SessionToken
from taskapp.config.settings import Settings
from taskapp.db.database import Transaction
from taskapp.queries.personal_tokens import insert_token
from taskapp.queries.sessions import MAX_SESSIONS, insert_session
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute
from tests.support.page_client import ALICE, PASSWORD, PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test


@pytest.fixture
def session(alice: ApiClient, services: Services) -> SessionToken:
    """Return a session of Alice."""
    text = alice.headers["Authorization"].removeprefix("Bearer ")
    found = services.signer.read_bearer_token(text)
    assert found
    return found


async def test_many_requests_at_once_make_no_token_too_many_and_none_of_the_same_name(
    session: SessionToken, services: Services, settings: Settings
) -> None:
    async def create(number: int) -> str | None:
        _, secret_hash = services.signer.new_personal_token(session.user_id)
        return await services.database.transaction(
            "sessions.create_token",
            lambda transaction: insert_token(
                transaction,
                session,
                secret_hash,
                name=f"Name {number % 20}",
                lifetime=None,
                is_read_only=False,
                max_tokens=15,
            ),
        )

    created = await asyncio.gather(*(create(number) for number in range(100)))
    stored = execute(settings.database_url, "SELECT id::text FROM sessions WHERE name IS NOT NULL")
    assert len(stored) == 15
    assert {id_ for (id_,) in stored} == {id_ for id_ in created if id_}


def add_sessions(settings: Settings, user_id: str, number: int) -> None:
    """Insert sessions that began an hour, two hours and so on ago."""
    execute(
        settings.database_url,
        "INSERT INTO sessions (id, user_id, secret_hash, expires_at, created_at)"
        " SELECT gen_random_uuid(), %s, sha256(convert_to(n::text, 'UTF8')), 'infinity',"
        " now() - make_interval(hours => n) FROM generate_series(1, %s) n",
        *(user_id, number),
    )


async def test_a_login_beyond_the_limit_ends_the_oldest_session_and_no_token(
    alice: ApiClient, mine: PageClient, settings: Settings
) -> None:
    """Alice has two sessions and a token; versions before had no limit."""
    script = await mine.make_token()
    add_sessions(settings, alice.user_id, MAX_SESSIONS - 2)
    oldest = "SELECT round(extract(epoch FROM now() - min(created_at)) / 3600), count(*)"
    of_sessions = f"{oldest} FROM sessions WHERE name IS NULL"
    assert execute(settings.database_url, of_sessions) == [(MAX_SESSIONS - 2, MAX_SESSIONS)]
    await alice.log_in(ALICE, PASSWORD)
    assert execute(settings.database_url, of_sessions) == [(MAX_SESSIONS - 3, MAX_SESSIONS)]
    for client in (alice, script):
        assert (await client.get("/api/tasks")).status == 200

    execute(settings.database_url, "DELETE FROM sessions WHERE created_at < now() - interval '1 h'")
    add_sessions(settings, alice.user_id, 1_500)
    for _ in range(2):
        await alice.log_in(ALICE, PASSWORD)
    [(_, number)] = execute(settings.database_url, of_sessions)
    assert number == MAX_SESSIONS
    for client in (alice, script):
        assert (await client.get("/api/tasks")).status == 200


async def test_logins_at_once_do_not_pass_the_limit_of_sessions(
    alice: ApiClient, services: Services, settings: Settings
) -> None:
    add_sessions(settings, alice.user_id, MAX_SESSIONS - 5)
    [(password_hash,)] = execute(settings.database_url, "SELECT password_hash FROM users")

    async def begin(transaction: Transaction) -> str | None:
        return await insert_session(
            transaction,
            alice.user_id,
            secrets.token_bytes(32),
            password_hash=password_hash,
            idle=3600,
            address="192.0.2.1",
            user_agent="",
        )

    begun = await asyncio.gather(
        *(services.database.transaction("sessions.begin", begin) for _ in range(20))
    )
    stored = execute(settings.database_url, "SELECT id::text FROM sessions")
    assert len(stored) == MAX_SESSIONS
    assert set(begun) <= {session_id for (session_id,) in stored}
