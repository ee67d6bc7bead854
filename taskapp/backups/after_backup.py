"""The operator's command after each backup, such as one that copies it to another machine.

That it is due is recorded in the data folder until it has succeeded. So the server and doctor see
what has failed, was killed, or was left by a command, and the server tries again.
"""

import asyncio
import fcntl
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from taskapp.backups.dump import NICENESS
from taskapp.backups.repository import Backup, BackupError, backup_repository
from taskapp.config.settings import Settings
from taskapp.core.files import draft_of, open_lock, read_file
from taskapp.core.progress import begin_step
from taskapp.core.waiting import wait_until
from taskapp.observability.logs import log
from taskapp.postgres.processes import describe_end, run_program

RECORD = "backup-command"  # in the data folder, while the command is due
_LOCK = "backup-command.lock"  # held while it runs
_LOCK_INTERVAL = 0.1  # seconds
_MAX_RECORD = 64 * 1024  # bytes; a path and a sentence
_MAX_REASON = 300  # characters of what it wrote last to standard error


class BackupCommandError(BackupError):
    """The command after a backup failed; the backup itself is whole."""


class _Due(msgspec.Struct):
    path: Path  # of the backup
    failure: str = ""  # of the last attempt


def note_command_due(settings: Settings, backup: Backup) -> None:
    """Record that the command has to run for a backup, if there is a command.

    Raises BackupCommandError where the data folder takes no record.
    """
    if settings.backup_command:
        try:
            _write(settings, _Due(backup.path))
        except OSError as error:
            raise _impossible(error) from error


def find_command_failure(settings: Settings) -> str:
    """Return a sentence if the last attempt of the command failed; empty if all is well."""
    due = _read(settings) if settings.backup_command else None
    return due.failure if due else ""


async def run_due_command(settings: Settings, *, waits: bool = False) -> bool:
    """Run the command if it is due and no other process does; return whether it ran.

    With `waits`, wait until no other process runs it, and then look whether it is still due.

    Raises:
        BackupCommandError: it failed, or did not end in time.
    """
    if not settings.backup_command or _read(settings) is None:
        return False
    async with _locked(settings, waits=waits) as is_locked:
        due = _read(settings)
        if due is None or not is_locked:
            return False
        try:
            await _run(settings, due.path)
        except BackupCommandError as error:
            if _read_path(settings) == due.path:
                _write(settings, _Due(due.path, str(error)))
            raise
        if _read_path(settings) == due.path:  # no later backup was made meanwhile
            (settings.data_dir / RECORD).unlink(missing_ok=True)
        log("backup.command_ran", path=str(due.path))
        return True


async def _run(settings: Settings, backup: Path) -> None:
    name, *arguments = settings.backup_command
    begin = f"TASKAPP_BACKUP_COMMAND failed after the backup {backup.name}"
    program = shutil.which(name)
    if program is None or not program.startswith("/"):  # it is started in another folder
        raise BackupCommandError(f"{begin}: there is no program {name}.")
    about = {
        "BACKUP_PATH": str(backup),
        "BACKUP_NAME": backup.name,
        "BACKUP_DIR": str(backup.parent),
    }
    begin_step(f"Running {name}")
    try:
        async with asyncio.timeout(settings.backup_command_timeout):
            code, complaint = await run_program(
                (program, *arguments),
                account=None,
                niceness=NICENESS,
                environment={**os.environ, **about},
            )
    except TimeoutError:
        raise BackupCommandError(
            f"{begin}: it did not end within {settings.backup_command_timeout} seconds."
        ) from None
    if code != 0:
        last = complaint.splitlines()[-1].strip()[-_MAX_REASON:] if complaint else ""
        raise BackupCommandError(f"{begin}: {': '.join(filter(None, (describe_end(code), last)))}.")


@asynccontextmanager
async def _locked(settings: Settings, *, waits: bool) -> AsyncIterator[bool]:
    """Yield whether this process may run the command; another one may be doing so."""
    path = settings.data_dir / _LOCK
    try:
        descriptor = open_lock(path)
    except OSError as error:
        raise _impossible(error) from error
    try:
        backup_repository(settings).give_to_owner(path)
        if waits:
            await wait_until(lambda: _take(descriptor), float("inf"), interval=_LOCK_INTERVAL)
        yield _take(descriptor)
    finally:
        os.close(descriptor)


def _impossible(error: OSError) -> BackupCommandError:
    return BackupCommandError(
        f"TASKAPP_BACKUP_COMMAND cannot run: {error.filename}: {error.strerror}."
    )


def _take(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(settings: Settings) -> _Due | None:
    with suppress(OSError, ValueError):
        content = read_file(settings.data_dir / RECORD, _MAX_RECORD)
        return msgspec.json.decode(content, type=_Due, dec_hook=lambda kind, text: kind(text))
    return None


def _read_path(settings: Settings) -> Path | None:
    due = _read(settings)
    return due.path if due else None


def _write(settings: Settings, due: _Due) -> None:
    text = msgspec.json.encode(due, enc_hook=str).decode()
    record = settings.data_dir / RECORD
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    with draft_of(record, text, 0o600) as draft:
        backup_repository(settings).give_to_owner(draft)
        draft.rename(record)
