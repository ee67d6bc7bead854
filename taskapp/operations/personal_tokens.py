"""Personal tokens, which scripts use instead of a password."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from taskapp.auth.signing import SessionToken
from taskapp.core.errors import Invalid
from taskapp.core.messages import Message
from taskapp.db.database import Transaction
from taskapp.forms.accounts import NEW_TOKEN, TOKEN_LIFETIMES
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_writer
from taskapp.operations.account_self_service import require_password
from taskapp.operations.form_sessions import make_session_of_form
from taskapp.queries.personal_tokens import find_token_by_name, insert_token
from taskapp.queries.sessions import find_session_user
from taskapp.services import Services

MAX_TOKENS = 50  # of one account


@dataclass(frozen=True)
class NewToken:
    """A created token: its name, and its text, which is shown only once."""

    text: str
    name: str


async def create_token(
    services: Services,
    session: SessionToken,
    sent: Mapping[str, Any],
    address: str,
    *,
    form_key: str = "",
) -> NewToken:
    """Create a personal token; the same form creates the same one if it is sent twice.

    Raises:
        Invalid: a field is not valid, the password is wrong, the name is taken, or there are
            MAX_TOKENS already.
        NotAuthenticated: the session has ended.
        TooManyRequests: too many attempts from the IP address, or for the account, have failed.
        Unavailable: too many passwords are waiting to be hashed, or the database is down.
    """
    fields = NEW_TOKEN.read(sent)
    name = fields["name"]
    await require_password(services, session, fields.pop("password"), address)
    text, secret_hash = await make_session_of_form(
        services,
        services.signer.new_personal_token,
        session.user_id,
        form_key and f"{form_key} {fields}",
    )

    async def insert(transaction: Transaction) -> str | None:
        return await insert_token(
            transaction,
            session,
            secret_hash,
            name=name,
            lifetime=TOKEN_LIFETIMES[fields["expires"]],
            is_read_only="read_only" in fields,
            max_tokens=MAX_TOKENS,
        )

    token_id = await services.database.transaction("sessions.create_token", insert)
    if token_id is None:
        if await find_session_user(services.database, secret_hash) == session.user_id:
            return NewToken(text, name)  # the form was sent twice
        raise await _explain_refusal(services, session, name)
    log("token.created", userId=session.user_id, sessionId=token_id)
    return NewToken(text, name)


async def _explain_refusal(services: Services, session: SessionToken, name: str) -> Invalid:
    if await find_token_by_name(services.database, session, name):
        return Invalid({"name": Message("You already have a token with this name")})
    await require_writer(services, session)
    return Invalid(
        {
            "name": Message(
                "You can have at most %(limit)s tokens. Revoke one first.", limit=MAX_TOKENS
            )
        }
    )
