"""The forms of registration, login and the account page."""

import unicodedata
from datetime import timedelta
from typing import Any

from schema.tables import EMAIL_LENGTH, TOKEN_NAME_LENGTH
from taskapp.auth.passwords import (
    MAX_PASSWORD_LENGTH,
    MIN_PASSWORD_LENGTH,
    normalize_password,
)
from taskapp.core.messages import Message
from taskapp.forms.fields import (
    REQUIRED,
    SENT_PER_KEPT,
    Field,
    FieldError,
    Form,
    choice,
    read_text,
    require_length,
)
from taskapp.forms.text_rules import STORABLE, as_shown

WEAK_PASSWORD = Message("This password is too easy to guess. Make it longer or add a word or two.")

# The lifetime of a personal token, by the value of the form field; None is unlimited.
TOKEN_LIFETIMES: dict[str, timedelta | None] = {
    "30": timedelta(days=30),
    "90": timedelta(days=90),
    "365": timedelta(days=365),
    "never": None,
}


def read_email(text: str) -> str:
    """Return an email address as it is shown: as typed, composed (NFC), its domain in Unicode.

    Raises:
        FieldError: it is not an email address.
    """
    from taskapp.forms import email_addresses  # noqa: PLC0415  # 50 ms that the start need not take

    return email_addresses.read_email(text)


def email_key(email: str) -> str:
    """Return what makes an account of an email address: only upper and lower case are the same.

    Not `casefold`, which is made for searching: it turns other letters into each other (ADR 0046).
    """
    return unicodedata.normalize("NFC", email.lower())


def folded_email_key(email: str) -> str:
    """Return the key under which earlier versions stored an email address.

    It is the same for all addresses with the same `email_key`.
    """
    return unicodedata.normalize("NFC", email.casefold())


def _read_email(value: Any) -> str:
    text = read_text(value)
    if not text.strip():
        raise FieldError(REQUIRED)
    return read_email(text)


def _read_new_password(value: Any) -> str:
    password = normalize_password(read_text(value))
    return require_length(password, MIN_PASSWORD_LENGTH, MAX_PASSWORD_LENGTH)


def _read_password(value: Any) -> str:
    """Return an existing password; the rules for new ones do not apply to it."""
    password = read_text(value)
    if not password:
        raise FieldError(REQUIRED)
    return password


def _read_token_name(value: Any) -> str:
    name = as_shown(read_text(value))
    if not name:
        raise FieldError(Message("Name is required"))
    return require_length(name, 1, TOKEN_NAME_LENGTH)


EMAIL = Field(
    _read_email,
    {
        "type": "string",
        "format": "email",
        "minLength": 3,
        "maxLength": EMAIL_LENGTH,
        "description": "Email address of the account. Upper and lower case are the same.",
    },
    max_length=EMAIL_LENGTH,
    max_sent_length=SENT_PER_KEPT * EMAIL_LENGTH,
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
    max_length=MAX_PASSWORD_LENGTH,
    max_sent_length=MAX_PASSWORD_LENGTH,
)
PASSWORD = Field(
    _read_password,
    {
        "type": "string",
        "format": "password",
        "minLength": 1,
        "maxLength": SENT_PER_KEPT * MAX_PASSWORD_LENGTH,
        "pattern": f"^{STORABLE}$",
        "description": "Password of the account.",
    },
    max_length=MAX_PASSWORD_LENGTH,
    max_sent_length=SENT_PER_KEPT * MAX_PASSWORD_LENGTH,
)

REGISTRATION = Form("Registration", {"email": EMAIL, "password": NEW_PASSWORD}, {})
LOGIN = Form("Login", {"email": EMAIL, "password": PASSWORD}, {})
PASSWORD_CHANGE = Form(
    "PasswordChange", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}, {}
)
CONFIRMATION = Form("Confirmation", {"password": PASSWORD}, {})
END_OF_OTHERS = Form("EndOfOthers", {"password": PASSWORD}, {"tokens": choice("yes")})
NEW_TOKEN = Form(
    "NewToken",
    {
        "name": Field(
            _read_token_name,
            {"type": "string", "maxLength": TOKEN_NAME_LENGTH},
            max_length=TOKEN_NAME_LENGTH,
            max_sent_length=SENT_PER_KEPT * TOKEN_NAME_LENGTH,
        ),
        "expires": choice(*TOKEN_LIFETIMES),
        "password": PASSWORD,
    },
    {"read_only": choice("yes")},
)
