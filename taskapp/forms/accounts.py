"""What may be sent from the account page; read and refused as `taskapp.forms.fields` does."""

from datetime import timedelta
from functools import partial
from typing import Any

from schema.tables import TOKEN_NAME_LENGTH
from taskapp.core.messages import Message
from taskapp.forms.fields import (
    NEW_PASSWORD,
    PASSWORD,
    Field,
    FieldError,
    Form,
    read_choice,
    read_text,
    read_within,
)
from taskapp.forms.text_rules import is_visible

# For how long a personal token is good, by the word for it; None is for ever.
TOKEN_LIVES: dict[str, timedelta | None] = {
    "30": timedelta(days=30),
    "90": timedelta(days=90),
    "365": timedelta(days=365),
    "never": None,
}


def _read_token_name(value: Any) -> str:
    name = read_text(value).strip()
    if not is_visible(name):
        raise FieldError(Message("A token needs a name."))
    return read_within(name, 1, TOKEN_NAME_LENGTH)


def _choice(*choices: str) -> Field:
    return Field(partial(read_choice, choices=choices), {"type": "string", "enum": list(choices)})


PASSWORD_CHANGE = Form(
    "PasswordChange", {"current_password": PASSWORD, "new_password": NEW_PASSWORD}, {}
)
CONFIRMATION = Form("Confirmation", {"password": PASSWORD}, {})
NEW_TOKEN = Form(
    "NewToken",
    {
        "name": Field(_read_token_name, {"type": "string", "maxLength": TOKEN_NAME_LENGTH}),
        "expires": _choice(*TOKEN_LIVES),
    },
    {"read_only": _choice("yes")},
)
