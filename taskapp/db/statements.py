"""SQL statements, compiled when they are imported and planned once for each connection."""

import re
from collections.abc import Iterable
from functools import cached_property
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

    def __init__(self, name: str, expression: ClauseElement, *, prepare: bool = True) -> None:
        """Take the name for the metrics, and a Core expression with named parameters.

        What is planned each time is planned for its values, as they decide which index serves.
        """
        compiled = expression.compile(dialect=_DIALECT)
        self.name = name
        self.text = str(compiled)
        self.defaults = {key: value for key, value in compiled.params.items() if value is not None}
        self.is_read = isinstance(expression, Select)
        self.is_prepared = prepare and isinstance(expression, (Select, UpdateBase))
        # Named by its text, for behind a pooler others may have kept theirs where we look for ours.
        self.key = f"taskapp_{sha256(self.text.encode()).hexdigest()[:16]}"
        self._expression = expression
        self._compiled: Any = compiled
        self._names = list(dict.fromkeys(_PARAMETER.findall(self.text)))

    # What follows is made when it is first needed, for the process has to start without delay.

    @cached_property
    def prepare_sql(self) -> str:
        """Write what makes PostgreSQL keep its plan."""
        types = _in_brackets(self._types.get(name, "unknown") for name in self._names)
        numbered = _PARAMETER.sub(lambda found: f"${self._names.index(found[1]) + 1}", self.text)
        return f"PREPARE {self.key}{types} AS {numbered.replace('%%', '%')}"

    @cached_property
    def execute_sql(self) -> str:
        """Write what runs it by the plan that is kept."""
        # A list is written as one of texts, and only a cast makes it one of anything else.
        values = (
            f"%({name})s::{type_}" if type_.endswith("[]") else f"%({name})s"
            for name in self._names
            for type_ in [self._types.get(name, "")]
        )
        return f"EXECUTE {self.key}{_in_brackets(values)}"

    @cached_property
    def _types(self) -> dict[str, str]:
        """Give the types of parameters, from what they are compared with or cast to."""
        of_casts = [
            (part.clause.key, part.type)
            for part in visitors.iterate(self._expression)
            if isinstance(part, Cast) and isinstance(part.clause, BindParameter)
        ]
        of_binds = [(name, bind.type) for name, bind in self._compiled.binds.items()]
        return {
            name: type_.compile(dialect=_DIALECT)
            for name, type_ in of_casts + of_binds
            if not isinstance(type_, NullType)
        }


def _in_brackets(parts: Iterable[str]) -> str:
    joined = ", ".join(parts)
    return f" ({joined})" if joined else ""
