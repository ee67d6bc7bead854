"""Sentences for people. They are written in English where they arise; pages translate them."""

from collections.abc import Callable
from typing import Self

Value = str | int


class Message(str):
    """A sentence that reads as English, and remembers how to look itself up in a catalogue.

    `template` is the catalogue's key (in gettext's way), with `%(name)s` for each of `values`.
    With `plural` it has another form for any number but one, which is the value `number`.
    """

    __slots__ = ("plural", "template", "values")

    template: str
    plural: str | None
    values: dict[str, Value]

    def __new__(cls, template: str, plural: str | None = None, **values: Value) -> Self:
        """Make the English sentence."""
        form = plural if plural is not None and values["number"] != 1 else template
        message = super().__new__(cls, fill(form, values, lambda number: f"{number:,}"))
        message.template = template
        message.plural = plural
        message.values = values
        return message


def fill(template: str, values: dict[str, Value], show: Callable[[int], str]) -> str:
    """Put the values into a template, numbers as `show` writes them."""
    return template % {
        name: show(value) if isinstance(value, int) else value for name, value in values.items()
    }
