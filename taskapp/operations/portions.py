"""Deletes rows in portions: each statement stays within its timeout, however many rows there are.

What an interruption leaves is deleted by the next attempt.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import NamedTuple

from taskapp.queries.login_addresses import delete_address_portion
from taskapp.queries.sessions import EndedSessions, delete_session_portion
from taskapp.services import Services

MAX_PORTION = 1_000  # rows per statement: few enough for a slow disk within the timeout
_FIRST_PORTION = 10  # rows; doubled while statements are fast
_FAST, _SLOW = 0.5, 1.0  # seconds that a statement takes


class Deletion(NamedTuple):
    """How many rows were deleted, and whether that was all."""

    rows: int
    is_complete: bool


async def delete_in_portions(
    delete: Callable[[int], Awaitable[int]], *, seconds: float = float("inf")
) -> Deletion:
    """Delete portions until nothing is left, or for so many seconds.

    `delete` takes the size of a portion, and returns the number of rows that it deleted.
    """
    deadline = monotonic() + seconds
    rows, limit = 0, min(_FIRST_PORTION, MAX_PORTION)
    while True:
        started = monotonic()
        deleted = await delete(limit)
        rows += deleted
        if deleted < limit:
            return Deletion(rows, is_complete=True)
        now = monotonic()
        if now >= deadline:
            return Deletion(rows, is_complete=False)
        if now - started < _FAST:
            limit = min(2 * limit, MAX_PORTION)
        elif now - started > _SLOW:
            limit = max(1, limit // 2)


async def end_sessions(
    services: Services,
    user_id: str,
    *,
    kept: bytes | None = None,
    also_kept: bytes | None = None,
    tokens_too: bool = True,
) -> EndedSessions:
    """End the sessions and tokens of a user, except those with the secret hashes that are kept.

    One that is being used may stay, and new ones may begin: the caller ends those, which are few,
    by a statement that ends all.
    """
    ended = EndedSessions(0, 0)

    async def delete(limit: int) -> int:
        nonlocal ended
        portion = await delete_session_portion(
            services.database,
            user_id,
            kept=kept,
            also_kept=also_kept,
            tokens_too=tokens_too,
            limit=limit,
        )
        ended = ended.plus(portion)
        return sum(portion)

    await delete_in_portions(delete)
    return ended


async def forget_user_addresses(services: Services, user_id: str, *, but: str = "") -> None:
    """Delete the known addresses of a user except one, all but those that are being used."""
    await delete_in_portions(
        lambda limit: delete_address_portion(services.database, user_id, but=but, limit=limit)
    )
