"""What docs/how-to/copies-elsewhere.md says copies the backups, and brings them back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.backups.test_backup_commands import run
from tests.support.backup_tools import Instance, instance, original
from tests.support.document_blocks import read_blocks, read_sections
from tests.support.server_process import CHECKOUT, new_data_folder

__all__ = ["instance", "original"]  # fixtures

PAGE = (CHECKOUT / "docs/how-to/copies-elsewhere.md").read_text(encoding="utf-8")
RESTORED = "/var/tmp/taskapp-backups"  # noqa: S108  # the page's; replaced below


def scripts_of(section: str) -> tuple[str, str]:
    """Return the page's script that copies, and the commands that restore."""
    copies, restores = (block.text for block in read_blocks(read_sections(PAGE)[section]))
    return copies, restores


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder, a repository in a folder, and the command `taskapp` of the checkout."""
    password = tmp_path / "password"
    password.write_text("a long password of the operator\n")
    remote = "RCLONE_CONFIG_TASKAPP_CRYPT"
    obscured = subprocess.check_output(["rclone", "obscure", "another long one"], text=True).strip()
    for name, value in {
        "HOME": str(tmp_path),
        "RESTIC_REPOSITORY": str(tmp_path / "restic"),
        "RESTIC_PASSWORD_FILE": str(password),
        f"{remote}_TYPE": "crypt",
        f"{remote}_REMOTE": str(tmp_path / "rclone"),
        f"{remote}_PASSWORD": obscured,
        "REMOTE": "taskapp_crypt:",
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
    }.items():
        monkeypatch.setenv(name, value)
    command = tmp_path / "taskapp"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{CHECKOUT}/server.py" "$@"\n')
    command.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("section", ["restic", "rclone"])
def test_a_copy_is_made_after_each_backup_and_is_restored_elsewhere(
    section: str, instance: Instance, surroundings: Path
) -> None:
    copies, restores = scripts_of(section)
    command = surroundings / "taskapp-copy"
    command.write_text(copies)
    command.chmod(0o755)
    for _ in range(2):  # the second finds a repository
        said = run(instance, "backup", BACKUP_COMMAND=str(command))
        assert said.endswith("TASKAPP_BACKUP_COMMAND has run.\n")
    assert not [*(surroundings / section).rglob("backup.json")]  # encrypted
    here = restores.replace(RESTORED, str(surroundings / "copied"))
    here = here.replace("taskapp-crypt:", "taskapp_crypt:")  # an environment has no hyphens
    with new_data_folder() as data:
        said = subprocess.check_output(
            ["sh", "-euc", here], text=True, env={**os.environ, "TASKAPP_DATA_DIR": str(data)}
        )
    assert "It holds 1 account and 3 tasks; the last change" in said
