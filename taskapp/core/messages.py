"""Sentences for people. They are written in English where they arise; pages translate them."""

from collections.abc import Callable
from typing import Self

Value = str | int


class Message(str):
    """A sentence that reads as English, and remembers how to look itself up in a catalogue.

    `template` is the catalogue's key (in gettext's way), with `%(name)s` for each of `values`;
    `plural` is its other form, if the sentence depends on a number.
    """

    __slots__ = ("plural", "template", "values")

    template: str
    plural: str | None
    values: dict[str, Value]

    def __new__(cls, template: str, /, **values: Value) -> Self:
        """Make the English sentence."""
        message = super().__new__(cls, fill(template, values, _in_english))
        message.template = template
        message.plural = None
        message.values = values
        return message


def counted(singular: str, plural: str, *, number: int) -> Message:
    """Make a sentence that has one form for the number one and another for others."""
    message = Message(singular if number == 1 else plural, number=number)
    message.template = singular
    message.plural = plural
    return message


def fill(template: str, values: dict[str, Value], show: Callable[[int], str]) -> str:
    """Put the values into a template, numbers as `show` writes them."""
    return template % {
        name: show(value) if isinstance(value, int) else value for name, value in values.items()
    }


def _in_english(number: int) -> str:
    return f"{number:,}"
