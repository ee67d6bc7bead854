"""Addresses of databases, as libpq reads them, and a single connection outside the pool."""

from typing import Any

import psycopg2
import psycopg2.extensions

from taskapp.config.settings import SettingsError
from taskapp.core.errors import Unavailable
from taskapp.db.errors import first_line

CONNECT_TIMEOUT = 3.0  # seconds


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
        return psycopg2.connect(url, connect_timeout=int(CONNECT_TIMEOUT), application_name=purpose)
    except psycopg2.Error as error:
        raise Unavailable(f"The database cannot be reached: {first_line(error)}") from error


def split_password(url: str) -> tuple[str, str]:
    """Split an address into one without a password, safe in a process list, and the password."""
    parts = psycopg2.extensions.parse_dsn(url)
    password = parts.pop("password", "")
    return psycopg2.extensions.make_dsn(**parts), password


def is_local(url: str) -> bool:
    """Return whether an address names a Unix socket."""
    return bool(psycopg2.extensions.parse_dsn(url).get("host", "/").startswith("/"))


def _is_valid(url: str) -> bool:
    """Return whether libpq can parse an address; its own message may quote part of a password."""
    try:
        ports = psycopg2.extensions.parse_dsn(url).get("port", "")
    except psycopg2.ProgrammingError:
        return False
    return all(not port or port.isdecimal() for port in ports.split(","))
