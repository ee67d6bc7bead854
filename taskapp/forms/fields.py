"""Fields and forms: each is declared once, to validate input and to describe it in OpenAPI.

A form is a pure function from input to clean values. It raises one `Invalid` with a message for
every field that is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.forms.text_rules import is_storable

JsonSchema = dict[str, Any]

REQUIRED = Message("Required")
NOT_A_STRING = Message("Must be text")
NOT_STORABLE = Message("Contains unsupported characters (NUL or an unpaired surrogate)")
UNKNOWN_FIELD = Message("Unknown field")


class FieldError(ValueError):
    """The value of one field is not accepted; `message` is shown beside the field."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Field:
    """How one field is read, and its JSON Schema; `read` raises FieldError."""

    read: Callable[[Any], str]
    schema: JsonSchema


def read_text(value: Any) -> str:
    """Return a value that is a string PostgreSQL can store.

    Raises:
        FieldError: it is not.
    """
    if not isinstance(value, str):
        raise FieldError(NOT_A_STRING)
    if not is_storable(value):
        raise FieldError(NOT_STORABLE)
    return value


def require_length(text: str, minimum: int, maximum: int) -> str:
    """Return a text whose length is within limits, in characters.

    Raises:
        FieldError: it is not.
    """
    if len(text) < minimum:
        raise FieldError(Message("Must be at least %(limit)s characters", limit=minimum))
    if len(text) > maximum:
        raise FieldError(
            Message(
                "Must be at most %(limit)s characters (currently %(length)s)",
                limit=maximum,
                length=len(text),
            )
        )
    return text


def read_choice(value: Any, choices: Sequence[str]) -> str:
    """Return a value that is one of the choices.

    Raises:
        FieldError: it is not.
    """
    if value not in choices:
        raise FieldError(Message("Must be one of: %(choices)s", choices=", ".join(choices)))
    return str(value)


@dataclass(frozen=True)
class Form:
    """The fields of one kind of request.

    `ignored` names fields that may be sent without effect: clients send back what a response had.
    """

    name: str
    required: Mapping[str, Field]
    optional: Mapping[str, Field]
    ignored: tuple[str, ...] = ()

    def read(self, sent: Mapping[str, Any]) -> dict[str, str]:
        """Validate the fields that were sent and return their clean values.

        Raises:
            Invalid: with a message for every field that is wrong, missing or unknown.
        """
        errors: dict[str, str] = {}
        values: dict[str, str] = {}
        for name, field in (*self.required.items(), *self.optional.items()):
            if name in sent:
                try:
                    values[name] = field.read(sent[name])
                except FieldError as error:
                    errors[name] = error.message
            elif name in self.required:
                errors[name] = REQUIRED
        known = {*self.required, *self.optional, *self.ignored}
        errors |= {_replace_surrogates(name): UNKNOWN_FIELD for name in sent if name not in known}
        if errors:
            raise Invalid(errors)
        return values

    def schema(self) -> JsonSchema:
        """Return the form as a JSON Schema (2020-12), the dialect of OpenAPI 3.1."""
        properties = {
            name: field.schema for name, field in (*self.required.items(), *self.optional.items())
        }
        ignored = {name: {"readOnly": True} for name in self.ignored}
        schema: JsonSchema = {
            "type": "object",
            "properties": properties | ignored,
            "additionalProperties": False,
        }
        if self.required:
            schema["required"] = list(self.required)
        return schema


def _replace_surrogates(name: str) -> str:
    """Return the name of a field in a form that UTF-8 can encode, for the error response."""
    return name.encode("utf-8", "replace").decode("utf-8")
