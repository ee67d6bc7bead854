"""Runs Debian's PostgreSQL in a folder of its own."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from tests.deploy.certificates import Certificate
from tests.support.database_fixtures import execute
from tests.support.server_process import LONG_ENOUGH, reserved_port, wait_until

PROGRAMS = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
PASSWORDS = {"taskapp": "of-the-process", "taskapp_owner": "of-the-owner"}
ACCESS = "local all,replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"


class OwnPostgres:
    """A server: the administrator connects to its socket, everyone else to its port."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port

    def administrator(self, database: str = "postgres") -> str:
        socket = quote(str(self.folder), safe="")
        return f"postgresql://postgres@/{database}?host={socket}&port={self.port}"

    def url(self, user: str, *, host: str = "127.0.0.1", port: int = 0, options: str = "") -> str:
        return f"postgresql://{user}:{PASSWORDS[user]}@{host}:{port or self.port}/taskapp{options}"

    def add_roles(self, script: Path) -> None:
        """Run the script that creates the database and roles, and set their passwords."""
        subprocess.run(
            ["psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-f", str(script), self.administrator()],
            check=True,
            capture_output=True,
        )
        for user, password in PASSWORDS.items():
            execute(self.administrator(), f"ALTER ROLE {user} PASSWORD '{password}'")

    def remove_roles(self) -> None:
        execute(self.administrator(), "DROP DATABASE taskapp WITH (FORCE)")
        for user in PASSWORDS:
            execute(self.administrator(), f"DROP ROLE {user}")


def as_postgres(*command: str | Path) -> list[str]:
    """Return the command that runs another as Debian's user, because PostgreSQL refuses root."""
    words = [*map(str, command)]
    return ["runuser", "-u", "postgres", "--", *words] if os.geteuid() == 0 else words


def give_to_postgres(*paths: Path) -> None:
    for path in paths:
        if os.geteuid() == 0:
            shutil.chown(path, "postgres", "postgres")


@contextmanager
def running_postgres(folder: Path, certificate: Certificate | None = None) -> Iterator[OwnPostgres]:
    """Run a new cluster; with a certificate, also with TLS."""
    give_to_postgres(folder)
    cluster = folder / "cluster"
    initdb = ["--auth=trust", "--no-sync", "--username=postgres", "--pgdata", str(cluster)]
    subprocess.run(as_postgres(PROGRAMS / "initdb", *initdb), check=True, capture_output=True)
    (cluster / "pg_hba.conf").write_text(ACCESS)
    with reserved_port() as port:
        yield from _serving(OwnPostgres(folder, port), cluster, certificate)


@contextmanager
def running_standby(folder: Path, primary: OwnPostgres) -> Iterator[OwnPostgres]:
    """Run a read-only copy that follows another server."""
    give_to_postgres(folder)
    cluster = folder / "cluster"
    follow = ["--write-recovery-conf", "--no-sync", "--checkpoint=fast", "--pgdata", str(cluster)]
    command = as_postgres(PROGRAMS / "pg_basebackup", *follow, "-d", primary.administrator())
    subprocess.run(command, check=True, capture_output=True)
    with reserved_port() as port:
        yield from _serving(OwnPostgres(folder, port), cluster, None)


def _serving(
    server: OwnPostgres, cluster: Path, certificate: Certificate | None
) -> Iterator[OwnPostgres]:
    folder = server.folder
    options = [
        "listen_addresses=127.0.0.1",
        f"unix_socket_directories={folder}",
        "fsync=off",
        "max_connections=300",
    ]
    if certificate:
        give_to_postgres(certificate.path, certificate.key)
        options += ["ssl=on"]
        options += [f"ssl_cert_file={certificate.path}", f"ssl_key_file={certificate.key}"]
    words = [part for option in options for part in ("-c", option)]
    command = as_postgres(PROGRAMS / "postgres", "-D", cluster, "-p", str(server.port), *words)
    log = (folder / "log").open("wb")
    with log, subprocess.Popen(command, stderr=log) as process:
        try:
            ready = [str(PROGRAMS / "pg_isready"), "-q", "-d", server.administrator()]
            wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)
            yield server
        finally:
            stop = as_postgres(PROGRAMS / "pg_ctl", "stop", "-D", cluster, "-m", "fast")
            subprocess.run(stop, check=True, capture_output=True)
            process.wait(LONG_ENOUGH)
