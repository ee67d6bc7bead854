"""Messages for users: written in English where they arise, translated when a page shows them."""

from collections.abc import Callable
from typing import Self

Value = str | int


class Message(str):
    """An English sentence that also holds what its translation needs.

    `template` is the gettext msgid, with `%(name)s` for each of `values`; `plural` is the msgid of
    the plural form, if the sentence depends on a number.
    """

    __slots__ = ("plural", "template", "values")

    template: str
    plural: str | None
    values: dict[str, Value]

    def __new__(cls, template: str, /, **values: Value) -> Self:
        """Fill the template with the values."""
        message = super().__new__(cls, fill(template, values, _in_english))
        message.template = template
        message.plural = None
        message.values = values
        return message


def counted(singular: str, plural: str, *, number: int) -> Message:
    """Return a message with one form for the number 1 and another for all others."""
    message = Message(singular if number == 1 else plural, number=number)
    message.template = singular
    message.plural = plural
    return message


def fill(template: str, values: dict[str, Value], show: Callable[[int], str]) -> str:
    """Return a template filled with the values; `show` formats the numbers."""
    return template % {
        name: show(value) if isinstance(value, int) else value for name, value in values.items()
    }


def _in_english(number: int) -> str:
    return f"{number:,}"
