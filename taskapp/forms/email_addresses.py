"""What an email address is. Imported at first use: email-validator takes 50 ms."""

import unicodedata

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email

from schema.tables import EMAIL_LENGTH
from taskapp.core.messages import Message
from taskapp.forms.accounts import email_key
from taskapp.forms.fields import FieldError, require_length

# Nothing is ever sent to an address, so ada@home.local is valid here. email-validator's README
# allows special domains in this way.
SPECIAL_USE_DOMAIN_NAMES.clear()


def read_email(text: str) -> str:
    """Return an email address as it is shown, as `taskapp.forms.accounts` documents it."""
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
    typed_domain = unicodedata.normalize("NFC", address.original.rpartition("@")[2])
    # Anything else, such as Punycode or full-width letters, is shown in the domain's normal form.
    is_same = typed_domain.lower() == address.domain
    domain = typed_domain if is_same else address.domain
    shown = unicodedata.normalize("NFC", f"{address.local_part}@{domain}")
    require_length(email_key(shown), 3, EMAIL_LENGTH)  # one letter may be two in lower case
    return require_length(shown, 3, EMAIL_LENGTH)
