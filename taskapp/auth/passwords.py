"""Passwords: how strong one must be, and how it is hashed without holding anybody up."""

import asyncio
import base64
import hashlib
import hmac
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import bcrypt

from taskapp.core.errors import Unavailable
from taskapp.core.messages import Message

MIN_PASSWORD_LENGTH = 8  # characters (ASVS 6.2.1)
MAX_PASSWORD_LENGTH = 256  # characters
MIN_SCORE = 2  # of zxcvbn's 0 to 4: over 10^6 guesses
SCORED_LENGTH = 32  # characters; for 100 that may all stand for others zxcvbn needs ten seconds
HASH_CONTEXT = b"taskapp.password.1"
LOW_PRIORITY = 10  # nice value; 19 starves logins on a busy core, 0 slows every other request
MAX_QUEUED_HASHES = 40  # hashes that may wait; the last of them would wait about ten seconds

Result = TypeVar("Result")


class PasswordHasher:
    """Hashes one password at a time, on one thread of low priority, first come first served.

    A hash takes a core for a quarter of a second, on purpose. On the event loop it would stop
    every other request; on many threads it would take their cores.
    """

    def __init__(self, rounds: int) -> None:
        """Take the cost: 2 to the power of `rounds`."""
        self.rounds = rounds
        self._thread = ThreadPoolExecutor(1, "passwords", initializer=_lower_priority)
        self._slot = asyncio.Lock()
        self._waiting = 0
        # A hash of this cost that no password has: unknown addresses take as long as known ones.
        self._nobody = f"$2b${rounds:02d}$" + "." * 53

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for one's turn; what is done in it nobody else does at the same time.

        Raises:
            Unavailable: too many are waiting already.
        """
        if self._waiting >= MAX_QUEUED_HASHES:
            raise Unavailable(
                Message("Too many people are logging in at this moment."),
                retry_after=5,
            )
        self._waiting += 1
        try:
            async with self._slot:
                yield
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """Hash a password, in one's turn."""
        return await self._run(self._hash, password)

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Tell whether a password has this hash, in one's turn; None costs the same time."""
        return await self._run(_check, password, password_hash or self._nobody)

    async def is_weak(self, password: str, email: str) -> bool:
        """Tell whether a password is easily guessed, in one's turn."""
        return await self._run(_is_weak, password, email)

    def is_outdated(self, password_hash: str) -> bool:
        """Tell whether a hash was made at another cost than is asked for now."""
        return not password_hash.startswith(f"$2b${self.rounds:02d}$")

    def close(self) -> None:
        """Let the thread end; hashes that were begun are finished."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(_prepare(password), bcrypt.gensalt(self.rounds)).decode("ascii")

    async def _run(self, work: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere it would be the priority of the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


def _prepare(password: str) -> bytes:
    """Make 44 bytes of any password: bcrypt reads 72 at most, and not beyond a zero byte."""
    digest = hmac.digest(HASH_CONTEXT, password.encode("utf-8"), hashlib.sha256)
    return base64.b64encode(digest)


def _check(password: str, password_hash: str) -> bool:
    return bcrypt.checkpw(_prepare(password), password_hash.encode("ascii"))


def _is_weak(password: str, email: str) -> bool:
    from zxcvbn import zxcvbn  # noqa: PLC0415  # 40 ms and 10 MB that only a registration needs

    known = [email, *email.split("@")]
    if password.casefold() in {word.casefold() for word in known}:
        return True
    result = zxcvbn(password[:SCORED_LENGTH], user_inputs=known, max_length=SCORED_LENGTH)
    return int(result["score"]) < MIN_SCORE
