"""Long work shows that it lives."""

import os
import pty
import signal
import subprocess
import sys
import tarfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import pytest

from deploy import run_pip
from deploy.binary.pack import archive, files_below
from taskapp.cli import progress
from taskapp.cli.progress import shown_progress
from taskapp.core.progress import advance_step, begin_step, follow_progress
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


def test_packing_the_one_file_is_followed_to_its_end(tmp_path: Path) -> None:
    sizes = {"large": 300_000, "small": 10}
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "link").symlink_to("small")
    files = {path.relative_to(tmp_path): path for path in files_below(tmp_path)}
    shown = follow_progress()
    packed = archive(files, b"the list\n")
    assert shown.step.done == shown.step.total == sum(sizes.values()) + len("small")
    with tarfile.open(fileobj=BytesIO(packed)) as tar:
        assert tar.getnames() == ["large", "link", "small", "files"]
    assert archive(files, b"the list\n") == packed  # whenever it is made


def test_a_slow_installation_says_that_it_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run_pip, "LINE_INTERVAL", 0.05)
    said = ""

    def has_said() -> bool:
        nonlocal said
        said += capsys.readouterr().err
        return "pip is at work: 0 seconds\n" in said

    with subprocess.Popen(["sleep", "600"]) as slow, ThreadPoolExecutor() as threads:
        code = threads.submit(run_pip.wait_for, slow)
        wait_until(has_said)
        slow.terminate()
        assert code.result() == -signal.SIGTERM


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
