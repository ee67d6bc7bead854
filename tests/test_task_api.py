"""The contract of the task endpoints (high-level design, 4.2; design, section 3)."""

import pytest

from tests.clients import ApiClient

pytestmark = pytest.mark.gen_test


async def test_a_task_that_was_made_is_in_the_list(alice: ApiClient) -> None:
    task = await alice.add_task("Buy milk", description="Oat")
    listed = await alice.get("/api/tasks")
    assert listed.json == {"tasks": [task], "nextCursor": None}
