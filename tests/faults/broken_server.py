"""taskapp with a deliberate defect, which the experiments have to find.

The first argument names the defect.
"""

import asyncio
import sys
from typing import Any

import server
from handlers import web_server
from handlers.api.base import ApiHandler
from handlers.web.base import BaseHandler
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries import tasks

LATE = 0.1  # seconds


def acknowledge_before_commit() -> None:
    """Respond after the change of a task, and commit it afterwards."""
    fetch_all = Database.fetch_all
    commits: set[asyncio.Task[None]] = set()

    async def respond_early(self: Database, statement: Statement, **parameters: Any) -> Any:
        if statement.is_read or not statement.name.startswith("tasks."):
            return await fetch_all(self, statement, **parameters)
        response: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        async def work(transaction: Transaction) -> None:
            response.set_result(await transaction.run(statement, **parameters))
            await asyncio.sleep(LATE)

        commit = asyncio.create_task(self.transaction(statement.name, work))
        commits.add(commit)
        commit.add_done_callback(commits.discard)
        await asyncio.wait([commit, response], return_when=asyncio.FIRST_COMPLETED)
        return response.result() if response.done() else await commit

    Database.fetch_all = respond_early  # type: ignore[method-assign]  # on purpose


def commit_twice() -> None:
    """Commit the title first, and the other fields afterwards."""
    update_task = tasks.update_task

    async def update_in_two_steps(*arguments: Any, **fields: Any) -> Any:
        first = {name: fields[name] for name in ("title", "versions") if name in fields}
        task = await update_task(*arguments, **first)
        await asyncio.sleep(LATE)
        rest = {name: value for name, value in fields.items() if name not in first}
        return await update_task(*arguments, **rest) if task and rest else task

    tasks.update_task = update_in_two_steps


def keep_the_user_in_a_global() -> None:
    """Use the session of the last request."""
    last: dict[str, Any] = {}
    authenticate, prepare = ApiHandler.authenticate, BaseHandler.prepare

    def remember(self: ApiHandler) -> Any:
        last["owner"] = authenticate(self)
        return last["owner"]

    async def linger(self: BaseHandler) -> None:
        await prepare(self)
        await asyncio.sleep(0)

    ApiHandler.authenticate = remember  # type: ignore[method-assign]  # on purpose
    BaseHandler.prepare = linger  # type: ignore[method-assign]  # on purpose
    BaseHandler.session = property(lambda _self: last["owner"])  # type: ignore[assignment]  # on purpose


def close_at_once() -> None:
    """Close idle connections at a stop without "Connection: close" before."""
    web_server.HANG_UP_TIMEOUT = 0.0


if __name__ == "__main__":
    {
        "acknowledges before commit": acknowledge_before_commit,
        "commits twice": commit_twice,
        "keeps the user in a global": keep_the_user_in_a_global,
        "closes at once": close_at_once,
    }[sys.argv.pop(1)]()
    server.cli()
