"""This version opens the data folder of each earlier one, which refuses it afterwards.

The way back is the backup before the upgrade. Needs the git history, for the earlier versions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from taskapp.db.migrations import HEAD
from tests.deploy.versions import checked_out, earlier_versions, git, run_command
from tests.support.server_process import (
    LONG_ENOUGH,
    PROGRAM,
    new_data_folder,
    server_process,
)

ALICE = "alice@example.com"
# The last commit whose backups have the old member names in their descriptions (ADR 0031).
OLD_DESCRIPTIONS = "a3e469cf4f0fa8a07a063ae34ac81c3a927fdd03"


def can_restore(version: str) -> bool:
    return git("cat-file", "-e", f"{version}:taskapp/backups/restoring.py").returncode == 0


@dataclass
class Upgraded:
    """A data folder created by an earlier version and opened by this one, and both outputs."""

    program: Path  # of the earlier version
    folder: Path
    titles: list[str]
    titles_now: list[str]


@pytest.fixture(scope="module")
def upgraded(request: pytest.FixtureRequest) -> Iterator[Upgraded]:
    with checked_out(request.param) as program, new_data_folder() as folder:
        with server_process(folder, program=program) as server:
            alice = server.wait_until_ready().client().sign_up(ALICE)
            for title in ("Buy milk", "Call Bob"):
                response = alice.send("POST", "/api/tasks", {"title": title})
                assert response.status == 201
            path = f"/api/tasks/{response.json['id']}"
            assert alice.send("PUT", path, {"status": "completed"}).status == 200
            before = alice.titles()
            assert server.end() == 0
        with server_process(folder) as server:
            # The same token: sessions stay valid.
            alice.moved_to(server.wait_until_ready().address)
            now = alice.titles()
            alice.log_in(ALICE)
            assert alice.send("POST", "/api/tasks", {"title": "After the upgrade"}).status == 201
            alice.close()
            assert server.end() == 0
        yield Upgraded(program, folder, before, now)


every_earlier_version = pytest.mark.parametrize("upgraded", earlier_versions(), indirect=True)


@every_earlier_version
def test_its_data_folder_opens_in_this_version_with_all_there(upgraded: Upgraded) -> None:
    assert upgraded.titles_now == upgraded.titles == ["Call Bob", "Buy milk"]


@every_earlier_version
def test_it_refuses_what_this_version_migrated_and_says_what_to_do(upgraded: Upgraded) -> None:
    with server_process(upgraded.folder, program=upgraded.program) as server:
        assert server.process.wait(LONG_ENOUGH) == 1
        assert f"The database is at revision {HEAD}" in server.log_text
        assert "Start the newer taskapp again, or restore the backup" in server.log_text


@pytest.mark.parametrize(
    "upgraded", [v for v in earlier_versions() if can_restore(v)], indirect=True
)
def test_it_restores_the_backup_made_before_the_migration_and_goes_on(upgraded: Upgraded) -> None:
    (backup,) = upgraded.folder.glob(f"backups/*-before-migration-{HEAD}")
    said = run_command(upgraded.program, upgraded.folder, "restore", "--backup", backup.name)
    assert "It holds 1 account and 2 tasks" in said
    with server_process(upgraded.folder, program=upgraded.program) as server:
        alice = server.wait_until_ready().client()
        alice.log_in(ALICE)
        assert alice.titles() == upgraded.titles
        assert server.end() == 0


def test_a_backup_with_the_old_member_names_is_verified_and_restored() -> None:
    with checked_out(OLD_DESCRIPTIONS) as program, new_data_folder() as folder:
        with server_process(folder, program=program) as server:
            alice = server.wait_until_ready().client().sign_up(ALICE)
            assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
            run_command(program, folder, "backup")
            assert server.end() == 0
        assert "is good: it starts" in run_command(PROGRAM, folder, "backup", "verify")
        assert "It holds 1 account and 1 task" in run_command(PROGRAM, folder, "restore")
        with server_process(folder) as server:
            alice = server.wait_until_ready().client()
            alice.log_in(ALICE)
            assert alice.titles() == ["Buy milk"]
            assert server.end() == 0


def test_a_history_that_is_cut_off_is_named_in_words() -> None:
    words = r"has no v0\.0\.0-none: .* Get all of it: git fetch --unshallow --tags"
    with pytest.raises(pytest.fail.Exception, match=words), checked_out("v0.0.0-none"):
        pass
