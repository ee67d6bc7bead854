"""What doctor says of the backups."""

import tempfile
from pathlib import Path

from taskapp.backups.create import backup_repository
from taskapp.backups.status import BackupStatus
from taskapp.config.installation import COMMAND
from taskapp.config.settings import Settings
from taskapp.doctor.check_results import CheckResult, Level

_FIX_ARCHIVE = (
    "Check the log, the free space on the backup disk and the owner of the backup folder. "
    "Until archiving works, the WAL of the database keeps growing."
)
_FIX_FOLDER = "Make it writable for the user who runs taskapp, or set TASKAPP_BACKUP_DIR."


def check_backups(settings: Settings) -> CheckResult:
    """Look whether backups are made, how old the newest is, and whether the archive works."""
    subject, status = "backups", BackupStatus(settings)
    folder = backup_repository(settings).path
    if not settings.backup_every:
        fix = f"Schedule `{COMMAND} backup` yourself, or set TASKAPP_BACKUP_EVERY."
        return CheckResult(Level.WARNING, subject, "automatic backups are off", fix)
    if obstacle := _obstacle(folder):
        text = f"{folder} is not writable: {obstacle}"
        return CheckResult(Level.PROBLEM, subject, text, _FIX_FOLDER)
    number, seconds = status.waiting_wal
    if status.is_archive_broken:
        text = f"{number} WAL segments not archived, the oldest for {seconds / 60:.0f} minutes"
        return CheckResult(Level.PROBLEM, subject, text, _FIX_ARCHIVE)
    if status.age is None:
        fix = "The server creates the first one a minute after the first account exists."
        return CheckResult(Level.INFO, subject, f"none in {folder} yet", fix)
    text = f"the newest in {folder} is {status.age / 3600:.1f} hours old"
    if status.state() == "late":
        fix = "Start the server, which creates them, or check its log for backup.failed."
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
