"""The folder of a cluster: how it is created, and how one replaces another."""

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
from taskapp.postgres.programs import EmbeddedPostgresError, PostgresPrograms

_INITDB_OPTIONS = (
    *("--username=taskapp", "--auth-local=trust", "--auth-host=reject", "--encoding=UTF8"),
    # The locale C sorts alike on every system, and stays so when libc is upgraded.
    *("--no-locale", "--data-checksums", "--no-instructions"),
)
# Sorts as C does, and knows the upper and lower case of all letters; from PostgreSQL 17 on.
_BUILTIN_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")
_REPLACEMENT = "postgres.restored"  # a complete cluster, before it is renamed to that in use


async def make_cluster(
    programs: PostgresPrograms, cluster: Path, name: str, account: UnixUser | None
) -> None:
    """Create a cluster under another name, and rename it when it is complete.

    Raises EmbeddedPostgresError with the message of initdb.
    """
    new = cluster.with_name(f"{cluster.name}.new")
    _make_empty_folder(new, account)
    options = [*_INITDB_OPTIONS, f"--pgdata={new}"]
    if programs.major >= 16:
        options.append(f"--set=cluster_name={name}")
    if programs.major >= 17:
        options += _BUILTIN_LOCALE
    command = (str(programs.path("initdb")), *options)
    in_namespace = needs_another_number(account) or needs_a_name(account)
    code, complaint = await run_program(command, account, in_namespace=in_namespace)
    if code != 0:
        raise EmbeddedPostgresError(
            f"PostgreSQL could not make a database in {new}: {complaint or f'exit code {code}'}"
        )
    new.rename(cluster)
    synchronize(cluster.parent)


def replace_cluster(new: Path, cluster: Path, old: Path) -> None:
    """Put a complete cluster in the place of the one in use, if there is one, which becomes `old`.

    The rename to `old` decides. If the process is killed before it, nothing has changed; after it,
    `finish_replacement` completes the rest.
    """
    replacement = cluster.with_name(_REPLACEMENT)
    if replacement.exists():
        shutil.rmtree(replacement)
    new.rename(replacement)
    synchronize(cluster.parent)
    if cluster.exists():
        cluster.rename(old)
    replacement.rename(cluster)
    synchronize(cluster.parent)


def require_link_target(cluster: Path) -> None:
    """Raise EmbeddedPostgresError if the cluster is a link to what is not there."""
    if cluster.is_symlink() and not cluster.exists():
        raise EmbeddedPostgresError(
            f"{cluster} is a link to {cluster.readlink()}, which is not there. Mount its disk, or "
            f"correct the link."
        )


def finish_replacement(cluster: Path) -> None:
    """Complete a replacement that was cut off when the old cluster was out of its place."""
    replacement = cluster.with_name(_REPLACEMENT)
    if replacement.exists() and not cluster.exists():
        replacement.rename(cluster)


def _make_empty_folder(folder: Path, account: UnixUser | None) -> None:
    interrupted = folder.with_name(f"{folder.name}.interrupted")
    if folder.exists():
        # What an initdb that was killed has started may write for a moment, into the same folder.
        shutil.rmtree(interrupted, ignore_errors=True)
        folder.rename(interrupted)
    shutil.rmtree(interrupted, ignore_errors=True)
    folder.mkdir(mode=0o700)
    if account:
        chown_tree(account, folder)
