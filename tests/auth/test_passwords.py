"""Weak passwords are rejected, every character counts, and hashing delays no other request."""

import asyncio
import base64
import hashlib
import hmac
import os
import statistics
import subprocess
import sys
import time
import unicodedata
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zxcvbn.frequency_lists import FREQUENCY_LISTS

from taskapp.auth.passwords import (
    HASH_CONTEXT,
    MIN_PASSWORD_LENGTH,
    PasswordHasher,
)
from tests.support.server_process import CHECKOUT

CORES = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
EMAIL = "ada.lovelace@example.com"
# The 3,000 that are long enough to be chosen here (ASVS 6.2.4).
COMMONEST = [word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_PASSWORD_LENGTH]
COMMONEST = COMMONEST[:3000]
LONG_NAME = "k3jf9w8e7ry2hf8s7dyfh3kjfh9sd8f7y3hkjdhf93rkjfhsdkfjh30fj30"
# Every character has several l33t substitutions; zxcvbn tries all of their combinations.
SLOWEST = "4@8({[<369|!17+0$5%2" * 12


@asynccontextmanager
async def hasher(rounds: int = 4) -> AsyncIterator[PasswordHasher]:
    passwords = PasswordHasher(rounds)
    try:
        yield passwords
    finally:
        passwords.close()


def is_weak(password: str, email: str = EMAIL) -> bool:
    async def judge() -> bool:
        async with hasher() as passwords:
            return await passwords.is_weak(password, email)

    return asyncio.run(judge())


@pytest.mark.parametrize(
    "password",
    [
        "SecurePass123!",
        "correct horse battery staple",
        "\u05e1\u05d9\u05e1\u05de\u05d4 \u05d8\u05d5\u05d1\u05d4 \u05de\u05d0\u05d5\u05d3",
        "   x   7   q   ",
        "\x01\x02 kM9 \x03",
    ],
)
def test_a_good_password_is_accepted(password: str) -> None:
    assert not is_weak(password)


@pytest.mark.parametrize(
    ("password", "email"),
    [
        ("aaaaaaaaaaaa", EMAIL),
        ("a" * 256, EMAIL),
        ("12345678", EMAIL),
        ("qwertyuiop", EMAIL),
        ("p4ssw0rd", EMAIL),
        ("19911991", EMAIL),
        (EMAIL, EMAIL),
        (EMAIL.upper(), EMAIL),
        ("ada.lovelace", EMAIL),
        ("Ada.Lovelace", EMAIL),
        ("ada.lovelace1", EMAIL),
        ("example.com", EMAIL),
        (f"{LONG_NAME}@example.com", f"{LONG_NAME}@example.com"),
        (LONG_NAME, f"{LONG_NAME}@example.com"),
        (LONG_NAME.title(), f"{LONG_NAME}@example.com"),
        ("taskapp123", EMAIL),
        ("T4skapp2026", EMAIL),
        ("zwicknagl1", "zoe.zwicknagl@example.com"),
        ("Zwicknagl-77", "zoe_zwicknagl+tasks@example.com"),
        ("krautundrueben1", "zoe@mail.krautundrueben.de"),
    ],
)
def test_a_password_that_is_easily_guessed_is_weak(password: str, email: str) -> None:
    assert is_weak(password, email)


def test_each_of_the_commonest_passwords_is_weak_in_whatever_case() -> None:
    async def judge() -> list[str]:
        async with hasher() as passwords:
            variants = [
                (str, str.upper, str.title, str.swapcase)[number % 4](word)
                for number, word in enumerate(COMMONEST)
            ]
            return [word for word in variants if not await passwords.is_weak(word, EMAIL)]

    assert len(COMMONEST) == 3000
    assert asyncio.run(judge()) == []


def test_no_password_takes_much_longer_to_judge_than_to_hash() -> None:
    async def spent() -> tuple[float, float]:
        async with hasher(12) as passwords:
            await passwords.is_weak("SecurePass123!", EMAIL)  # loads the lists of words
            started = time.process_time()
            await passwords.is_weak(SLOWEST, EMAIL)
            judged = time.process_time()
            await passwords.hash(SLOWEST)
            return judged - started, time.process_time() - judged

    judging, hashing = asyncio.run(spent())
    assert judging < 2 * hashing


@settings(max_examples=50)
@given(password=st.text(min_size=MIN_PASSWORD_LENGTH, max_size=40), local=st.text(max_size=10))
def test_any_text_can_be_judged(password: str, local: str) -> None:
    assert is_weak(password, f"{local}@example.com") in {True, False}


def test_a_hash_is_bcrypts_at_the_cost_that_was_asked_for() -> None:
    async def scenario() -> None:
        async with hasher(12) as passwords:
            password_hash = await passwords.hash("SecurePass123!")
            assert password_hash.startswith("$2b$12$")
            assert len(password_hash) == 60
            assert not passwords.is_outdated(password_hash)
        async with hasher(4) as cheaper:
            assert cheaper.is_outdated(password_hash)
            assert await cheaper.matches("SecurePass123!", password_hash)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("password", "other"),
    [
        ("SecurePass123!", "securePass123!"),
        ("SecurePass123!", "SecurePass123! "),
        ("x" * 72 + "a", "x" * 72 + "b"),  # bcrypt itself reads 72 bytes
        ("x" * 72, "x" * 73),
        ("x" * 255 + "a", "x" * 255 + "b"),
        ("\U0001f600" * 255 + "\U0001f600", "\U0001f600" * 255 + "\U0001f601"),
        ("before\0after", "before\0other"),  # and not beyond a zero byte
        ("before\0after", "before"),
        ("\u00e9", "e"),
        ("\ufb01n", "fin"),  # the same in NFKC
        ("\uff11", "1"),
        ("", " "),
    ],
)
def test_every_character_of_a_password_counts(password: str, other: str) -> None:
    async def scenario() -> None:
        async with hasher() as passwords:
            password_hash = await passwords.hash(password)
            assert await passwords.matches(password, password_hash)
            assert not await passwords.matches(other, password_hash)
            assert password_hash != await passwords.hash(password)  # it has a salt
            assert not await passwords.matches(password, None)

    asyncio.run(scenario())


SPELLINGS = [
    ("K\u00e4sebr\u00f6tchen", "Ka\u0308sebro\u0308tchen"),
    ("\u1ebf", "e\u0302\u0301"),
    ("\ud55c\uae00", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
    ("\u304c\u3074", "\u304b\u3099\u3072\u309a"),
    ("\u00c5", "\u212b"),  # the angstrom sign
    ("\u1ed9", "o\u0302\u0323"),
]


@pytest.mark.parametrize(("composed", "other"), SPELLINGS)
def test_a_password_is_the_same_composed_and_decomposed(composed: str, other: str) -> None:
    async def scenario() -> None:
        async with hasher() as passwords:
            for stored in (composed, other):
                password_hash = await passwords.hash(stored)
                for typed in {composed, other, *map(decompose, (composed, other))}:
                    assert await passwords.matches(typed, password_hash)

    asyncio.run(scenario())


@pytest.mark.parametrize(("composed", "other"), SPELLINGS)
def test_a_hash_of_what_a_device_sent_before_keeps_its_password(composed: str, other: str) -> None:
    """Passwords were hashed as they came, in either form; a form of neither matches itself."""

    async def scenario() -> None:
        async with hasher() as passwords:
            for sent in (composed, decompose(composed)):
                for typed in (composed, decompose(composed)):
                    assert await passwords.matches(typed, hash_as_sent(sent))
            assert await passwords.matches(other, hash_as_sent(other))

    asyncio.run(scenario())


def decompose(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def hash_as_sent(password: str) -> str:
    """Return a hash as earlier versions made it."""
    digest = hmac.digest(HASH_CONTEXT, password.encode(), hashlib.sha256)
    return bcrypt.hashpw(base64.b64encode(digest), bcrypt.gensalt(4)).decode()


@pytest.mark.parametrize(
    ("cost", "typed"), [(8, "wrong"), (7, "wrong"), (4, "wr\u00f6ng"), (8, "o\u0302\u0323")]
)
def test_an_unknown_user_costs_the_same_as_a_wrong_password(cost: int, typed: str) -> None:
    """Also where the hash is of an older, cheaper cost."""

    async def scenario() -> tuple[float, float]:
        async with hasher(cost) as older:
            password_hash = await older.hash("SecurePass123!")
        async with hasher(8) as passwords:
            seconds: dict[str | None, list[float]] = {password_hash: [], None: []}
            for _ in range(15):
                for known, spent in seconds.items():
                    started = time.process_time()
                    assert not await passwords.matches(typed, known)
                    spent.append(time.process_time() - started)
        wrong, unknown = (statistics.median(spent) for spent in seconds.values())
        return wrong, unknown

    wrong, unknown = asyncio.run(scenario())
    assert wrong > 0.005
    assert 0.67 < unknown / wrong < 1.5


def test_the_loop_goes_on_while_a_password_is_hashed() -> None:
    async def scenario() -> int:
        async with hasher(13) as passwords:
            work = asyncio.create_task(passwords.hash("SecurePass123!"))
            ticks = 0
            while not work.done():
                await asyncio.sleep(0.005)
                ticks += 1
            return ticks

    assert asyncio.run(scenario()) > 20


HASHED = """
import asyncio, os, threading
from taskapp.auth.passwords import PasswordHasher

async def scenario():
    passwords = PasswordHasher(8)
    await asyncio.gather(*(passwords.hash("SecurePass123!") for _ in range(4 * {cores})))
    of_passwords = {{t.native_id for t in threading.enumerate() if t.name.startswith("passwords")}}
    for thread in map(int, os.listdir("/proc/self/task")):
        print(thread in of_passwords, os.getpriority(os.PRIO_PROCESS, thread))

asyncio.run(scenario())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere threads have no priority")
@pytest.mark.parametrize("niceness", [0, 5, 10, 15, 19])
def test_as_many_threads_as_cores_hash_and_only_they_give_way_whatever_the_priority_is(
    niceness: int,
) -> None:
    usual = min(os.nice(0) + niceness, 19)
    # Root may raise a priority; without this capability it is like others.
    launcher = () if os.geteuid() else ("setpriv", "--bounding-set=-sys_nice")
    done = subprocess.run(
        [*launcher, "nice", "-n", str(niceness), sys.executable, "-c", HASHED.format(cores=CORES)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    hashing = [line.split()[1] for line in lines if line.startswith("True")]
    others = [line.split()[1] for line in lines if line.startswith("False")]
    assert hashing == [str(min(usual + 10, 19))] * CORES
    assert {*others} == {str(usual)}
