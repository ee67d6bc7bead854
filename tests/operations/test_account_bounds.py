"""What one account may have is bounded, however many requests come at once."""

import asyncio

import pytest

from taskapp.auth.signing import SessionToken
from taskapp.config.settings import Settings
from taskapp.queries.personal_tokens import insert_token
from taskapp.services import Services
from tests.support.clients import ApiClient
from tests.support.database_fixtures import execute

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
