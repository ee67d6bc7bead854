"""Fields and forms: each is declared once, to validate input and to describe it in OpenAPI.

A form is a pure function from input to clean values. It raises one `Invalid` with a message for
every field that is wrong.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.forms.text_rules import is_storable

JsonSchema = dict[str, Any]

REQUIRED = Message("Required")
NOT_A_STRING = Message("Must be text")
NOT_STORABLE = Message("Contains unsupported characters (NUL or an unpaired surrogate)")
UNKNOWN_FIELD = Message("Unknown field")

# Characters sent for each one kept. NFC makes a text at most three times as short (UAX 15), and
# spaces around it are not kept.
SENT_PER_KEPT = 4
_MAX_CHOICE_LENGTH = 100  # characters; the response to a wrong choice names the right ones
MAX_UNKNOWN_NAMED = 10  # unknown fields that a response names
MAX_NAME_SHOWN = 100  # characters of an unknown field's name
_BYTES_PER_CHARACTER = 12  # an emoji escaped in JSON (\ud83d\ude00) or in a form (%F0%9F%98%80)
_BYTES_AROUND = 60 * 1024  # of names, spaces, a CSRF token, and what is wrong but can be explained


class FieldError(ValueError):
    """The value of one field is not accepted; `message` is shown beside the field."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Field:
    """How one field is read, and its JSON Schema; lengths are in characters.

    `max_length` is that of a clean value, `max_sent_length` that of what is sent: with spaces
    around it, and accents that are not composed. What is longer is not even parsed, because parsing
    may take more than linear time (UAX 15 sorts combining marks).
    """

    parse: Callable[[Any], str]
    schema: JsonSchema
    max_length: int
    max_sent_length: int

    def read(self, sent: Any) -> str:
        """Return the clean value of what was sent.

        Raises:
            FieldError: it is not accepted.
        """
        if isinstance(sent, str) and len(sent) > self.max_sent_length:
            raise _too_long(sent, self.max_length)
        return self.parse(sent)


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
        raise _too_long(text, maximum)
    return text


def _too_long(text: str, maximum: int) -> FieldError:
    return FieldError(
        Message(
            "Must be at most %(limit)s characters (currently %(length)s)",
            limit=maximum,
            length=len(text),
        )
    )


def read_choice(value: Any, choices: Sequence[str]) -> str:
    """Return a value that is one of the choices.

    Raises:
        FieldError: it is not.
    """
    if value not in choices:
        raise FieldError(Message("Must be one of: %(choices)s", choices=", ".join(choices)))
    return str(value)


def choice(*choices: str) -> Field:
    """Return a field whose value is one of the choices."""
    return Field(
        partial(read_choice, choices=choices),
        {"type": "string", "enum": list(choices)},
        max_length=max(map(len, choices)),
        max_sent_length=_MAX_CHOICE_LENGTH,
    )


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
        unknown = (name for name in sent if name not in known)
        errors |= {_shown(name): UNKNOWN_FIELD for name in islice(unknown, MAX_UNKNOWN_NAMED)}
        if errors:
            raise Invalid(errors)
        return values

    @property
    def max_body_size(self) -> int:
        """Return the number of bytes of the largest body in which this form can be sent."""
        fields = (*self.required.values(), *self.optional.values())
        return _BYTES_AROUND + sum(_BYTES_PER_CHARACTER * each.max_sent_length for each in fields)

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


def _shown(name: str) -> str:
    """Return the beginning of a field's name as UTF-8 can encode it, for the error response."""
    return name[:MAX_NAME_SHOWN].encode("utf-8", "replace").decode("utf-8")
