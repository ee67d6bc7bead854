"""All checks of doctor: database, clock, folders, disk, maintenance, secret key, rate limits.

They change nothing, but start an embedded PostgreSQL that is not running while they query it.
"""

import asyncio
import os
import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from time import time

from taskapp.auth.rate_limits import RedisWindows
from taskapp.config.installation import COMMAND
from taskapp.config.secret_key import load_secret_keys
from taskapp.config.settings import Settings, SettingsError
from taskapp.core.errors import TablesUnusable, TaskappError
from taskapp.core.threads import run_in_daemon_thread
from taskapp.core.units import format_size
from taskapp.db.database import Database
from taskapp.db.migrations import (
    HEAD,
    MigrationError,
    NewerDatabaseError,
    Revision,
    describe_newer,
    read_obstacle,
    read_revision,
)
from taskapp.doctor.backups import check_backups, check_leftovers
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.doctor.open_files import check_open_files
from taskapp.doctor.port import check_port
from taskapp.doctor.postgresql import check_programs
from taskapp.doctor.settings import (
    check_address,
    check_metrics,
    check_origins,
    check_passwords,
    check_proxies,
    check_registration,
)
from taskapp.jobs.health_check import MIN_FREE_SPACE
from taskapp.maintenance_mode import maintenance_file, read_window
from taskapp.observability.metrics import Metrics
from taskapp.postgres.programs import MIN_MAJOR, EmbeddedPostgresError
from taskapp.postgres.server import DataFolderInUse
from taskapp.queries.postgresql import ServerFacts, ping_server, require_facts
from taskapp.runtime.database_connections import MORE_CONNECTIONS, find_too_few_connections
from taskapp.runtime.database_server import database_server

LOW_SPACE = 1024**3  # bytes
CLOCK_TOLERANCE = 5.0  # seconds
PLAUSIBLE_YEARS = range(2026, 2100)
# Mode bits. Without the group's "search": an access control list shows its mask there.
_BY_OTHERS = 0o067

_FIX_FOLDER = "Run taskapp as its owner, or set TASKAPP_DATA_DIR to another folder."


async def run_checks(settings: Settings) -> list[CheckResult]:
    """Run all checks, the most important first."""
    return [
        *await check_database(settings),
        check_year(datetime.now(UTC)),
        check_data_folder(settings.data_dir),
        *check_leftovers(settings),
        *check_space(settings),
        *await check_backups(settings),
        check_maintenance(settings),
        check_secret_key(settings),
        *await asyncio.to_thread(check_port, settings),
        check_open_files(settings),
        check_address(settings),
        check_proxies(settings),
        check_origins(settings),
        check_metrics(settings),
        check_passwords(settings),
        check_registration(settings),
        await check_limits(settings),
    ]


async def check_database(settings: Settings) -> list[CheckResult]:
    """Check whether the database responds, suits this code and has the same time."""
    try:
        cluster = settings.data_dir / "postgres"
        # A link may lead to a disk that is not mounted.
        is_new = not cluster.exists() and not cluster.is_symlink()
        if settings.uses_embedded_database and is_new:
            fix = f"Start the server, or run `{COMMAND} migrate`: both create it."
            return [CheckResult(Level.INFO, "database", "not created yet", fix)]
        async with database_server(settings, share=True) as url:
            return await _ask_database(settings, url)
    except (DataFolderInUse, EmbeddedPostgresError, OSError) as error:
        return [CheckResult(Level.PROBLEM, "database", str(error))]
    except SettingsError as error:
        return [CheckResult(Level.PROBLEM, "database", error.problems[0], "Correct that setting.")]
    except (TaskappError, MigrationError) as error:
        fix = "Start that server, or correct TASKAPP_DATABASE_URL."
        if settings.uses_embedded_database:
            fix = "Restart taskapp, and check its log."
        return [CheckResult(Level.PROBLEM, "database", str(error), fix)]


async def _ask_database(settings: Settings, url: str) -> list[CheckResult]:
    migration_url = settings.migration_database_url or url
    revision = await run_in_daemon_thread(read_revision, migration_url)
    obstacle = "" if revision else await run_in_daemon_thread(read_obstacle, migration_url)
    database = Database(1, Metrics())
    await database.open(url)
    try:
        before = time()
        facts = await require_facts(database)
        ours = (before + time()) / 2
        confirms_writes = facts.is_read_only or await database.confirms_writes()
        is_usable = revision is not None and revision.oldest_program <= HEAD <= revision.number
        tables = await _check_tables(database) if is_usable else []
    finally:
        await database.close()
    return [
        check_server(facts, settings.database_pool, confirms_writes=confirms_writes),
        check_revision(revision, obstacle),
        *tables,
        check_clock(facts.clock - ours),
        *(check_programs(settings, facts.version) if settings.uses_embedded_database else ()),
    ]


async def _check_tables(database: Database) -> list[CheckResult]:
    """Return a problem if the server would not find, or may not read, the tables."""
    try:
        await ping_server(database)
    except TablesUnusable as error:
        fix = "Set search_path, or grant the tables, to the user of TASKAPP_DATABASE_URL."
        return [CheckResult(Level.PROBLEM, "tables", str(error), fix)]
    return []


def check_server(facts: ServerFacts, pool: int, *, confirms_writes: bool = True) -> CheckResult:
    """Check the server's version, encoding, writes and number of connections.

    `pool` is how many connections the pool may open.
    """
    subject = "database"
    major, minor = divmod(facts.version, 10000)
    name = f"PostgreSQL {major}.{minor}"
    if major < MIN_MAJOR:
        fix = f"Use PostgreSQL {MIN_MAJOR} or later."
        return CheckResult(Level.PROBLEM, subject, f"{name} is too old", fix)
    if facts.encoding != "UTF8":
        fix = "Recreate the database with ENCODING 'UTF8'."
        text = f"{name} uses {facts.encoding}, which cannot store every character"
        return CheckResult(Level.PROBLEM, subject, text, fix)
    if facts.is_read_only:
        fix = (
            "Set TASKAPP_DATABASE_URL to the primary server. If it is that, find out who has set "
            "default_transaction_read_only, such as a provider whose disk is full."
        )
        return CheckResult(Level.PROBLEM, subject, f"{name} is read-only", fix)
    if not confirms_writes:
        fix = "Start its synchronous standbys, or correct synchronous_standby_names."
        text = f"{name} does not confirm writes, which wait for a standby"
        return CheckResult(Level.PROBLEM, subject, text, fix)
    if too_few := find_too_few_connections(facts, pool):
        return CheckResult(Level.WARNING, subject, too_few, MORE_CONNECTIONS)
    return CheckResult(Level.OK, subject, f"{name} is responding")


def check_revision(revision: Revision | None, obstacle: str = "") -> CheckResult:
    """Check whether this code may use the revision of the database; None is an empty database.

    `obstacle` is a sentence about why an empty one cannot take the tables.
    """
    subject = "migrations"
    if obstacle:
        return CheckResult(Level.PROBLEM, subject, obstacle)
    if revision is None:
        fix = f"Start the server, or run `{COMMAND} migrate`: both create the tables."
        return CheckResult(Level.INFO, subject, "the database is empty", fix)
    if revision.oldest_program > HEAD:
        return CheckResult(Level.PROBLEM, subject, str(NewerDatabaseError(revision.number)))
    if revision.number > HEAD:
        fix = "Upgrade this taskapp again when the newer one is in order."
        return CheckResult(Level.WARNING, subject, describe_newer(revision), fix)
    if revision.number < HEAD:
        text = f"the database is at revision {revision.number}, but this taskapp needs {HEAD}"
        return CheckResult(Level.PROBLEM, subject, text, f"Run `{COMMAND} migrate`.")
    return CheckResult(Level.OK, subject, f"at revision {HEAD}, the latest")


def check_clock(difference: float) -> CheckResult:
    """Check the seconds by which the database's clock is ahead of ours."""
    if abs(difference) < CLOCK_TOLERANCE:
        return CheckResult(Level.OK, "clock", "in sync with the database")
    word = "ahead of" if difference > 0 else "behind"
    return CheckResult(
        Level.PROBLEM,
        "clock",
        f"the database clock is {abs(difference):,.0f} s {word} this machine's",
        "Synchronize both clocks with NTP.",
    )


def check_year(now: datetime) -> CheckResult:
    """Check whether the clock shows a plausible year."""
    if now.year in PLAUSIBLE_YEARS:
        return CheckResult(Level.OK, "date", f"{now:%Y-%m-%d %H:%M} UTC")
    text = f"this machine's clock shows the year {now.year}"
    return CheckResult(Level.PROBLEM, "date", text, "Synchronize the clock with NTP.")


def check_data_folder(folder: Path) -> CheckResult:
    """Check whether only this user can write to the data folder."""
    subject = "data folder"
    try:
        if not folder.exists():
            return _check_absent_folder(folder)
        with tempfile.TemporaryFile(dir=folder):
            mode = folder.stat().st_mode
    except OSError as error:
        text = f"{folder} is not writable: {error.strerror or error}"
        return CheckResult(Level.PROBLEM, subject, text, _FIX_FOLDER)
    if mode & _BY_OTHERS:
        text = f"{folder} is open to other users (mode {mode & 0o777:04o})"
        return CheckResult(Level.WARNING, subject, text, f"chmod g-rw,o-rwx {folder}")
    return CheckResult(Level.OK, subject, f"{folder} is writable, and closed to other users")


def _check_absent_folder(folder: Path) -> CheckResult:
    parent = _nearest(folder)
    if parent.is_dir() and os.access(parent, os.W_OK | os.X_OK):
        return CheckResult(Level.INFO, "data folder", f"{folder} is created at the first start")
    text = f"{folder} cannot be created in {parent}"
    return CheckResult(Level.PROBLEM, "data folder", text, _FIX_FOLDER)


def check_space(settings: Settings) -> list[CheckResult]:
    """Check the free space of the disks with the embedded database and the backups."""
    folders = [settings.backup_dir] if settings.backup_dir else []
    if settings.uses_embedded_database:
        folders.append(settings.data_dir)
    disks = {_nearest(folder).stat().st_dev: folder for folder in folders}  # each only once
    return [
        check_free_space(shutil.disk_usage(_nearest(each)).free, each) for each in disks.values()
    ]


def check_free_space(free: int, folder: Path) -> CheckResult:
    """Check the number of free bytes on the disk of a folder."""
    fix = f"Free up space on the disk that holds {folder}."
    if free < MIN_FREE_SPACE:
        text = f"{format_size(free)} free, too little to keep writing"
        return CheckResult(Level.PROBLEM, "disk", text, fix)
    if free < LOW_SPACE:
        return CheckResult(Level.WARNING, "disk", f"only {format_size(free)} free", fix)
    return CheckResult(Level.OK, "disk", f"{format_size(free)} free")


def check_maintenance(settings: Settings) -> CheckResult:
    """Check whether the site is closed for maintenance."""
    if (window := read_window(maintenance_file(settings))) is None:
        return CheckResult(Level.OK, "maintenance", "off")
    text = f"on since {window.since}: users see a maintenance page"
    fix = f"Run `{COMMAND} maintenance off` to end it."
    return CheckResult(Level.WARNING, "maintenance", text, fix)


def check_secret_key(settings: Settings) -> CheckResult:
    """Check whether the signing key is valid, and readable by this user only."""
    subject = "secret key"
    if settings.secret_key:  # the setting rejects weak keys
        number = len(settings.secret_key)
        accepted = f", with {number - 1} older" if number > 1 else ""
        return CheckResult(Level.OK, subject, f"TASKAPP_SECRET_KEY is set{accepted}")
    path = settings.data_dir / "secret-key"
    try:
        if not path.exists():
            return CheckResult(Level.INFO, subject, f"generated at the first start, in {path}")
        mode = path.stat().st_mode & 0o777
        load_secret_keys(settings)
    except OSError as error:
        text = f"{path} cannot be read: {error.strerror}"
        return CheckResult(Level.PROBLEM, subject, text, "Run doctor as the user who runs taskapp.")
    except SettingsError as error:
        fix = (
            f"Remove {path}: the next start generates another, and all users have to log in again."
        )
        return CheckResult(Level.PROBLEM, subject, error.problems[0], fix)
    if mode & 0o077:
        fix = f"chmod 600 {path}; if others may have read it, remove it to log everyone out."
        return CheckResult(
            Level.PROBLEM, subject, f"{path} can be read by other users (mode {mode:04o})", fix
        )
    return CheckResult(Level.OK, subject, f"stored in {path}, closed to other users")


async def check_limits(settings: Settings) -> CheckResult:
    """Check whether hits of the rate limits can be counted, as the server checks it."""
    if not settings.limit_storage:
        if settings.uses_embedded_database:
            return CheckResult(
                Level.OK, "limits", "counted in memory, which is enough for one process"
            )
        text = "counted in memory: each process on this database counts separately"
        fix = (
            "With several processes, set TASKAPP_LIMIT_STORAGE to redis://... to share the counts."
        )
        return CheckResult(Level.INFO, "limits", text, fix)
    windows = RedisWindows(settings.limit_storage)
    try:
        reason = await windows.find_problem()
    finally:
        await windows.close()
    if reason:
        text = f"Redis does not count: {reason}"
        fix = "Correct that, or TASKAPP_LIMIT_STORAGE; until then nobody can log in."
        return CheckResult(Level.PROBLEM, "limits", text, fix)
    return CheckResult(Level.OK, "limits", "counted in Redis, which is responding")


def _nearest(folder: Path) -> Path:
    """Return the folder, or its nearest parent that exists and is accessible."""
    return next(
        path for path in (folder, *folder.parents) if path == path.parent or _is_there(path)
    )


def _is_there(path: Path) -> bool:
    with suppress(OSError):
        return path.exists()
    return False
