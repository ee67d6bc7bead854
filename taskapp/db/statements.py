"""SQL statements, compiled at import and prepared once for each connection."""

import re
from collections.abc import Iterable
from functools import cached_property
from hashlib import sha256
from typing import Any

from sqlalchemy import SelectBase, UpdateBase
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.sqltypes import NullType

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Statement:
    """One SQL statement: the text that runs it once, and the texts that prepare and execute it.

    Compiling an expression costs more than running a short statement, and so does planning one in
    PostgreSQL. A parameter needs a type to be prepared: the column's that it is compared with, or
    `bindparam(name, type_=...)`.
    """

    def __init__(self, name: str, expression: ClauseElement, *, prepare: bool = True) -> None:
        """Compile a Core expression with named parameters; `name` is its label in the metrics.

        With `prepare=False`, PostgreSQL plans every execution for its values: they decide which
        index fits.
        """
        compiled = expression.compile(dialect=_DIALECT)
        self.name = name
        self.text = str(compiled)
        self.defaults = {key: value for key, value in compiled.params.items() if value is not None}
        self.is_read = isinstance(expression, SelectBase) and not _changes(expression)
        self.is_prepared = prepare and isinstance(expression, (SelectBase, UpdateBase))
        # Name derived from the SQL text: behind a pooler, a server connection may hold prepared
        # statements of another process.
        self.key = f"taskapp_{sha256(self.text.encode()).hexdigest()[:16]}"
        self._compiled: Any = compiled
        self._names = list(dict.fromkeys(_PARAMETER.findall(self.text)))

    # Built at first use rather than at import, which keeps the start of the process short.

    @cached_property
    def prepare_sql(self) -> str:
        """The SQL that prepares the statement."""
        types = _in_brackets(self._types.get(name, "unknown") for name in self._names)
        numbered = _PARAMETER.sub(lambda match: f"${self._names.index(match[1]) + 1}", self.text)
        return f"PREPARE {self.key}{types} AS {numbered.replace('%%', '%')}"

    @cached_property
    def execute_sql(self) -> str:
        """The SQL that executes the prepared statement, with the same named parameters."""
        # psycopg2 renders lists as text arrays, so arrays of other types need a cast.
        values = (
            f"%({name})s::{type_}" if type_.endswith("[]") else f"%({name})s"
            for name in self._names
            for type_ in [self._types.get(name, "")]
        )
        return f"EXECUTE {self.key}{_in_brackets(values)}"

    @cached_property
    def _types(self) -> dict[str, str]:
        return {
            name: bind.type.compile(dialect=_DIALECT)
            for name, bind in self._compiled.binds.items()
            if not isinstance(bind.type, NullType)
        }


def _changes(expression: ClauseElement) -> bool:
    """Return whether any part changes rows; a SELECT does, if one of its CTEs does."""
    return any(isinstance(part, UpdateBase) for part in visitors.iterate(expression))


def _in_brackets(parts: Iterable[str]) -> str:
    joined = ", ".join(parts)
    return f" ({joined})" if joined else ""
