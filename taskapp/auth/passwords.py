"""Password strength, and hashing that does not delay other requests."""

import asyncio
import base64
import hashlib
import hmac
import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import bcrypt

from taskapp.auth.fair_queue import FairQueue

MIN_PASSWORD_LENGTH = 8  # characters (ASVS 6.2.1)
MAX_PASSWORD_LENGTH = 256  # characters
MIN_SCORE = 2  # on zxcvbn's scale of 0 to 4: more than 10^6 guesses
SCORED_LENGTH = 20  # characters; for the worst ones zxcvbn needs as long as one hash of cost 12
HASH_CONTEXT = b"taskapp.password.1"
# Above that of the other threads; 19 starves logins on a busy core, 0 slows every other request.
NICENESS = 10
# Places in the queue, for each thread. One client alone gets half of those that are not reserved:
# at 0.25 s for a hash its last one waits for 16 s; nginx waits for 30.
PLACES = 128
PLACES_FOR_KNOWN = 64

_WORD = re.compile(r"[^\W_]{3,}")

Result = TypeVar("Result")


class PasswordHasher:
    """Hashes passwords on threads of low priority, as many as there are cores.

    A hash takes a core for 0.25 s, on purpose. On the event loop it would block all other requests.
    `queue` says whose turn it is.
    """

    def __init__(self, rounds: int) -> None:
        """Set the cost of a hash: 2 to the power of `rounds`."""
        self.rounds = rounds
        threads = _count_cores()
        self.queue = FairQueue(
            threads, places=PLACES * threads, places_for_known=PLACES_FOR_KNOWN * threads
        )
        self._threads = ThreadPoolExecutor(threads, "passwords", initializer=_lower_priority)
        # zxcvbn holds the interpreter lock: two of them would slow every other request.
        self._judging = asyncio.Lock()

    async def hash(self, password: str) -> str:
        return await self._run(self._hash, normalize_password(password))

    async def matches(self, password: str, password_hash: str | None) -> bool:
        """Return whether a password has this hash; None has none.

        It takes the same time for None and for every hash whose cost is not above the configured
        one.
        """
        for spelling in _spellings(password):
            if await self._run(self._check, spelling, password_hash):
                return True
        return False

    async def is_weak(self, password: str, email: str) -> bool:
        """Return whether a password is easily guessed, given the email address of its account."""
        async with self._judging:
            return await self._run(_is_weak, password, email)

    def is_outdated(self, password_hash: str) -> bool:
        """Return whether a hash has another cost than the configured one."""
        return _cost(password_hash) != self.rounds

    def close(self) -> None:
        """End the threads after the hashes that they are computing."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _hash(self, password: str) -> str:
        return bcrypt.hashpw(_prepare(password), bcrypt.gensalt(self.rounds)).decode("ascii")

    def _check(self, password: str, password_hash: str | None) -> bool:
        prepared = _prepare(password)
        if not password_hash:
            return bcrypt.checkpw(prepared, _impossible_hash(self.rounds))
        is_right = bcrypt.checkpw(prepared, password_hash.encode("ascii"))
        # An older hash costs less. The costs from its own on add up to the difference.
        for cost in range(_cost(password_hash), self.rounds):
            bcrypt.checkpw(prepared, _impossible_hash(cost))
        return is_right

    async def _run(self, work: Callable[..., Result], *arguments: str | None) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)


def _count_cores() -> int:
    """Return the number of cores that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def normalize_password(password: str) -> str:
    """Return the form in which a password is hashed: NFC (NIST SP 800-63B-4, 3.1.1.2)."""
    return unicodedata.normalize("NFC", password)


def _spellings(password: str) -> list[str]:
    """Return the forms of a password that may have been hashed, each once.

    Older hashes were made of the password as the device sent it: composed or decomposed.
    """
    forms = (normalize_password(password), unicodedata.normalize("NFD", password), password)
    return list(dict.fromkeys(forms))


def _lower_priority() -> None:
    if sys.platform == "linux":  # elsewhere this sets the priority of the whole process
        thread = threading.get_native_id()
        usual = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, usual + NICENESS)  # Linux takes at most 19 of it


def _cost(password_hash: str) -> int:
    return int(password_hash[4:6])


def _impossible_hash(cost: int) -> bytes:
    """Return a hash that no password has; a comparison with it takes as long as with another."""
    return b"$2b$%02d$" % cost + b"." * 53


def _prepare(password: str) -> bytes:
    """Return 44 bytes for any password: bcrypt reads at most 72, and stops at a zero byte."""
    digest = hmac.digest(HASH_CONTEXT, password.encode("utf-8"), hashlib.sha256)
    return base64.b64encode(digest)


def _is_weak(password: str, email: str) -> bool:
    from zxcvbn import zxcvbn  # noqa: PLC0415  # 40 ms and 10 MB, needed for new passwords only

    known = ["taskapp", email, *email.split("@"), *_WORD.findall(email)]
    if password.casefold() in {word.casefold() for word in known}:
        return True
    result = zxcvbn(password[:SCORED_LENGTH], user_inputs=known, max_length=SCORED_LENGTH)
    return int(result["score"]) < MIN_SCORE
