"""Password strength, and hashing that does not delay other requests."""

import asyncio
import base64
import hashlib
import hmac
import os
import sys
import threading
import unicodedata
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import bcrypt

from taskapp.core.errors import Unavailable
from taskapp.core.messages import Message

MIN_PASSWORD_LENGTH = 8  # characters (ASVS 6.2.1)
MAX_PASSWORD_LENGTH = 256  # characters
MIN_SCORE = 2  # on zxcvbn's scale of 0 to 4: more than 10^6 guesses
SCORED_LENGTH = 32  # characters; zxcvbn needs ten seconds for 100 with l33t substitutions
HASH_CONTEXT = b"taskapp.password.1"
LOW_PRIORITY = 10  # nice value; 19 starves logins on a busy core, 0 slows every other request
MAX_QUEUED_HASHES = 40  # at 0.25 s each, the last one waits for ten seconds

Result = TypeVar("Result")


class PasswordHasher:
    """Hashes one password at a time, on one thread of low priority, first come, first served.

    A hash takes a core for 0.25 s, on purpose. On the event loop it would block all other requests;
    on several threads it would take their cores. `slot` bounds how many requests wait for it.
    """

    def __init__(self, rounds: int) -> None:
        """Set the cost of a hash: 2 to the power of `rounds`."""
        self.rounds = rounds
        self._thread = ThreadPoolExecutor(1, "passwords", initializer=_lower_priority)
        self._slot = asyncio.Lock()
        self._waiting = 0
        # No password has this hash. Comparing with it makes the login of an unknown email address
        # take as long as that of a known one.
        self._impossible_hash = f"$2b${rounds:02d}$" + "." * 53

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Wait for exclusive use of the hasher for the duration of the block.

        Raises:
            Unavailable: MAX_QUEUED_HASHES callers are waiting already.
        """
        if self._waiting >= MAX_QUEUED_HASHES:
            raise Unavailable(
                Message("Too many people are logging in right now."),
                retry_after=5,
            )
        self._waiting += 1
        try:
            async with self._slot:
                yield
        finally:
            self._waiting -= 1

    async def hash(self, password: str) -> str:
        """Return the hash of a password."""
        return await self._run(self._hash, normalize_password(password))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether a password has this hash; None takes the same time and has none."""
        for spelling in _spellings(password):
            if await self._run(_check, spelling, password_hash or self._impossible_hash):
                return True
        return False

    async def is_weak(self, password: str, email: str) -> bool:
        """Return whether a password is easily guessed, given the email address of its account."""
        return await self._run(_is_weak, password, email)

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether a hash has another cost than the configured one."""
        return not password_hash.startswith(f"$2b${self.rounds:02d}$")

    def close(self) -> None:
        """End the thread after the hash that it is computing."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(_prepare(password), bcrypt.gensalt(self.rounds)).decode("ascii")

    async def _run(self, work: Callable[..., Result], *arguments: str) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)


def normalize_password(password: str) -> str:
    """Return the form in which a password is hashed: NFC (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFC", password)


def _spellings(password: str) -> list[str]:
    """Return the forms of a password that may have been hashed, each once.

    Hashes of before were made of the password as the device sent it: composed or decomposed.
    """
    forms = (normalize_password(password), unicodedata.normalize("NFD", password), password)
    return list(dict.fromkeys(forms))


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere this sets the priority of the whole process
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), LOW_PRIORITY)


def _prepare(password: str) -> bytes:
    """Return 44 bytes for any password: bcrypt reads at most 72, and stops at a zero byte."""
    digest = hmac.digest(HASH_CONTEXT, password.encode("utf-8"), hashlib.sha256)
    return base64.b64encode(digest)


def _check(password: str, password_hash: str) -> bool:
    return bcrypt.checkpw(_prepare(password), password_hash.encode("ascii"))


def _is_weak(password: str, email: str) -> bool:
    from zxcvbn import zxcvbn  # noqa: PLC0415  # 40 ms and 10 MB, needed for new passwords only

    known = [email, *email.split("@")]
    if password.casefold() in {word.casefold() for word in known}:
        return True
    result = zxcvbn(password[:SCORED_LENGTH], user_inputs=known, max_length=SCORED_LENGTH)
    return int(result["score"]) < MIN_SCORE
