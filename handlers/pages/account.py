"""The account page: sessions, tokens for scripts, the password, and the end of it all."""

from typing import Any

from handlers.pages.base import PageHandler
from taskapp.auth.passwords import MIN_PASSWORD_LENGTH
from taskapp.core.errors import Invalid, TooManyRequests
from taskapp.forms.accounts import TOKEN_LIFETIMES
from taskapp.operations.account_self_service import (
    change_password,
    delete_account,
    end_other_sessions,
    end_session,
    load_account,
    load_summary,
)
from taskapp.operations.personal_tokens import create_token
from taskapp.queries.tasks import COUNT_LIMIT

_OTHERS = "others"  # in place of the id of one session
_MAX_SESSIONS_SHOWN = 50  # sessions; a script that logs in each time may have begun thousands


class AccountForms(PageHandler):
    """What the pages with forms about the account have in common."""

    def error_context(self, refusal: Invalid | TooManyRequests | None) -> dict[str, Any]:
        """Give what a form shows of its refusal, and answer with its status."""
        self.set_retry_after(refusal)
        is_invalid = isinstance(refusal, Invalid)
        return {
            "status": refusal.status if refusal else 200,
            "errors": refusal.errors if isinstance(refusal, Invalid) else {},
            "problem": None if is_invalid else refusal,
        }


class AccountPage(AccountForms):
    """/account."""

    async def get(self) -> None:
        """Show the account."""
        await self.show_account()

    async def show_account(self, refusal: Invalid | TooManyRequests | None = None) -> None:
        """Show the account, with what is wrong with a form of it and what was typed there."""
        account = await load_account(self.services, self.session)
        self.show(
            "account.html",
            account=account,
            shown_sessions=account.sessions[:_MAX_SESSIONS_SHOWN],
            token_lives=list(TOKEN_LIFETIMES),
            min_password_length=MIN_PASSWORD_LENGTH,
            values=self.read_form_lenient("name", "expires", "read_only"),
            **self.error_context(refusal),
        )


class PasswordPage(AccountPage):
    """/account/password: a form of the account page."""

    async def get(self) -> None:
        """Show the account, in which the form is."""
        self.redirect_to("/account")

    async def post(self) -> None:
        """Set another password, and end all that the old one has opened but this session."""
        sent = self.read_form("current_password", "new_password")
        new_cookie = self.services.signer.new_session_cookie
        try:
            token = await change_password(
                self.services, self.session, sent, self.address, new_cookie
            )
        except (Invalid, TooManyRequests) as refusal:
            await self.show_account(refusal)
        else:
            self.begin_session(token)
            self.redirect_to("/account", "password-changed")


class TokenListPage(AccountPage):
    """/account/tokens: a form of the account page."""

    async def get(self) -> None:
        """Show the account, in which the form is."""
        self.redirect_to("/account")

    async def post(self) -> None:
        """Make a token, and show it this once."""
        sent = self.read_form("name", "expires", "read_only")
        try:
            token = await create_token(self.services, self.session, sent)
        except Invalid as refusal:
            await self.show_account(refusal)
        else:
            self.show("token.html", token=token)


class ConfirmEndPage(AccountForms):
    """Ask for the password before a session ends."""

    async def show_question(
        self, session_id: str, refusal: Invalid | TooManyRequests | None = None
    ) -> None:
        """Show the form for one of them, or for all others, with what is wrong with it."""
        account = await load_account(self.services, self.session)
        session = account.require_session(session_id) if session_id != _OTHERS else None
        self.show(
            "end_session.html", account=account, session=session, **self.error_context(refusal)
        )


class SessionEndPage(ConfirmEndPage):
    """/account/sessions/:id/end: a session or a token."""

    async def get(self, session_id: str) -> None:
        """Say which it is, and ask for the password."""
        await self.show_question(session_id)

    async def post(self, session_id: str) -> None:
        """End it."""
        sent = self.read_form("password")
        try:
            ended = await end_session(self.services, self.session, session_id, sent, self.address)
        except (Invalid, TooManyRequests) as refusal:
            await self.show_question(session_id, refusal)
        else:
            if ended.tokens:
                self.redirect_to("/account#tokens", "token-revoked")
            else:
                self.redirect_to("/account", "session-ended")


class OtherSessionsEndPage(ConfirmEndPage):
    """/account/sessions/others/end."""

    async def get(self) -> None:
        """Ask for the password."""
        await self.show_question(_OTHERS)

    async def post(self) -> None:
        """End all sessions but this one."""
        sent = self.read_form("password")
        try:
            number = await end_other_sessions(self.services, self.session, sent, self.address)
        except (Invalid, TooManyRequests) as refusal:
            await self.show_question(_OTHERS, refusal)
        else:
            self.redirect_to("/account", f"sessions-ended.{number}")


class AccountDeletePage(AccountPage):
    """/account/delete."""

    async def get(self) -> None:
        """Say what is lost, and ask for the password."""
        await self.show_question()

    async def post(self) -> None:
        """Delete the account with all that is in it."""
        sent = self.read_form("password")
        try:
            await delete_account(self.services, self.session, sent, self.address)
        except (Invalid, TooManyRequests) as refusal:
            await self.show_question(refusal)
        else:
            self.end_session()
            self.redirect_to("/login", "account-deleted")

    async def show_question(self, refusal: Invalid | TooManyRequests | None = None) -> None:
        """Show the form, with what is wrong with it."""
        overview = await load_summary(self.services, self.session)
        self.show(
            "delete_account.html",
            overview=overview,
            count_limit=COUNT_LIMIT,
            **self.error_context(refusal),
        )
