"""Addresses of databases, as libpq reads them, and a single connection outside the pool."""

import os
import socket
import ssl
from contextlib import closing, suppress
from typing import Any

import psycopg2
import psycopg2.extensions

from taskapp.config.settings import SettingsError
from taskapp.core.errors import Unavailable
from taskapp.db.errors import first_line

CONNECT_TIMEOUT = 3.0  # seconds for each server that an address names
# For an address that does not say otherwise. An idle connection sends something before routers
# forget it, and one whose network is gone is noticed after a minute instead of hours.
_DEFAULTS = {
    "connect_timeout": f"{CONNECT_TIMEOUT:.0f}",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",  # milliseconds
}


def connect_once(url: str, purpose: str) -> Any:
    """Open a blocking connection, with `purpose` as its application name in PostgreSQL.

    Raises:
        SettingsError: the address cannot be parsed.
        Unavailable: the server cannot be reached, or rejects the connection.
    """
    if not _is_valid(url):
        problem = (
            "TASKAPP_DATABASE_URL: it cannot be read as an address; in the user and the password "
            "write special characters as %2F for / and %40 for @"
        )
        raise SettingsError([problem])
    try:
        return psycopg2.connect(url, application_name=purpose, **_parameters(url))
    except psycopg2.Error as error:
        raise Unavailable(f"The database cannot be reached: {first_line(error)}") from error


def locate_server(url: str) -> dict[str, str]:
    """Return an address of one server only: the one that libpq chooses of all that `url` names.

    Only a blocking connection tries them all, each for `connect_timeout`.

    Raises SettingsError and Unavailable, as `connect_once` does.
    """
    with closing(connect_once(url, "taskapp connect")) as connection:
        info = connection.info
        used = info.dsn_parameters  # of the address, a service file and the environment
        server = {"host": info.host, "port": str(info.port), "options": used.get("options", "")}
        with socket.socket(fileno=os.dup(info.socket)) as peer:
            if peer.family != socket.AF_UNIX:
                numeric = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
                server["hostaddr"], _ = socket.getnameinfo(peer.getpeername(), numeric)
            connection.close()
            _wait_for_end(peer)
    return {**psycopg2.extensions.parse_dsn(url), **_parameters(url), **server}


def _wait_for_end(peer: socket.socket) -> None:
    """Wait until the server has ended a connection, so that it does not count for its limits."""
    peer.settimeout(CONNECT_TIMEOUT)
    with suppress(OSError):
        while peer.recv(4096):
            pass


def split_password(url: str) -> tuple[str, str]:
    """Split an address into one without a password, safe in a process list, and the password."""
    parts = psycopg2.extensions.parse_dsn(url) | _parameters(url)
    password = parts.pop("password", "")
    return psycopg2.extensions.make_dsn(**parts), password


def is_local(url: str) -> bool:
    """Return whether an address names a Unix socket."""
    return bool(psycopg2.extensions.parse_dsn(url).get("host", "").startswith("/"))


def _parameters(url: str) -> dict[str, str]:
    """Return what every connection needs, and the defaults of what an address leaves open.

    What a service file says is not known here, so that it keeps its own defaults.
    """
    given = psycopg2.extensions.parse_dsn(url)
    has_service = "service" in given or "PGSERVICE" in os.environ
    if "PGCONNECT_TIMEOUT" in os.environ:
        given.setdefault("connect_timeout", os.environ["PGCONNECT_TIMEOUT"])
    if "PGTARGETSESSIONATTRS" in os.environ:
        given.setdefault("target_session_attrs", os.environ["PGTARGETSESSIONATTRS"])
    wanted = _DEFAULTS | ({"target_session_attrs": "read-write"} if _has_several(given) else {})
    defaults = {} if has_service else {k: v for k, v in wanted.items() if k not in given}
    return {"client_encoding": "UTF8"} | defaults | _system_authorities(given)


def _system_authorities(given: dict[str, str]) -> dict[str, str]:
    """Return in libpq's terms which authorities `sslrootcert=system` means.

    The libpq of psycopg2's wheel looks for them where that was built, and one before 16 takes it
    for a file.
    """
    wanted = given.get("sslrootcert", os.environ.get("PGSSLROOTCERT", ""))
    if wanted == "system" and (file := ssl.get_default_verify_paths().cafile):
        return {"sslrootcert": file, "sslmode": "verify-full"}  # the mode that `system` demands
    return {}


def _has_several(given: dict[str, str]) -> bool:
    """Return whether an address names several servers, of which the primary is wanted."""
    variables = {"host": "PGHOST", "hostaddr": "PGHOSTADDR"}
    return any("," in given.get(n, os.environ.get(v, "")) for n, v in variables.items())


def _is_valid(url: str) -> bool:
    """Return whether libpq can parse an address; its own message may quote part of a password."""
    try:
        ports = psycopg2.extensions.parse_dsn(url).get("port", "")
    except psycopg2.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))
