"""What may be sent: declared once, for checking it and for describing it in OpenAPI.

A form is a pure function from what was sent to what is meant; it raises one `Invalid` with a
message for each field that is wrong.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schema.tables import (
    DESCRIPTION_LENGTH,
    EMAIL_LENGTH,
    IDEMPOTENCY_KEY_LENGTH,
    STATUSES,
    TITLE_LENGTH,
)
from taskapp.auth.passwords import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH
from taskapp.core.errors import BadRequest, Invalid
from taskapp.core.messages import Message
from taskapp.forms.text_rules import (
    INVISIBLE,
    STORABLE,
    is_storable,
    is_visible,
    trimmed_within,
)

JsonSchema = dict[str, Any]
DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100

REQUIRED = Message("This is needed.")
NOT_TEXT = Message("This has to be text.")
NOT_STORABLE = Message(
    "This holds characters that cannot be stored (NUL, or half of a surrogate pair)."
)
UNKNOWN_FIELD = Message("There is no such field.")
WEAK_PASSWORD = Message("This password is easily guessed. Make it longer, or add a word or two.")


class FieldError(ValueError):  # it is the message beside a field
    """What was sent for one field cannot be accepted; the message says why."""

    def __init__(self, message: Message) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Field:
    """One field: how it is read, and what OpenAPI says of it."""

    read: Callable[[Any], str]
    schema: JsonSchema


def read_text(value: Any) -> str:
    """Read a text that can be stored, or raise Refused."""
    if not isinstance(value, str):
        raise FieldError(NOT_TEXT)
    if not is_storable(value):
        raise FieldError(NOT_STORABLE)
    return value


def read_within(value: str, low: int, high: int) -> str:
    """Read a text of so many characters, or raise Refused."""
    if len(value) < low:
        raise FieldError(Message("At least %(limit)s characters are needed.", limit=low))
    if len(value) > high:
        raise FieldError(
            Message(
                "At most %(limit)s characters are possible; this has %(length)s.",
                limit=high,
                length=len(value),
            )
        )
    return value


def _read_title(value: Any) -> str:
    title = read_text(value).strip()
    if not is_visible(title):
        raise FieldError(Message("A task needs a title."))
    return read_within(title, 1, TITLE_LENGTH)


def _read_description(value: Any) -> str:
    return read_within(read_text(value), 0, DESCRIPTION_LENGTH)


def read_choice(value: Any, choices: Sequence[str]) -> str:
    """Read one of a few words, or raise Refused."""
    if value not in choices:
        raise FieldError(
            Message("This has to be one of these: %(choices)s.", choices=", ".join(choices))
        )
    return str(value)


def _read_status(value: Any) -> str:
    return read_choice(value, STATUSES)


def normalize_email(value: str) -> str:
    """Give the one form of an e-mail address under which its account is kept.

    Raises:
        Refused: it is not an e-mail address.
    """
    # It is imported when it is first needed, for the process has to start without delay.
    from email_validator import (  # noqa: PLC0415  # see above
        SPECIAL_USE_DOMAIN_NAMES,
        EmailNotValidError,
        validate_email,
    )

    # Nothing is ever sent there, so ada@home.local is as good as any; the library wants it so.
    SPECIAL_USE_DOMAIN_NAMES.clear()
    try:
        address = validate_email(
            value.strip(), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise FieldError(
            Message("This is not an e-mail address, such as name@example.com.")
        ) from error
    if "." not in address.domain:
        raise FieldError(Message("The part behind the @ needs a dot, such as name@example.com."))
    normal = unicodedata.normalize(
        "NFC", unicodedata.normalize("NFC", address.normalized).casefold()
    )
    return read_within(normal, 3, EMAIL_LENGTH)


def _read_email(value: Any) -> str:
    text = read_text(value)
    if not text.strip():
        raise FieldError(REQUIRED)
    return normalize_email(text)


def _read_new_password(value: Any) -> str:
    return read_within(read_text(value), MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH)


def _read_password(value: Any) -> str:
    """Read a password that is compared: whatever it is, it may be right."""
    password = read_text(value)
    if not password:
        raise FieldError(REQUIRED)
    return password


TITLE = Field(
    _read_title,
    {
        "type": "string",
        "minLength": 1,
        "pattern": f"^{trimmed_within(TITLE_LENGTH)}$",
        # Not in the pattern: that would need a look-ahead, which RE2 does not have.
        "not": {"pattern": f"^{INVISIBLE}$"},
        "description": f"Title of the task: at most {TITLE_LENGTH} characters, at least one of "
        "them visible. Spaces around it are removed and not counted.",
    },
)
DESCRIPTION = Field(
    _read_description,
    {
        "type": "string",
        "maxLength": DESCRIPTION_LENGTH,
        "pattern": f"^{STORABLE}$",
        "description": f"Details of the task: at most {DESCRIPTION_LENGTH:,} characters, which "
        "are kept as sent.",
    },
)
STATUS = Field(_read_status, {"type": "string", "enum": list(STATUSES)})
EMAIL = Field(
    _read_email,
    {
        "type": "string",
        "format": "email",
        "minLength": 3,
        "maxLength": EMAIL_LENGTH,
        "description": "Email address of the account. Upper and lower case are the same.",
    },
)
NEW_PASSWORD = Field(
    _read_new_password,
    {
        "type": "string",
        "format": "password",
        "minLength": MIN_PASSWORD_LENGTH,
        "maxLength": MAX_PASSWORD_LENGTH,
        "pattern": f"^{STORABLE}$",
        "description": f"New password: {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters "
        "of any kind. A password that is easy to guess is rejected.",
    },
)
PASSWORD = Field(
    _read_password,
    {
        "type": "string",
        "format": "password",
        "minLength": 1,
        "pattern": f"^{STORABLE}$",
        "description": "Password of the account.",
    },
)


@dataclass(frozen=True)
class Form:
    """The fields that a request may have.

    `ignored` names fields that may come along, because an answer had them, and mean nothing.
    """

    name: str
    required: Mapping[str, Field]
    optional: Mapping[str, Field]
    ignored: tuple[str, ...] = ()

    def read(self, sent: Mapping[str, Any]) -> dict[str, str]:
        """Check what was sent and give what it means; absent fields stay absent.

        Raises:
            Invalid: with a message for each field that is wrong, missing or unknown.
        """
        errors: dict[str, str] = {}
        values: dict[str, str] = {}
        for name, field in (*self.required.items(), *self.optional.items()):
            if name in sent:
                try:
                    values[name] = field.read(sent[name])
                except FieldError as refusal:
                    errors[name] = refusal.message
            elif name in self.required:
                errors[name] = REQUIRED
        known = {*self.required, *self.optional, *self.ignored}
        errors |= {_showable(name): UNKNOWN_FIELD for name in sent if name not in known}
        if errors:
            raise Invalid(errors)
        return values

    def schema(self) -> JsonSchema:
        """Describe the form as a JSON Schema (2020-12), as OpenAPI 3.1 has it."""
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


def _showable(name: str) -> str:
    """Give a name that was sent in a form that can be sent back."""
    return name.encode("utf-8", "replace").decode("utf-8")


READ_ONLY = ("id", "createdAt", "updatedAt")
REGISTRATION = Form("Registration", {"email": EMAIL, "password": NEW_PASSWORD}, {})
LOGIN = Form("Login", {"email": EMAIL, "password": PASSWORD}, {})
NEW_TASK = Form(
    "TaskCreate", {"title": TITLE}, {"description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
TASK_CHANGES = Form(
    "TaskUpdate", {}, {"title": TITLE, "description": DESCRIPTION, "status": STATUS}, READ_ONLY
)
STATUS_CHANGE = Form("StatusChange", {"status": STATUS}, {})

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
IDEMPOTENCY_KEY_PATTERN = rf"^[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}$"  # visible ASCII
_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def read_id(text: str) -> str | None:
    """Read the id of a row; None for what cannot be one."""
    return text.lower() if _UUID.fullmatch(text) else None


def read_status_filter(text: str | None) -> str | None:
    """Read the `status` of a list; None for all.

    Raises:
        Invalid: there is no such status.
    """
    if text is None:
        return None
    try:
        return _read_status(text)
    except FieldError as refusal:
        raise Invalid({"status": refusal.message}) from refusal


def read_limit(text: str | None) -> int:
    """Read how many rows a page of a list has.

    Raises:
        Invalid: it is not a whole number from 1 to MAX_PAGE_SIZE.
    """
    if text is None:
        return DEFAULT_PAGE_SIZE
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise Invalid(
            {
                "limit": Message(
                    "This has to be a whole number from 1 to %(limit)s.", limit=MAX_PAGE_SIZE
                )
            }
        )
    return int(text)


def read_idempotency_key(text: str | None) -> str | None:
    """Read an idempotency key: visible ASCII characters.

    Raises:
        BadRequest: it is anything else.
    """
    if text is not None and not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, text):
        raise BadRequest(
            Message(
                "Idempotency-Key has to be 1 to %(limit)s visible ASCII characters.",
                limit=IDEMPOTENCY_KEY_LENGTH,
            )
        )
    return text


def is_version(text: str) -> bool:
    """Tell whether a text has the form of a task's version: a moment that there is."""
    if _VERSION.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
