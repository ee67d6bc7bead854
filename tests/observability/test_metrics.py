"""What the metrics tell of accounts, the database, the process and its machine."""

import asyncio
import shutil
import time
from contextlib import closing, suppress
from pathlib import Path

import psycopg2
import pytest

from taskapp.backups.identity import find_database
from taskapp.config.settings import Settings
from taskapp.jobs.health_check import find_database_problem
from taskapp.jobs.housekeeping import HEALTH_CHECKS, run_health_checks
from taskapp.queries.sessions import touch_session
from taskapp.services import Services
from tests.conftest import PASSWORD
from tests.support.api_tools import running
from tests.support.backup_tools import make_backup_folder
from tests.support.clients import ApiClient
from tests.support.database_fixtures import (
    NO_HASH,
    add_session,
    add_user,
    execute,
    is_waited_for,
)
from tests.support.metrics_reader import Metrics, read_metrics
from tests.support.server_process import LONG_ENOUGH, wait_until

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

PLAIN: frozenset[tuple[str, str]] = frozenset()


async def looked_at(client: ApiClient) -> Metrics:
    metrics = Metrics(client)
    await metrics.look()
    return metrics


@pytest.mark.parametrize(
    ("days_ago", "counted"),
    [
        (0, {"1": 1, "7": 1, "30": 1}),
        (1, {"1": 0, "7": 1, "30": 1}),
        (6, {"1": 0, "7": 1, "30": 1}),
        (7, {"1": 0, "7": 0, "30": 1}),
        (29, {"1": 0, "7": 0, "30": 1}),
        (30, {"1": 0, "7": 0, "30": 0}),
        (None, {"1": 0, "7": 0, "30": 0}),
    ],
)
async def test_an_account_is_active_for_as_many_days_as_are_counted(
    api: ApiClient, empty_database: str, days_ago: int | None, counted: dict[str, int]
) -> None:
    add_user(empty_database, "carol")
    execute(empty_database, "UPDATE users SET last_active_on = current_date - %s::int", days_ago)
    metrics = await looked_at(api)
    assert {days: metrics.value("active_users", days=days) for days in counted} == counted
    assert metrics.value("users") == 1


async def test_whoever_uses_a_session_is_active_today_and_who_only_registered_is_not(
    api: ApiClient, settings: Settings
) -> None:
    async with running(settings) as server:
        alice = await server.client.sign_up("alice@example.com", PASSWORD)
        await server.client.sign_up("bob@example.com", PASSWORD)
        await alice.get("/api/tasks")
        assert await server.application.drain(LONG_ENOUGH)  # it is noted in the background
    assert (await looked_at(api)).value("active_users", days="1") == 1


async def test_noting_a_use_holds_no_session_that_a_change_of_the_password_wants(
    services: Services, empty_database: str
) -> None:
    user = add_user(empty_database, "carol")
    session = add_session(empty_database, user)
    execute(empty_database, "UPDATE sessions SET last_used_at = now() - interval '1 hour'")
    with closing(psycopg2.connect(empty_database)) as connection, connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LONG_ENOUGH:.0f}s'")
        cursor.execute("UPDATE users SET password_hash = %s", [NO_HASH])
        touch = asyncio.create_task(
            touch_session(services.database, session.secret_hash, 60, "192.0.2.1")
        )
        await asyncio.to_thread(wait_until, lambda: is_waited_for(empty_database))
        cursor.execute("DELETE FROM sessions WHERE user_id = %s", [user])
        connection.commit()
    await touch


async def test_the_statistics_are_those_of_postgresql(api: ApiClient, services: Services) -> None:
    url = services.settings.database_url
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    [[before]] = execute(url, deadlocks)  # of other tests, in the same database
    metrics = await looked_at(api)
    [[after]] = execute(url, deadlocks)
    [[limit, size]] = execute(
        url,
        "SELECT current_setting('max_connections')::int, pg_database_size(current_database())",
    )
    assert metrics.value("database_connection_limit") == limit
    assert metrics.value("database_size_bytes") == pytest.approx(size, rel=0.2)
    assert 1 <= metrics.value("database_connections") <= limit
    assert metrics.value("database_blocks_total", source="disk") > 0
    assert before <= metrics.value("database_deadlocks_total") <= after


@pytest.mark.parametrize(
    ("name", "labels", "statement"),
    [
        ("database_blocks_total", {"source": "cache"}, "SELECT count(*) FROM pg_class"),
        ("database_transactions_total", {"end": "commit"}, "SELECT count(*) FROM pg_class"),
        ("database_transactions_total", {"end": "rollback"}, "SELECT 1 / 0"),
    ],
)
async def test_the_statistics_count_on(
    api: ApiClient, empty_database: str, name: str, labels: dict[str, str], statement: str
) -> None:
    metrics = await looked_at(api)
    before = metrics.value(name, **labels)
    with suppress(psycopg2.errors.DivisionByZero):
        execute(empty_database, statement)  # its connection ends, and so it is counted
    while metrics.value(name, **labels) == before:
        await asyncio.sleep(0.05)
        await metrics.look()
    assert metrics.value(name, **labels) > before


async def test_without_its_database_the_statistics_are_left_out_not_repeated(
    api: ApiClient, services: Services
) -> None:
    name = "taskapp_database_size_bytes", PLAIN
    assert name in await read_metrics(api)
    await services.database.close()
    assert name not in await read_metrics(api)
    await services.database.open(services.settings.database_url)
    assert name in await read_metrics(api)


async def test_the_process_and_its_disk_are_measured(api: ApiClient, settings: Settings) -> None:
    samples = await read_metrics(api)
    usage = shutil.disk_usage(settings.data_dir)
    assert samples["taskapp_disk_size_bytes", PLAIN] == usage.total
    assert samples["taskapp_disk_free_bytes", PLAIN] == pytest.approx(usage.free, rel=0.1)
    assert samples["process_cpu_seconds_total", PLAIN] > 0
    assert samples["process_resident_memory_bytes", PLAIN] > 1024 * 1024
    assert 0 < samples["process_open_fds", PLAIN] < samples["process_max_fds", PLAIN]


async def test_the_newest_backup_is_dated(settings: Settings, tmp_path: Path) -> None:
    async with running(settings, TASKAPP_DATA_DIR=str(tmp_path)) as server:
        assert (await looked_at(server.client)).value("backup_last_success_timestamp_seconds") == 0
        make_backup_folder(tmp_path, find_database(settings) or "", age=0)
        server.services.backups.inspect()
        made_at = (await looked_at(server.client)).value("backup_last_success_timestamp_seconds")
        assert made_at == pytest.approx(time.time(), abs=30)


async def test_a_data_folder_that_is_not_there_yet_disturbs_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    async with running(settings, TASKAPP_DATA_DIR=str(tmp_path / "none")) as server:
        assert (await looked_at(server.client)).value("disk_size_bytes") == 0


async def test_a_loop_that_was_held_up_is_late_by_as_much(
    api: ApiClient, services: Services
) -> None:
    metrics = await looked_at(api)
    async with run_health_checks(services):
        await asyncio.sleep(0)  # the sample of a second has begun
        time.sleep(1.3)  # noqa: ASYNC251  # this is what must not happen, and has to be seen
        while not metrics.grown("event_loop_delay_seconds_count"):
            await asyncio.sleep(0.01)
            await metrics.look()
    assert metrics.grown("event_loop_delay_seconds_sum") >= 0.3


async def test_a_database_that_went_away_is_noticed_without_being_asked(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(HEALTH_CHECKS, find_database_problem, 0.02)
    async with run_health_checks(services):
        await asyncio.to_thread(wait_until, lambda: services.availability.problem is None)
        await services.database.close()
        await asyncio.to_thread(wait_until, lambda: services.availability.problem is not None)
        await services.database.open(services.settings.database_url)
        await asyncio.to_thread(wait_until, lambda: services.availability.problem is None)
