"""The reference pages match the code: commands, metrics, log events, the data folder."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.backup_tools import Instance
from tests.support.reference_pages import (
    PARTS,
    described_events,
    find_events,
    quoted_names,
    replace_part,
)
from tests.support.server_process import CHECKOUT, new_data_folder, server_process


@pytest.mark.parametrize(("page", "name", "write"), PARTS, ids=[part[1] for part in PARTS])
def test_what_is_made_of_the_code_is_up_to_date(
    page: Path, name: str, write: Callable[[], str]
) -> None:
    text = page.read_text(encoding="utf-8")
    assert replace_part(text, name, write()) == text


def test_every_line_of_the_log_is_described_with_its_fields() -> None:
    described = described_events()
    logged: set[str] = set()
    for pattern, fields in find_events().items():
        matching = {event for event in described if re.fullmatch(pattern, event)}
        assert matching, pattern
        assert all(described[event] == fields for event in matching), pattern
        logged |= matching
    assert set(described) == logged


def test_everything_in_the_data_folder_is_described() -> None:
    page = (CHECKOUT / "docs" / "data-folder.md").read_text(encoding="utf-8")
    described = {
        quoted_names(row)[0].rstrip("/") for row in re.findall(r"^\| `.*", page, re.MULTILINE)
    }
    with new_data_folder() as folder:
        Instance(folder).fill()
        with server_process(folder) as server:
            server.wait_until_ready()
            # What the server makes after a minute, with TASKAPP_BACKUP_COMMAND, and commands.
            more = {"backups", "backup-folder", "backup-command", "commands.lock"}
            assert {path.name for path in folder.iterdir()} | more == described
