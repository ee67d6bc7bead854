"""The check of the embedded PostgreSQL's version."""

from pathlib import Path

from taskapp.backups.upgrade import estimate_seconds
from taskapp.config.settings import Settings
from taskapp.doctor.check_results import CheckResult, Level
from taskapp.postgres.programs import newer_minor, preferred_programs, programs_for

_SUBJECT = "postgresql"


def check_programs(settings: Settings, running: int) -> list[CheckResult]:
    """Check whether the version that runs (180006 for 18.6) is the one to run, and what is kept.

    Raises EmbeddedPostgresError where the programs are no longer there.
    """
    cluster, bin_folder = settings.data_dir / "postgres", settings.postgresql_bin
    major, minor = divmod(running, 10000)
    used, preferred = programs_for(cluster, bin_folder), preferred_programs(bin_folder)
    version = f"{major}.{minor}"
    if newer := newer_minor((major, minor), bin_folder):
        text = f"{version} runs, and {newer.version} with its fixes is in {newer.folder}"
        restart = "Restart taskapp."
        other = f"Set TASKAPP_POSTGRESQL_BIN={newer.folder}, and restart taskapp."
        fix = restart if newer.folder == used.folder else other
        results = [CheckResult(Level.WARNING, _SUBJECT, text, fix)]
    else:
        results = [CheckResult(Level.OK, _SUBJECT, f"{version}, of {used.folder}")]
    if used.major < preferred.major:
        text = f"the next start upgrades the database to {preferred.version}"
        seconds = estimate_seconds(cluster)
        fix = f"It takes about {seconds:.0f} s. TASKAPP_POSTGRESQL_BIN={used.folder} keeps it off."
        results.append(CheckResult(Level.INFO, _SUBJECT, text, fix))
    return [*results, *_check_kept(settings.data_dir)]


def _check_kept(data_dir: Path) -> list[CheckResult]:
    kept = sorted(path.name for path in data_dir.glob("postgres-[0-9]*"))
    if not kept:
        return []
    text = f"kept from before an upgrade: {', '.join(kept)}"
    fix = f"Delete it in {data_dir} when nobody misses anything."
    return [CheckResult(Level.INFO, _SUBJECT, text, fix)]
