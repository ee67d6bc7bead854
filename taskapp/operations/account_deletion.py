"""Deletes accounts of any size: first the account is closed, then its rows are deleted in portions.

A closed account is seen by nobody any more. The server goes on with what an interruption left.
"""

from collections.abc import Awaitable, Callable
from time import monotonic

from taskapp.core.progress import advance_step, begin_step
from taskapp.db.database import Transaction
from taskapp.observability.logs import log
from taskapp.operations.portions import delete_in_portions, end_sessions, forget_user_addresses
from taskapp.queries.bulk_tasks import delete_tasks_of_closed_user
from taskapp.queries.sessions import delete_sessions_of_user
from taskapp.queries.users import delete_closed_user, find_closed_user, find_is_open
from taskapp.services import Services

MAX_SECONDS = 5.0  # so that a request is answered, and maintenance mode is heeded


async def close_account(
    services: Services,
    user_id: str,
    close: Callable[[Transaction], Awaitable[bool]],
    *,
    session: bytes | None = None,
) -> bool:
    """End all sessions of a user, and close the account in one transaction with the last of them.

    `session` is the secret hash of the one that `close` needs. Return False if `close` does; the
    sessions besides that one have ended then all the same.
    """
    await end_sessions(services, user_id, kept=session)

    async def work(transaction: Transaction) -> bool:
        if not await close(transaction):
            return False
        await delete_sessions_of_user(transaction, user_id)
        return True

    is_closed = await services.database.transaction("users.close", work)
    if is_closed:
        log("user.closed", userId=user_id)
    return is_closed


async def finish_deletion(services: Services, user_id: str) -> bool | None:
    """Delete what is left of an account, as `delete_closed_account`; None if it is open."""
    is_open = await find_is_open(services.database, user_id)
    if is_open is None:
        return True
    if is_open:
        return None
    return await delete_closed_account(services, user_id, seconds=MAX_SECONDS)


async def delete_closed_accounts(services: Services) -> None:
    """Delete what is left of closed accounts, for MAX_SECONDS."""
    deadline = monotonic() + MAX_SECONDS
    while (seconds := deadline - monotonic()) > 0 and (
        user_id := await find_closed_user(services.database)
    ):
        await delete_closed_account(services, user_id, seconds=seconds)


async def delete_closed_account(services: Services, user_id: str, *, seconds: float) -> bool:
    """Delete what is left of one closed account; return False if some is after so many seconds."""
    begin_step("Deleting the tasks", unit="tasks")
    ids: list[str] = []

    async def delete_tasks(limit: int) -> int:
        nonlocal ids
        after = min(ids, default=None)
        ids = await delete_tasks_of_closed_user(
            services.database, user_id, after=after, limit=limit
        )
        advance_step(len(ids))
        return len(ids)

    if not (await delete_in_portions(delete_tasks, seconds=seconds)).is_complete:
        return False
    await forget_user_addresses(services, user_id)
    if await delete_closed_user(services.database, user_id):
        log("user.deleted", userId=user_id)
    return True
