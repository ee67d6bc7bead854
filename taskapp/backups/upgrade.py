"""Upgrades the embedded cluster to a later major version of PostgreSQL, by a dump and its restore.

The old cluster runs once more, reachable for nobody else, and is dumped; the dump is restored to a
new cluster, and every table compared. Then the new one takes the place of the old one, which stays
beside it as `postgres-15` (ADR 0033).
"""

import asyncio
import shutil
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic

from sqlalchemy import text

from taskapp.backups.checksums import PURPOSE, Tables, read_tables
from taskapp.backups.create import make_dump_before
from taskapp.backups.recovery import plan_backup, recovered
from taskapp.backups.repository import Backup, BackupError, backup_repository
from taskapp.backups.restore import find_owner
from taskapp.backups.verify import read_all, require_same
from taskapp.config.settings import Settings
from taskapp.core.errors import TaskappError
from taskapp.core.files import synchronize
from taskapp.core.threads import run_in_daemon_thread
from taskapp.core.units import format_size
from taskapp.db.migrations import MigrationError, connected
from taskapp.observability.logs import log
from taskapp.postgres.cluster import replace_cluster
from taskapp.postgres.permissions import chown_tree
from taskapp.postgres.programs import EmbeddedPostgresError, PostgresPrograms
from taskapp.postgres.server import EmbeddedPostgres, ExtraSettings

# Of a cluster that is dumped, restored and compared; docs/how-to/upgrade.md has the measurement.
_BYTES_PER_SECOND = 10_000_000
_ASIDE = "upgrade"  # in the data folder
_SECONDS_AT_LEAST = 10.0
_OTHER_DATABASES = text(
    "SELECT string_agg(quote_ident(datname), ', ' ORDER BY datname) FROM pg_database"
    " WHERE NOT datistemplate AND datname <> current_database()"
)


def estimate_seconds(cluster: Path) -> float:
    """Return about how long an upgrade takes, by the size of the cluster."""
    return max(_SECONDS_AT_LEAST, _size_of(cluster) / _BYTES_PER_SECOND)


async def upgrade_cluster(
    settings: Settings,
    extra_settings: ExtraSettings | None,
    old: PostgresPrograms,
    new: PostgresPrograms,
) -> None:
    """Upgrade the cluster of the data folder, whose lock is held and where no PostgreSQL runs.

    A process that is killed leaves the old cluster in its place, or the new one, and the next
    start goes on from there.

    Raises:
        BackupError: it failed; the old cluster is in its place, as it was.
    """
    cluster, aside = settings.data_dir / "postgres", settings.data_dir / _ASIDE
    started = monotonic()
    kept = _free_name(cluster.with_name(f"postgres-{old.major}"))
    log(
        "database.upgrading",
        "warning",
        before=old.version,
        after=new.version,
        bytes=_size_of(cluster),
        estimatedSeconds=round(estimate_seconds(cluster)),
    )
    try:
        _require_space(cluster)
        if dump := await _dump(settings, extra_settings, new):
            await _restore(settings, dump, aside)
            replace_cluster(aside / "postgres", cluster, kept)
        else:
            cluster.rename(kept)
            synchronize(cluster.parent)
    except (BackupError, EmbeddedPostgresError, MigrationError, OSError) as error:
        raise BackupError(_explain(old, new, str(error))) from error
    except TaskappError as error:
        raise BackupError(_explain(old, new, error.detail)) from error
    finally:
        await asyncio.to_thread(shutil.rmtree, aside, ignore_errors=True)
    log(
        "database.upgraded",
        "warning",
        before=old.version,
        after=new.version,
        seconds=round(monotonic() - started, 1),
        kept=str(kept),
    )


async def _dump(
    settings: Settings, extra_settings: ExtraSettings | None, new: PostgresPrograms
) -> Backup | None:
    """Dump the old cluster, run on a socket that only we know; return None if it is empty."""
    aside = settings.data_dir.resolve() / _ASIDE
    postgres = EmbeddedPostgres(
        aside,
        cluster=aside.with_name("postgres"),
        bin_folder=settings.postgresql_bin,
        extra_settings=extra_settings,
        socket_folder=aside,
    )
    await postgres.start()
    try:
        tables, others = await run_in_daemon_thread(_look, postgres.url)
        if others:
            raise BackupError(
                f"It also holds the databases {others}, which are not taskapp's. Dump them "
                f"elsewhere, and drop them here."
            )
        if not tables:
            return None
        return await make_dump_before(settings, postgres.url, f"upgrade-to-{new.major}")
    finally:
        await postgres.stop()


def _look(url: str) -> tuple[Tables, str]:
    with connected(url, PURPOSE) as connection:
        others = connection.execute(_OTHER_DATABASES).scalar()
        return read_tables(connection), str(others or "")


async def _restore(settings: Settings, dump: Backup, aside: Path) -> None:
    """Restore a dump to a new cluster, with statistics for its queries, and compare."""
    owner = find_owner(settings.data_dir)
    plan = plan_backup(backup_repository(settings), dump, settings.postgresql_bin)
    async with recovered(plan, aside, owner, settings.postgresql_bin) as postgres:
        require_same(dump, await run_in_daemon_thread(read_all, postgres.url))
        await run_in_daemon_thread(_analyze, postgres.url)
    if owner:
        chown_tree(owner, aside / "postgres")


def _analyze(url: str) -> None:
    with connected(url, PURPOSE) as connection:
        connection.execute(text("ANALYZE"))
        connection.commit()


def _require_space(cluster: Path) -> None:
    needed, free = _size_of(cluster), shutil.disk_usage(cluster.parent).free
    if free < needed:
        raise BackupError(
            f"It needs {format_size(needed)} on the disk of {cluster.parent}, of which "
            f"{format_size(free)} are free."
        )


def _size_of(cluster: Path) -> int:
    return sum(path.lstat().st_size for path in (cluster / "base").rglob("*"))


def _free_name(path: Path) -> Path:
    """Return the path, or with a time if one is kept there already."""
    if not path.exists():
        return path
    return path.with_name(f"{path.name}.before-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}")


def _explain(old: PostgresPrograms, new: PostgresPrograms, reason: str) -> str:
    return (
        f"The database could not be upgraded from PostgreSQL {old.version} to {new.version}, and "
        f"was left as it is: {reason.rstrip('.')}. To stay with {old.major} for now, set "
        f"TASKAPP_POSTGRESQL_BIN to {old.folder}."
    )
