"""Replaces the database by a backup; the old database is kept aside."""

import asyncio
import contextlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from taskapp.backups.catalog import Catalog
from taskapp.backups.checksums import PURPOSE, quoted_tables, read_schema, read_tables
from taskapp.backups.create import read_repository
from taskapp.backups.dump import make_dump, restore_dump
from taskapp.backups.identity import (
    INSTANCE,
    begin_instance,
    find_database,
    find_known_database,
    read_identity,
    read_system,
    read_timeline,
)
from taskapp.backups.recovery import (
    RestorePlan,
    new_history,
    plan_backup,
    plan_point_in_time,
    recovered,
)
from taskapp.backups.repository import (
    Backup,
    BackupError,
    BackupRepository,
    backup_repository,
)
from taskapp.backups.wal_archive import (
    READY,
    WANTED,
    WalSource,
    find_conflict,
    tell_unwritten,
)
from taskapp.config.installation import COMMAND
from taskapp.config.settings import Settings
from taskapp.core.progress import begin_step
from taskapp.db.migrations import (
    LOCK,
    NewerDatabaseError,
    Revision,
    connected,
    find_revision,
    lift_time_limits,
    require_usable,
)
from taskapp.postgres.cluster import replace_cluster
from taskapp.postgres.permissions import UnixUser, chown_tree
from taskapp.postgres.server import EmbeddedPostgres

_COUNTED = ("users", "tasks")
_DEPENDENT_OBJECTS = "2BP01"  # SQLSTATE
LOCK_TIMEOUT = "10s"  # how long the removal of the tables waits for running transactions
# Every role may read these columns, of every session (PostgreSQL, 27.2.3).
_SERVERS = text(
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    " AND application_name = 'taskapp' ORDER BY pid"
)


@dataclass(frozen=True)
class RestoreResult:
    """What a restore did: to which state, what is in it, and where the old database is."""

    timestamp: datetime | None  # None: everything there is
    last_change: datetime | None  # of a task or an account
    users: int
    tasks: int
    sessions: int  # that were ended
    aside: Path | None  # the old cluster, or a dump of the old database
    problems: tuple[str, ...] = ()  # of entries of the folder that were passed over


async def restore_embedded(
    settings: Settings, timestamp: datetime | None = None, name: str = "", database: str = ""
) -> RestoreResult:
    """Restore the embedded database to a time, to a backup by name, or to the last change.

    `database` names one of the folder's databases: another than this one, or this one although its
    archive leads to another state. Until the end nothing is touched; then the old cluster is
    renamed.

    Raises:
        BackupError: it cannot be restored; all is as before.
        DataFolderInUse: the server runs.
        EmbeddedPostgresError: the data folder cannot be used.
    """
    repository = backup_repository(settings)
    cluster, aside = settings.data_dir / "postgres", settings.data_dir / "restore"
    async with EmbeddedPostgres(settings.data_dir).locked(), repository.lock():
        present = find_known_database(settings)
        catalog = await asyncio.to_thread(read_repository, repository, present)
        if name:
            plan = plan_backup(repository, catalog.require(name), settings.postgresql_bin)
        else:
            plan = _plan_for_database(settings, repository, catalog, timestamp, database)
        _refuse_newer(plan.backup.schema_revision)
        owner = find_owner(settings.data_dir)
        try:
            async with recovered(plan, aside, owner, settings.postgresql_bin) as postgres:
                facts = await asyncio.to_thread(_settle, postgres.url, plan.backup)
            goes_on = plan.backup.database == present or _lies_in(
                repository.path, settings.data_dir
            )
            _continue_archive(plan, aside / "postgres", goes_on=goes_on)
            if owner:
                chown_tree(owner, aside / "postgres")
            before = f"postgres.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}"
            old = cluster.with_name(before) if cluster.exists() else None
            replace_cluster(aside / "postgres", cluster, cluster.with_name(before))
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        is_whole_backup = name or plan.kind == "dump"
        return RestoreResult(
            plan.backup.timestamp if is_whole_backup else timestamp,
            *facts,
            old,
            tuple(catalog.problems()),
        )


async def restore_own(
    settings: Settings, name: str = "", database: str = "", *, replace: bool = False
) -> RestoreResult:
    """Restore a dump, the newest or one by name, into the database that the settings name.

    It is done as the user who may change tables. A database that holds tables is refused, or with
    `replace` dumped and then emptied; so is one that a server uses.

    Raises:
        BackupError: it cannot be restored; the database is as before, or empty.
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
    """
    repository = backup_repository(settings)
    url = settings.migration_database_url or settings.database_url
    async with repository.lock():
        present = await asyncio.to_thread(find_database, settings) or ""
        with contextlib.ExitStack() as stack:
            is_empty = await asyncio.to_thread(stack.enter_context, _reserved(url))
            if not is_empty and not replace:
                raise BackupError(
                    "The database holds tables already. Name an empty one in "
                    "TASKAPP_DATABASE_URL, or say --replace: it is then dumped and emptied first."
                )
            catalog = await asyncio.to_thread(read_repository, repository, present)
            backup = _choose_dump(catalog, name, database, is_empty=is_empty)
            _refuse_newer(backup.schema_revision)
            if damaged := await asyncio.to_thread(backup.damage, "dump"):
                raise BackupError(f"The backup {backup.path} is damaged: {', '.join(damaged)}.")
            old = None if is_empty else await _empty(repository, settings, url, present)
            try:
                await restore_dump(backup, url, settings.postgresql_bin)
            except BackupError as error:
                kept = f" What was there is in {old}." if old else ""
                state = (
                    "left as it was" if await asyncio.to_thread(_holds_tables, url) else "empty now"
                )
                raise BackupError(f"The database is {state}: {error}.{kept}") from error
            facts = await asyncio.to_thread(_settle, url, backup)
        return RestoreResult(backup.timestamp, *facts, old, tuple(catalog.problems()))


def _plan_for_database(
    settings: Settings,
    repository: BackupRepository,
    catalog: Catalog,
    timestamp: datetime | None,
    database: str,
) -> RestorePlan:
    """Return the plan that restores this database, or the named one, to a time or its last change.

    Raises BackupError if it is impossible, or if this database is not named and its archive leads
    to another state.
    """
    cluster = settings.data_dir / "postgres"
    chosen = _choose(catalog, database, is_empty=catalog.database is None)
    unarchived = settings.data_dir / "restore" / "none"  # no such folder
    if chosen.database == catalog.database:
        divergence = _find_divergence(repository.archive(read_identity(cluster)), cluster)
        if divergence and not database:
            raise BackupError(
                f"{divergence}. Say --database {chosen.database} to restore what the archive "
                f"holds, without what only this database has; or restore one backup with --backup."
            )
        unarchived = unarchived if divergence else cluster / "pg_wal"
    return plan_point_in_time(repository, chosen, unarchived, timestamp)


def _find_divergence(archive: Path, cluster: Path) -> str:
    """Return a sentence if an archive leads to another state than that of a stopped cluster.

    Raises BackupError if a timeline cannot be read.
    """
    wal = WalSource(archive, cluster / "pg_wal", read_system(cluster))
    unwritten = wal.find_unwritten(wal.timeline(read_timeline(cluster)))
    return tell_unwritten(archive, unwritten) if unwritten else find_conflict(archive, cluster)


def _choose(catalog: Catalog, database: str, *, is_empty: bool) -> Catalog:
    return catalog.of(database) if database else catalog.for_restore(is_empty=is_empty)


def _choose_dump(catalog: Catalog, name: str, database: str, *, is_empty: bool) -> Backup:
    if name:
        backup = catalog.require(name)
        if not backup.has_dump:
            raise BackupError(f"{backup.name} has no dump: only the embedded PostgreSQL takes it.")
        return backup
    dumps = _choose(catalog.only("dump"), database, is_empty=is_empty).routine
    if not dumps:
        raise BackupError(
            f"No dump in {catalog.path} can be taken for the newest. Name one with --backup; "
            f"`{COMMAND} backup list` lists them."
        )
    return dumps[0]


def _lies_in(folder: Path, data_dir: Path) -> bool:
    """Return whether a folder of backups is part of a data folder, so that no other shares it."""
    return folder.resolve().is_relative_to(data_dir.resolve())


@contextmanager
def _reserved(url: str) -> Iterator[bool]:
    """Keep servers from starting on a database, and yield whether it is empty.

    A start with an empty database waits for the lock of the migrations, and then finds what was
    restored. Raises BackupError if a server on any machine is connected.
    """
    with connected(url, PURPOSE) as connection:
        lift_time_limits(connection)
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        _refuse_running(connection)
        yield not quoted_tables(connection)


def _refuse_running(connection: Connection) -> None:
    if pids := [str(pid) for (pid,) in connection.execute(_SERVERS).all()]:
        raise BackupError(
            f"A taskapp server uses this database (connections {', '.join(pids)} of PostgreSQL). "
            f"Stop every one first, also on other machines. If none runs, a pooler keeps these "
            f"connections: end them with pg_terminate_backend."
        )


def _refuse_newer(revision: Revision) -> None:
    try:
        require_usable(revision)
    except NewerDatabaseError as error:
        raise BackupError(str(error)) from error


def find_owner(data_dir: Path) -> UnixUser | None:
    """Return who has to own the cluster that is put in place; None where that needs no change."""
    for folder in (data_dir / "postgres", data_dir):
        if os.geteuid() == 0 and folder.exists() and (owner := folder.stat()).st_uid != 0:
            return UnixUser(owner.st_uid, owner.st_gid)
    return None


def _settle(url: str, backup: Backup) -> tuple[datetime | None, int, int, int]:
    """Delete all sessions, some of which may have been ended since, and read the contents.

    Return the last change, and the numbers of users, tasks and ended sessions. Raise BackupError if
    this code may not use what was restored: after the backup, the database may have been migrated.
    """
    begin_step("Reading every row")
    with connected(url, PURPOSE) as connection:
        revision = find_revision(connection)
        if revision is None:
            raise BackupError(
                f"After restoring {backup.path}, no tables of taskapp can be seen: its schema is "
                f'"{backup.schema}", which search_path does not lead to.'
            )
        _refuse_newer(revision)
        tables = read_tables(connection)
        sessions = tables.get("sessions", (0, ""))[0]
        if sessions:
            connection.execute(text("DELETE FROM sessions"))
            connection.commit()
        changes = [
            connection.execute(text(f"SELECT max(updated_at) FROM {name}")).scalar()  # noqa: S608  # nosec B608  # names of ours
            for name in _COUNTED
            if name in tables
        ]
        users, tasks = (tables.get(name, (0, ""))[0] for name in _COUNTED)
        return max(filter(None, changes), default=None), users, tasks, sessions


def _continue_archive(plan: RestorePlan, cluster: Path, *, goes_on: bool) -> None:
    """Make the restored cluster continue the archive of its backup, or begin one of its own.

    To continue, the next start archives the history of the new timeline. A backup of another
    database, or one restored in another place, begins its own, because its origin may still run.
    """
    if plan.kind == "dump":
        return
    if not goes_on:
        begin_instance(cluster)
        (cluster / WANTED).unlink(missing_ok=True)
        _give(cluster, cluster / INSTANCE)
        return
    for path in (
        cluster / "pg_wal/archive_status" / f"{new_history(cluster)}{READY}",
        cluster / WANTED,
    ):
        path.touch(mode=0o600)
        _give(cluster, path)


def _give(cluster: Path, path: Path) -> None:
    """Change the owner of a file in a cluster to that of the cluster."""
    if os.geteuid() == 0:
        status = cluster.stat()
        os.chown(path, status.st_uid, status.st_gid)


def _holds_tables(url: str) -> bool:
    with connected(url, PURPOSE) as connection:
        return bool(read_tables(connection))


# Those beside the tables, in whichever schema of search_path. A trigger function has no arguments.
_TRIGGER_FUNCTIONS = text(
    "SELECT DISTINCT format('%I.%I()', n.nspname, p.proname) FROM pg_trigger t"
    " JOIN pg_class c ON c.oid = t.tgrelid"
    " JOIN pg_proc p ON p.oid = t.tgfoid AND p.pronamespace = c.relnamespace"
    " JOIN pg_namespace n ON n.oid = p.pronamespace"
    " WHERE NOT t.tgisinternal AND n.nspname = :schema"
    " AND t.tgrelid = ANY(CAST(:tables AS regclass[]))"
)


async def _empty(repository: BackupRepository, settings: Settings, url: str, database: str) -> Path:
    """Dump a database, drop its tables, and return the dump.

    The tables are locked from before the dump until they are dropped, so no write is lost.
    """
    with contextlib.ExitStack() as stack:
        connection = await asyncio.to_thread(stack.enter_context, connected(url, PURPOSE))
        names = await asyncio.to_thread(_lock_tables, connection)
        dump = await make_dump(
            repository, url, database, "before-restore", bin_folder=settings.postgresql_bin
        )
        await asyncio.to_thread(_drop_tables, connection, names)
    return dump.path


def _lock_tables(connection: Connection) -> list[str]:
    lift_time_limits(connection)
    connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))
    names = quoted_tables(connection)
    connection.execute(text(f"LOCK TABLE {', '.join(names)} IN SHARE MODE"))
    _refuse_running(connection)
    return names


def _drop_tables(connection: Connection, names: list[str]) -> None:
    ours = {"schema": read_schema(connection), "tables": names}
    functions = connection.execute(_TRIGGER_FUNCTIONS, ours).scalars().all()
    try:
        connection.execute(text(f"DROP TABLE {', '.join(names)}"))
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", "") != _DEPENDENT_OBJECTS:
            raise
        detail = "; ".join(cast("Any", error.orig).diag.message_detail.splitlines())
        raise BackupError(
            f"What other programs have in the database depends on taskapp's tables: {detail}. Drop "
            f"it first, and create it again after the restore."
        ) from error
    for function in functions:
        connection.execute(text(f"DROP FUNCTION {function}"))
    connection.commit()
