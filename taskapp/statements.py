"""SQL statements, compiled when they are imported and planned once for each connection."""

import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from sqlalchemy import Select, UpdateBase
from sqlalchemy.dialects.postgresql.psycopg2 import PGDialect_psycopg2
from sqlalchemy.sql import ClauseElement, visitors
from sqlalchemy.sql.elements import BindParameter, Cast
from sqlalchemy.sql.sqltypes import NullType

_DIALECT = PGDialect_psycopg2()  # type: ignore[no-untyped-call]  # SQLAlchemy left it untyped
_PARAMETER = re.compile(r"%\((\w+)\)s")


class Statement:
    """One SQL statement, in the words that run it as it is and in those that keep its plan.

    Compiling costs more than running a short one, and so does PostgreSQL's planning.
    """

    def __init__(self, name: str, expression: ClauseElement) -> None:
        """Take the name for the metrics, and a Core expression with named parameters."""
        compiled = expression.compile(dialect=_DIALECT)
        self.name = name
        self.text = str(compiled)
        self.defaults = {key: value for key, value in compiled.params.items() if value is not None}
        self.is_read = isinstance(expression, Select)
        self.has_plan = isinstance(expression, (Select, UpdateBase))
        # Named by its text, for behind a pooler others may have kept theirs where we look for ours.
        self.key = f"taskapp_{sha256(self.text.encode()).hexdigest()[:16]}"
        types = _types(expression, compiled)
        names = list(dict.fromkeys(_PARAMETER.findall(self.text)))
        numbered = _PARAMETER.sub(lambda found: f"${names.index(found[1]) + 1}", self.text)
        self.prepare = (
            f"PREPARE {self.key}{_in_brackets(types.get(name, 'unknown') for name in names)}"
            f" AS {numbered.replace('%%', '%')}"
        )
        # A list is written as one of texts, and only a cast makes it one of anything else.
        values = (
            f"%({name})s::{types[name]}" if types.get(name, "").endswith("[]") else f"%({name})s"
            for name in names
        )
        self.execute = f"EXECUTE {self.key}{_in_brackets(values)}"


def _types(expression: ClauseElement, compiled: Any) -> dict[str, str]:
    """Give the types of parameters, from what they are compared with or cast to."""
    of_casts = [
        (part.clause.key, part.type)
        for part in visitors.iterate(expression)
        if isinstance(part, Cast) and isinstance(part.clause, BindParameter)
    ]
    of_binds = [(name, bind.type) for name, bind in compiled.binds.items()]
    return {
        name: type_.compile(dialect=_DIALECT)
        for name, type_ in of_casts + of_binds
        if not isinstance(type_, NullType)
    }


def _in_brackets(parts: Iterable[str]) -> str:
    joined = ", ".join(parts)
    return f" ({joined})" if joined else ""
