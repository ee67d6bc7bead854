"""Long work shows that it lives."""

import os
import pty
import subprocess
import sys

import pytest

from taskapp.cli import progress
from taskapp.cli.progress import shown_progress
from taskapp.core.progress import advance_step, begin_step
from taskapp.core.units import format_size
from tests.support.backup_tools import Instance, instance, original
from tests.support.environment import inherited_environment
from tests.support.server_process import PROGRAM, SETTINGS, wait_until

__all__ = ["instance", "original"]  # fixtures


def test_elsewhere_than_on_a_terminal_it_is_a_line_at_each_interval(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0.05)
    shown = ""

    def has_shown(text: str) -> bool:
        nonlocal shown
        shown += capfd.readouterr().err
        return text in shown

    with shown_progress():
        wait_until(lambda: has_shown("Beginning: 0 seconds\n"))
        begin_step("Reading the backup", total=4 * 1024**2)
        advance_step(1024**2)
        wait_until(lambda: has_shown("Reading the backup: 25 %, 0 seconds\n"))
        begin_step("Deleting tasks", unit="tasks")
        advance_step(12_000)
        wait_until(lambda: has_shown("Deleting tasks: 12,000 tasks, "))
        begin_step("Copying the database", measure=lambda: 40 * 1024**2)
        wait_until(lambda: has_shown("Copying the database: 40 MiB, "))


def test_work_that_ends_before_the_interval_says_nothing(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with shown_progress():
        begin_step("Reading the backup", total=100)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["backup"], ["Copying the database", "Waiting for the archive"]),
        (["backup", "verify"], ["Starting it, and reading the archive"]),
    ],
)
def test_on_a_terminal_it_is_a_bar_for_each_step(
    instance: Instance, arguments: list[str], steps: list[str]
) -> None:
    ours, theirs = pty.openpty()
    command = subprocess.Popen(
        [sys.executable, str(PROGRAM), *arguments],
        stderr=theirs,
        stdout=subprocess.DEVNULL,
        env=inherited_environment(measured=True)
        | SETTINGS
        | {"TASKAPP_DATA_DIR": str(instance.data_dir), "TERM": "xterm"},
    )
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert command.wait() == 0, shown
    assert any(step in shown.decode() for step in steps), shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # Linux's end of a terminal
        return b""


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 KiB"),
        (1, "1 KiB"),
        (9_000, "9 KiB"),
        (1024**2 - 1, "1,024 KiB"),
        (1024**2, "1.0 MiB"),
        (500 * 1024**2, "500 MiB"),
        (3 * 1024**3 // 2, "1.5 GiB"),
    ],
)
def test_a_size_that_is_not_nothing_is_never_shown_as_nothing(size: int, text: str) -> None:
    assert format_size(size) == text
