"""The check of the backups."""

import asyncio
from contextlib import suppress

from taskapp.backups.after_backup import find_command_failure
from taskapp.backups.create import find_leftovers
from taskapp.backups.repository import backup_repository
from taskapp.backups.status import BackupStatus
from taskapp.config.installation import COMMAND
from taskapp.config.settings import Settings, SettingsError
from taskapp.core.errors import TaskappError
from taskapp.db.migrations import MigrationError
from taskapp.doctor.check_results import CheckResult, Level

_FIX_FAILURE = (
    "Mount the disk, free up space on it, and make the folder writable for the user who runs "
    "taskapp; or set TASKAPP_BACKUP_DIR. Until archiving works, the WAL of the database keeps "
    "growing."
)

_FIX_COMMAND = (
    "Run what TASKAPP_BACKUP_COMMAND says by hand, as the same user. The server runs it again "
    "every 15 minutes, and so does the next backup."
)
_FIX_COMMAND_BY_HAND = (
    "Run what TASKAPP_BACKUP_COMMAND says by hand, as the same user. The next backup runs it again."
)


async def check_backups(settings: Settings) -> list[CheckResult]:
    """Check whether backups are made, how old the newest is, and whether the archive works."""
    subject, status = "backups", BackupStatus(settings)
    folder = backup_repository(settings).path
    if not settings.backup_every:
        fix = f"Schedule `{COMMAND} backup` yourself, or set TASKAPP_BACKUP_EVERY."
        off = CheckResult(Level.WARNING, subject, "automatic backups are off", fix)
        if failure := find_command_failure(settings):
            return [CheckResult(Level.PROBLEM, subject, failure, _FIX_COMMAND_BY_HAND), off]
        return [off]
    try:
        report = await asyncio.to_thread(status.inspect)
    except (MigrationError, SettingsError, TaskappError) as error:
        text = f"cannot tell which backups in {folder} are of this database: {error}"
        return [CheckResult(Level.PROBLEM, subject, text, "Correct the database first.")]
    problems = [
        *(CheckResult(Level.PROBLEM, subject, text, _FIX_FAILURE) for text in report.failures),
        *(CheckResult(Level.PROBLEM, subject, text) for text in report.warnings),
    ]
    if report.command_failure:
        problems.append(CheckResult(Level.PROBLEM, subject, report.command_failure, _FIX_COMMAND))
    if status.age is None:
        fix = "The server creates the first one a minute after the first account exists."
        none = CheckResult(Level.INFO, subject, f"none of this database in {folder} yet", fix)
        return problems or [none]
    text = f"the newest in {folder} is {status.age / 3600:.1f} hours old"
    if status.is_late:
        fix = "Start the server, which creates them, or check its log for backup.failed."
        return [*problems, CheckResult(Level.PROBLEM, subject, text, fix)]
    return problems or [CheckResult(Level.OK, subject, text)]


def check_leftovers(settings: Settings) -> list[CheckResult]:
    """Check whether a killed `backup verify` or `restore` has left a copy of the database."""
    leftovers = find_leftovers(settings)
    with suppress(OSError):  # without a folder of backups none is at work
        if not leftovers or backup_repository(settings).is_in_use():
            return []
    text = f"{' and '.join(map(str, leftovers))}: left by a verify or restore that was killed"
    fix = "The next start of the server, or the next backup, removes it."
    return [CheckResult(Level.WARNING, "data folder", text, fix)]
