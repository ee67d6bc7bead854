"""The clocks of taskapp and PostgreSQL jump: sessions end when they should."""

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from tests.faults.checker import assert_all_is_well
from tests.faults.ledger import writing
from tests.faults.own_postgres import own_postgres
from tests.support.server_process import Client, ServerProcess, new_data_folder, server_process

LIBRARY = next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
LIMIT = 3  # seconds; the test sets it, and tries again where seven logins took longer
ATTEMPTS = 10


@dataclass
class FakeClock:
    """Changes the clock of processes that run with its environment."""

    file: Path

    def __post_init__(self) -> None:
        self.jump("+0")

    def jump(self, offset: str) -> None:
        """Set the clock to an offset from the real time."""
        self.file.write_text(f"{offset}\n")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "LD_PRELOAD": str(LIBRARY),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@dataclass
class Site:
    server: ServerProcess
    clock: FakeClock
    url: str


@pytest.fixture(scope="module")
def moved_site() -> Iterator[Site]:
    """Share both servers between all tests, because they start slowly under a fake clock."""
    with (
        new_data_folder() as folder,
        fake_clock() as clock,
        own_postgres(environment=clock.environment) as postgres,
    ):
        settings = clock.environment | {
            "TASKAPP_DATABASE_URL": postgres.url,
            "TASKAPP_LOGIN_LIMIT": f"5/{LIMIT}second",
        }
        with server_process(folder, settings=settings) as server:
            yield Site(server.wait_until_ready(), clock, postgres.url)
            assert server.surprises() == []


@pytest.fixture
def site(moved_site: Site) -> Site:
    """Return both servers with the real time."""
    moved_site.clock.jump("+0")
    return moved_site


@contextmanager
def fake_clock() -> Iterator[FakeClock]:
    with tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)  # PostgreSQL runs as another user
        yield FakeClock(Path(folder, "clock"))


def test_a_clock_that_is_set_while_people_work_disturbs_nobody(
    site: Site, chance: random.Random
) -> None:
    with writing(site.server.address, chance) as ledger:
        for offset in ("+1h", "-1h", "+23h", "+0"):
            site.clock.jump(offset)
            ledger.wait_for_writes(30)
    assert_all_is_well(ledger, site.url)


def test_a_session_ends_a_day_after_its_last_use_and_its_tasks_stay(site: Site) -> None:
    with site.server.client() as alice:
        email = f"{uuid4().hex}@example.com"
        alice.sign_up(email)
        assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
        site.clock.jump("+25h")
        assert alice.status("/api/tasks") == 401
        alice.log_in(email)
        assert alice.titles() == ["Buy milk"]
        site.clock.jump("-1h")
        assert alice.titles() == ["Buy milk"]
        assert alice.send("POST", "/api/tasks", {"title": "Buy bread"}).status == 201
        alice.log_in(email)
        assert alice.titles() == ["Buy bread", "Buy milk"]


@pytest.mark.parametrize("offset", ["+25h", "-1h"])
def test_a_limit_lasts_as_long_as_it_says_whatever_the_clock_does(site: Site, offset: str) -> None:
    with site.server.client() as bob:
        email = f"{uuid4().hex}@example.com"
        bob.register(email)
        for _ in range(ATTEMPTS):
            site.clock.jump("+0")
            started = time.monotonic()
            statuses = [log_in_badly(bob, email) for _ in range(6)]
            site.clock.jump(offset)
            statuses.append(log_in_badly(bob, email))
            has_lasted = time.monotonic() - started >= LIMIT
            time.sleep(LIMIT)
            if not has_lasted:  # else a busy machine took so long that the first counts no more
                break
        assert statuses == [401] * 5 + [429] * 2
        assert not has_lasted
        bob.log_in(email)


def log_in_badly(client: Client, email: str) -> int:
    body = {"email": email, "password": "not the password"}
    return client.send("POST", "/api/auth/login", body).status
