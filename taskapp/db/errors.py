"""Driver errors, and what they mean: translated by their SQLSTATE, or by its absence."""

import asyncio
import re
from typing import Any

import psycopg2
import psycopg2.errors

from taskapp.core.errors import TablesUnusable, Unavailable, UniqueViolation
from taskapp.observability.logs import log

# SQLSTATE classes (PostgreSQL's manual, appendix A) after which a later attempt at the same
# statement may succeed: 08 connection, 40 rollback (deadlocks included), 53 insufficient resources,
# 57 operator intervention, 58 system error.
_TRANSIENT_CLASSES = ("08", "40", "53", "57", "58")
# Of these, and 25 (a read-only transaction), the classes that prove that nothing was changed.
_ROLLED_BACK_CLASSES = ("25", "40", "53")
_RESOURCES_CLASS = "53"
_READ_ONLY = "25006"
# Insufficient privilege, undefined table, invalid schema name: an operator can mend these.
_TABLES_UNUSABLE = ("42501", "42P01", "3F000")

# A pooler has moved the session to another server connection than the one that ran PREPARE.
PREPARED_ELSEWHERE = (
    psycopg2.errors.InvalidSqlStatementName,
    psycopg2.errors.DuplicatePreparedStatement,
)
# Raised while a connection is opened.
UNREACHABLE = (psycopg2.Error, TimeoutError, OSError)
_CONNECTION_LOST = (psycopg2.OperationalError, psycopg2.InterfaceError, OSError)


class ConnectionLostError(Exception):
    """The connection broke while a statement was running on it."""


class PreparedStatementLost(Exception):
    """The server connection cannot run the prepared statement any more; nothing was run."""


def translate(error: Exception, level: str = "warning") -> Exception:
    """Return our error for a driver error of a statement; return any other error unchanged.

    `level` is that of the line of the log about a statement that the server rejected.
    """
    if isinstance(error, psycopg2.errors.UniqueViolation):
        return UniqueViolation(error.diag.constraint_name or "")
    code = _sqlstate(error)
    if code in _TABLES_UNUSABLE:
        return TablesUnusable(first_line(error))
    if code == _READ_ONLY or code.startswith(_TRANSIENT_CLASSES):
        log("database.refused", level, code=code)
        return Unavailable() if code.startswith(_ROLLED_BACK_CLASSES) else ConnectionLostError()
    # No SQLSTATE means that libpq made the error; psycopg2 raises some as plain DatabaseError.
    if not code and (isinstance(error, _CONNECTION_LOST) or type(error) is psycopg2.DatabaseError):
        log("database.connection_lost", "warning", error=first_line(error))
        return ConnectionLostError()
    return error


def is_plan_outdated(error: psycopg2.Error) -> bool:
    """Return whether a prepared statement was refused because the type of a column has changed."""
    # "cached plan must not change result type", which PostgreSQL says in its own language.
    return bool(error.diag.source_function == "RevalidateCachedQuery")


def is_rejected_write(error: Exception) -> bool:
    """Return whether the server lacks the resources for a write, or is read-only."""
    return is_read_only(error) or _sqlstate(error).startswith(_RESOURCES_CLASS)


def is_read_only(error: Exception) -> bool:
    """Return whether the server rejected a write because it is read-only."""
    return _sqlstate(error) == _READ_ONLY


def handle_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error of the event loop, where aiopg reports that the server canceled a statement."""
    error = context.get("exception")
    if isinstance(error, psycopg2.errors.QueryCanceled):
        log("database.refused", "warning", code=error.pgcode)
    else:
        loop.default_exception_handler(context)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text, without the user and password of a URL in it."""
    lines = str(error).splitlines() or [type(error).__name__]
    return re.sub(r"://[^@/\s]*@", "://", lines[0])


def _sqlstate(error: Exception) -> str:
    return getattr(error, "pgcode", None) or ""
