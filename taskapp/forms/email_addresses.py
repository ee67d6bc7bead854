"""The normal form of an email address. Imported at first use: email-validator takes 50 ms."""

import unicodedata

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from schema.tables import EMAIL_LENGTH
from taskapp.core.messages import Message
from taskapp.forms.fields import FieldError, require_length

# Nothing is ever sent to an address, so ada@home.local is valid here. email-validator's README
# allows special domains in this way.
SPECIAL_USE_DOMAIN_NAMES.clear()


def normalize(text: str) -> str:
    """Return the normal form of an email address, as `taskapp.forms.accounts` documents it."""
    try:
        address = validate_email(
            text.strip(), check_deliverability=False, globally_deliverable=False
        )
    except EmailNotValidError as error:
        raise FieldError(
            Message("Must be a valid email address, such as name@example.com")
        ) from error
    if "." not in address.domain:
        raise FieldError(
            Message("The part after the @ must contain a dot, such as name@example.com")
        )
    normal = unicodedata.normalize(
        "NFC", unicodedata.normalize("NFC", address.normalized).casefold()
    )
    return require_length(normal, 3, EMAIL_LENGTH)
