"""Calls in the templates whose answer is always the same, made when a template is compiled."""

from collections.abc import Callable, Iterator
from typing import Any

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

_CALL = ("name", "lparen", "string", "rparen")


class ConstantFolding(Extension):
    """Puts the answer in the place of `_("…")`, `path("…")` and `static("…")`.

    An environment has one language and one base path; to call for each of a page's words and
    addresses, and to escape what comes back, would take as long as the tasks in it.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Hand on the tokens of a template, with the answers in the place of the calls."""
        made = self._functions()
        held: list[Token] = []
        for token in stream:
            held.append(token)
            while held and not _may_begin_call(held, made):
                yield held.pop(0)
            if len(held) == len(_CALL):
                yield Token(held[0].lineno, "string", made[held[0].value](held[2].value))
                held.clear()
        yield from held

    def _functions(self) -> dict[str, Callable[[str], str]]:
        known: Any = self.environment.globals
        translate = known["language"].translations.gettext
        return {"_": translate, "path": known["path"], "static": known["static"]}


def _may_begin_call(tokens: list[Token], made: dict[str, Callable[[str], str]]) -> bool:
    kinds = tuple(token.type for token in tokens)
    return kinds == _CALL[: len(kinds)] and tokens[0].value in made
