"""The identity of a database, by which its backups are recognized.

It is `system/name`: the system identifier that `initdb` generated, and the name of the database; a
PostgreSQL of the operator's adds the schema unless it is `public`. A cluster that is restored in
another place has the system identifier of its origin, so it also gets an instance,
`system.instance/name`: the two never share backups or a WAL archive.
"""

import secrets
import struct
from contextlib import suppress
from pathlib import Path

from taskapp.backups.checksums import PURPOSE, read_database
from taskapp.config.settings import Settings
from taskapp.core.errors import TaskappError
from taskapp.db.migrations import MigrationError, connected

INSTANCE = "taskapp.instance"  # in the cluster, and so in every base backup of it
_NAME = "postgres"  # of the embedded database
_TIMELINE_AT = 48  # bytes; ControlFileData.checkPointCopy.ThisTimeLineID, in PostgreSQL 9.3 to 18


def read_system(cluster: Path) -> str:
    """Return the system identifier of a cluster, with which its control file begins."""
    return str(struct.unpack("=Q", _control_file(cluster)[:8])[0])


def read_timeline(cluster: Path) -> int:
    """Return the timeline that a cluster was on at its last checkpoint."""
    number: int = struct.unpack_from("=I", _control_file(cluster), _TIMELINE_AT)[0]
    return number


def read_identity(cluster: Path) -> str:
    """Return the system identifier of a cluster, with its instance if it has one."""
    instance = ""
    with suppress(FileNotFoundError):
        instance = (cluster / INSTANCE).read_text(encoding="ascii").strip()
    return f"{read_system(cluster)}.{instance}" if instance else read_system(cluster)


def begin_instance(cluster: Path) -> None:
    """Write an identity of its own into a cluster that is not running."""
    (cluster / INSTANCE).write_text(f"{secrets.token_hex(4)}\n", encoding="ascii")


def find_embedded_database(data_dir: Path) -> str | None:
    """Return the identity of the embedded database; None if there is none yet.

    Raises OSError where the cluster cannot be read.
    """
    try:
        return f"{read_identity(data_dir / 'postgres')}/{_NAME}"
    except FileNotFoundError:
        return None


def find_database(settings: Settings) -> str | None:
    """Return the identity of the database in use; None if there is none yet.

    Raises:
        OSError: the embedded cluster cannot be read.
        MigrationError, SettingsError, Unavailable: the database cannot be asked.
    """
    if settings.uses_embedded_database:
        return find_embedded_database(settings.data_dir)
    with connected(settings.database_url, PURPOSE) as connection:
        return read_database(connection)


def find_known_database(settings: Settings) -> str | None:
    """Return the identity of the database in use; None also if it does not respond."""
    with suppress(OSError, MigrationError, TaskappError):
        return find_database(settings)
    return None


def _control_file(cluster: Path) -> bytes:
    with (cluster / "global" / "pg_control").open("rb") as file:
        content = file.read(_TIMELINE_AT + 4)
    if len(content) < _TIMELINE_AT + 4:
        raise OSError(f"The file {cluster / 'global' / 'pg_control'} is cut off")
    return content
