"""Words of the templates, translated when a template is compiled."""

from collections.abc import Iterator
from typing import Any

from jinja2.ext import Extension
from jinja2.lexer import Token, TokenStream

_CALL = ("name", "lparen", "string", "rparen")


class TranslatedWords(Extension):
    """Puts the translation in the place of `_("…")` without parameters.

    An environment has one language; to call for each of a page's words, and to escape what comes
    back, would take as long as the tasks in it.
    """

    def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
        """Hand on the tokens of a template, with its calls translated."""
        language: Any = self.environment.globals["language"]
        translate = language.translations.gettext
        held: list[Token] = []
        for token in stream:
            held.append(token)
            while held and not _may_begin_call(held):
                yield held.pop(0)
            if len(held) == len(_CALL):
                yield Token(held[0].lineno, "string", translate(held[2].value))
                held.clear()
        yield from held


def _may_begin_call(tokens: list[Token]) -> bool:
    kinds = tuple(token.type for token in tokens)
    return kinds == _CALL[: len(kinds)] and tokens[0].value == "_"
