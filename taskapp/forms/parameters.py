"""Parameters of URLs and headers: ids, status filter, page size, idempotency keys, versions."""

import re
from datetime import datetime

from schema.tables import IDEMPOTENCY_KEY_LENGTH
from taskapp.core.errors import BadRequest, Invalid
from taskapp.core.messages import Message
from taskapp.forms.fields import FieldError
from taskapp.forms.tasks import STATUS

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 100
IDEMPOTENCY_KEY_PATTERN = rf"^[!-~]{{1,{IDEMPOTENCY_KEY_LENGTH}}}$"  # visible ASCII
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE | re.ASCII)
_VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z", re.ASCII)


def read_id(text: str) -> str | None:
    """Return the id of a row in lower case, or None if the text is not a UUID."""
    return text.lower() if _UUID.fullmatch(text) else None


def read_status_filter(text: str | None) -> str | None:
    """Return the status that a list is filtered by, or None for all.

    Raises:
        Invalid: there is no such status.
    """
    if text is None:
        return None
    try:
        return STATUS.read(text)
    except FieldError as error:
        raise Invalid({"status": error.message}) from error


def read_limit(text: str | None) -> int:
    """Return the page size of a list.

    Raises:
        Invalid: the text is not a whole number from 1 to MAX_PAGE_SIZE.
    """
    if text is None:
        return DEFAULT_PAGE_SIZE
    if not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_PAGE_SIZE:
        raise Invalid(
            {"limit": Message("Must be an integer from 1 to %(limit)s", limit=MAX_PAGE_SIZE)}
        )
    return int(text)


def read_idempotency_key(text: str | None) -> str | None:
    """Return an idempotency key unchanged.

    Raises:
        BadRequest: it is not visible ASCII of at most IDEMPOTENCY_KEY_LENGTH characters.
    """
    if text is not None and not re.fullmatch(IDEMPOTENCY_KEY_PATTERN, text):
        raise BadRequest(
            Message(
                "Idempotency-Key must be 1 to %(limit)s visible ASCII characters.",
                limit=IDEMPOTENCY_KEY_LENGTH,
            )
        )
    return text


def is_version(text: str) -> bool:
    """Return whether a text is a task's version: an RFC 3339 timestamp in UTC that exists."""
    if _VERSION.fullmatch(text) is None:
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def read_number(text: str) -> int:
    """Return the number in a hidden field of a form; 0 if it is none."""
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else 0
