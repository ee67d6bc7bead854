"""The public status page: whether taskapp works, since when, and the age of the last backup."""

import re
from pathlib import Path

import pytest

from taskapp.backups.identity import find_database
from taskapp.services import Services
from tests.support.backup_tools import make_backup_folder
from tests.support.page_client import PageClient

pytest_plugins = ["tests.support.page_fixtures"]
pytestmark = pytest.mark.gen_test

NOW = r"Since \d{1,2} \w+ 20\d\d, \d\d:\d\d UTC \(just now\)"


@pytest.fixture
def setting_changes(tmp_path: Path) -> dict[str, str]:
    return {"TASKAPP_DATA_DIR": str(tmp_path)}


async def test_a_stranger_sees_that_it_works_and_since_when(visitor: PageClient) -> None:
    page = await visitor.open("/status")
    assert page.status == 200
    assert "taskapp is up and running" in page.text
    assert re.search(NOW, page.text), page.text


async def test_it_responds_while_the_database_is_away_and_when_it_is_back(
    visitor: PageClient, services: Services
) -> None:
    await services.database.close()
    page = await visitor.open("/status")
    assert page.status == 503
    assert "taskapp is temporarily unavailable" in page.text
    await services.database.open(services.settings.database_url)
    assert (await visitor.open("/status")).status == 200


async def test_it_says_when_changes_are_refused(
    visitor: PageClient, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("taskapp.db.database.Database.accepts_writes", False)
    page = await visitor.open("/status")
    assert page.status == 503
    assert "Tasks are temporarily read-only" in page.text


async def test_the_time_is_that_of_the_last_change_of_state(
    visitor: PageClient, services: Services
) -> None:
    await visitor.open("/status")
    services.availability.since = "2026-02-02T10:00:00.000Z"
    assert "Since 2 February 2026, 10:00 UTC" in (await visitor.open("/status")).text
    await services.database.close()
    assert re.search(NOW, (await visitor.open("/status")).text)


@pytest.mark.parametrize(
    ("days", "words"),
    [
        ([], "None yet"),
        ([0], "Less than a day ago"),
        ([40, 0.9, 3], "Less than a day ago"),
        ([1.1], "Less than a week ago"),
        ([8], "Less than a month ago"),
        ([31], "More than a month ago"),
    ],
)
async def test_the_newest_backup_is_dated_roughly(
    visitor: PageClient, services: Services, tmp_path: Path, days: list[float], words: str
) -> None:
    database = find_database(services.settings) or ""
    for age in days:
        make_backup_folder(tmp_path, database, age=age)
    services.backups.inspect()
    assert f"Last backup {words}" in (await visitor.open("/status")).text


async def test_a_page_that_was_not_available_leads_to_it(
    visitor: PageClient, services: Services
) -> None:
    await visitor.sign_up("carol@example.com")
    await visitor.log_in("carol@example.com")
    await services.database.close()
    page = await visitor.open("/tasks")
    assert page.status == 503
    assert page.link("System status") == "/status"
    await services.database.open(services.settings.database_url)
