"""What doctor says of the backups."""

import tempfile
from pathlib import Path

from taskapp.backups.create import backup_repository
from taskapp.backups.status import BackupStatus
from taskapp.config.installation import COMMAND
from taskapp.config.settings import Settings
from taskapp.doctor.check_results import CheckResult, Level

_FIX_ARCHIVE = (
    "Look at what the log says, at the room on the disk of the backups, and at whom their folder "
    "belongs to. Until it works, the database's log grows."
)
_FIX_FOLDER = "Give it to the user who runs taskapp, or set TASKAPP_BACKUP_DIR to another folder."


def check_backups(settings: Settings) -> CheckResult:
    """Look whether backups are made, how old the newest is, and whether the archive works."""
    subject, status = "backups", BackupStatus(settings)
    folder = backup_repository(settings).path
    if not settings.backup_every:
        fix = f"Run `{COMMAND} backup` by other means, or set TASKAPP_BACKUP_EVERY."
        return CheckResult(Level.WARNING, subject, "none are made by themselves", fix)
    if obstacle := _obstacle(folder):
        text = f"{folder} cannot be written to: {obstacle}"
        return CheckResult(Level.PROBLEM, subject, text, _FIX_FOLDER)
    number, seconds = status.waiting_wal
    if status.is_archive_broken:
        text = f"{number} files wait to be archived, the first for {seconds / 60:.0f} minutes"
        return CheckResult(Level.PROBLEM, subject, text, _FIX_ARCHIVE)
    if status.age is None:
        fix = "The server makes the first by itself, a minute after it holds an account."
        return CheckResult(Level.INFO, subject, f"none in {folder} yet", fix)
    text = f"the newest in {folder} is {status.age / 3600:.1f} hours old"
    if status.state() == "late":
        fix = "Start the server, which makes them, or look at what it logs as backup.failed."
        return CheckResult(Level.PROBLEM, subject, text, fix)
    return CheckResult(Level.OK, subject, text)


def _obstacle(folder: Path) -> str:
    """Say why nothing can be written to a folder; one that is not there yet will be made."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return ""
    except FileNotFoundError:
        return ""
    except OSError as error:
        return error.strerror or str(error)
