"""Constant folding: calls with a constant result are made when a template is compiled."""

from collections.abc import Callable, Iterator
from typing import Any

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

_CALL = ("name", "lparen", "string", "rparen")


class ConstantFolding(Extension):
    """Replaces `_("…")`, `path("…")` and `static("…")` by their results.

    An environment has one language and one base path, so the results never change. Calling for
    each sentence and URL of a page, and escaping the results, takes as long as rendering its tasks.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Yield the tokens of a template, with a string in place of each call."""
        functions = self._functions()
        held: list[Token] = []
        for token in stream:
            held.append(token)
            while held and not _may_begin_call(held, functions):
                yield held.pop(0)
            if len(held) == len(_CALL):
                name, _, argument, _ = held
                yield Token(name.lineno, "string", functions[name.value](argument.value))
                held.clear()
        yield from held

    def _functions(self) -> dict[str, Callable[[str], str]]:
        names: Any = self.environment.globals
        translate = names["language"].translations.gettext
        return {"_": translate, "path": names["path"], "static": names["static"]}


def _may_begin_call(tokens: list[Token], functions: dict[str, Callable[[str], str]]) -> bool:
    kinds = tuple(token.type for token in tokens)
    return kinds == _CALL[: len(kinds)] and tokens[0].value in functions
