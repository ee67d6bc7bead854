"""taskapp, broken on purpose: experiments that find nothing wrong with it prove nothing.

The first argument names what is broken.
"""

import asyncio
import sys
from typing import Any

import server
from handlers import web_server as site
from handlers.api.base import ApiHandler
from handlers.web.base import BaseHandler
from taskapp.db.database import Database, Transaction
from taskapp.db.statements import Statement
from taskapp.queries import tasks

LATE = 0.1  # seconds


def acknowledge_before_commit() -> None:
    """Answer when a task was changed, and commit it a moment later."""
    fetch_all = Database.fetch_all
    commits: set[asyncio.Task[None]] = set()

    async def answer_early(self: Database, statement: Statement, **parameters: Any) -> Any:
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

    Database.fetch_all = answer_early  # type: ignore[method-assign]  # that is the purpose


def commit_twice() -> None:
    """Change the title and, a moment later, the rest."""
    update_task = tasks.update_task

    async def update_in_two_steps(*arguments: Any, **fields: Any) -> Any:
        first = {name: fields[name] for name in ("title", "versions") if name in fields}
        task = await update_task(*arguments, **first)
        await asyncio.sleep(LATE)
        rest = {name: value for name, value in fields.items() if name not in first}
        return await update_task(*arguments, **rest) if task and rest else task

    tasks.update_task = update_in_two_steps


def keep_the_user_in_a_global() -> None:
    """Take the user of the request that came last."""
    last: dict[str, Any] = {}
    authenticate, prepare = ApiHandler.authenticate, ApiHandler.prepare

    def remember(self: ApiHandler) -> Any:
        last["owner"] = authenticate(self)
        return last["owner"]

    async def linger(self: ApiHandler) -> None:
        await prepare(self)
        await asyncio.sleep(0)

    ApiHandler.authenticate = remember  # type: ignore[method-assign]  # that is the purpose
    ApiHandler.prepare = linger  # type: ignore[method-assign]  # that is the purpose
    BaseHandler.session = property(lambda _self: last["owner"])  # type: ignore[assignment]  # that is the purpose


def close_at_once() -> None:
    """Hang up at a stop without a word to those who are between two requests."""
    site.HANG_UP_TIMEOUT = 0.0


if __name__ == "__main__":
    {
        "acknowledges before commit": acknowledge_before_commit,
        "commits twice": commit_twice,
        "keeps the user in a global": keep_the_user_in_a_global,
        "closes at once": close_at_once,
    }[sys.argv.pop(1)]()
    server.cli()
