"""The account page: sessions, API tokens, the password, and the deletion of the account."""

import shlex
from typing import Any

from handlers.pages.base import PageHandler
from taskapp.auth.passwords import MIN_PASSWORD_LENGTH
from taskapp.core.errors import (
    Invalid,
    NotAuthenticated,
    SessionNotFound,
    TaskappError,
    TooManyRequests,
)
from taskapp.forms.accounts import TOKEN_LIFETIMES
from taskapp.forms.parameters import read_number
from taskapp.operations.access_checks import require_session
from taskapp.operations.account_deletion import finish_deletion
from taskapp.operations.account_self_service import (
    change_password,
    delete_account,
    end_other_sessions,
    end_session,
    load_account,
    load_summary,
)
from taskapp.operations.personal_tokens import create_token
from taskapp.queries.sessions import MAX_SESSIONS
from taskapp.queries.tasks import COUNT_LIMIT

_OTHERS = "others"  # in place of the id of one session


class AccountFormPage(PageHandler):
    """A form that needs the password, so it may be sent too often."""

    def render_form(self, template: str, error: TaskappError | None, **context: Any) -> None:
        """Render the form, with `Retry-After` if it was sent too often."""
        self.set_retry_after(error)
        super().render_form(template, error, **context)


class AccountPage(AccountFormPage):
    """/account."""

    async def get(self) -> None:
        """Render the account."""
        await self.render_account()

    async def render_account(self, error: TaskappError | None = None, *, form: str = "") -> None:
        """Render the account, with what is wrong with one of its forms and what was typed there."""
        account = await load_account(self.services, self.session)
        self.render_form(
            "account.html",
            error,
            form=form,
            account=account,
            max_sessions=MAX_SESSIONS,
            token_lifetimes=list(TOKEN_LIFETIMES),
            min_password_length=MIN_PASSWORD_LENGTH,
            values=self.read_form_lenient("name", "expires", "read_only"),
        )


class PasswordPage(AccountPage):
    """/account/password: a form of the account page."""

    _is_repeated = False

    async def get(self) -> None:
        """Redirect to the account, which has the form."""
        self.redirect_to("/account")

    async def check_form(self) -> None:
        """Accept the form that gave the session its secret, once more."""
        session = self.session
        _, secret_hash = self.services.signer.new_session_cookie(session.user_id, self.form_key)
        self._is_repeated = secret_hash == session.secret_hash
        if not self._is_repeated:
            await super().check_form()

    async def post(self) -> None:
        """Change the password, end all other sessions and revoke all API tokens."""
        if self._is_repeated:
            await require_session(self.services, self.session)
            self.redirect_to("/account", "password-changed")
            return
        sent = self.read_form("current_password", "new_password")
        new_cookie = self.services.signer.new_session_cookie
        try:
            changed = await change_password(
                self.services,
                self.session,
                sent,
                self.address,
                new_cookie,
                devices=self.read_devices(),
                form_key=self.form_key,
            )
        except (Invalid, TooManyRequests) as error:
            await self.render_account(error, form="password")
        else:
            self.begin_session(changed.token)
            self.remember_devices(changed.devices)
            self.redirect_to("/account", "password-changed")


class TokenListPage(AccountPage):
    """/account/tokens: a form of the account page."""

    async def get(self) -> None:
        """Redirect to the account, which has the form."""
        self.redirect_to("/account")

    async def post(self) -> None:
        """Create an API token, and render it this once."""
        sent = self.read_form("name", "expires", "read_only", "password")
        try:
            token = await create_token(
                self.services, self.session, sent, self.address, form_key=self.form_key
            )
        except (Invalid, TooManyRequests) as error:
            await self.render_account(error, form="token")
        else:
            header = f"Authorization: Bearer {token.text}"
            command = shlex.join(["curl", "-H", header, f"{self.site_url}/api/tasks"])
            self.render_page("token.html", token=token, command=command)


class ConfirmEndPage(AccountFormPage):
    """Asks for the password before a session ends."""

    async def render_confirmation(self, session_id: str, error: TaskappError | None = None) -> None:
        """Render the form for one session or token, or for all other sessions."""
        account = await load_account(self.services, self.session)
        session = account.require_session(session_id) if session_id != _OTHERS else None
        self.render_form(
            "end_session.html",
            error,
            account=account,
            session=session,
            values=self.read_form_lenient("tokens"),
        )


class SessionEndPage(ConfirmEndPage):
    """/account/sessions/:id/end: a session or a token."""

    async def get(self, session_id: str) -> None:
        """Ask for the password."""
        await self.render_confirmation(session_id)

    async def post(self, session_id: str) -> None:
        """End the session, or revoke the token."""
        sent = self.read_form("password", "kind")
        kind = sent.pop("kind", None)
        try:
            ended = await end_session(self.services, self.session, session_id, sent, self.address)
        except (Invalid, TooManyRequests) as error:
            await self.render_confirmation(session_id, error)
        except SessionNotFound:
            if kind is None:
                raise
            self._redirect_to_account(is_token=kind == "token")  # the form was sent twice
        else:
            self._redirect_to_account(is_token=bool(ended.tokens))

    def _redirect_to_account(self, *, is_token: bool) -> None:
        if is_token:
            self.redirect_to("/account#tokens", "token-revoked")
        else:
            self.redirect_to("/account", "session-ended")


class OtherSessionsEndPage(ConfirmEndPage):
    """/account/sessions/others/end."""

    async def get(self) -> None:
        """Ask for the password."""
        await self.render_confirmation(_OTHERS)

    async def post(self) -> None:
        """End all sessions but this one, and the tokens if that is wanted too."""
        sent = self.read_form("password", "tokens", "number")
        shown = read_number(sent.pop("number", ""))
        try:
            ended = await end_other_sessions(self.services, self.session, sent, self.address)
        except (Invalid, TooManyRequests) as error:
            await self.render_confirmation(_OTHERS, error)
        else:
            number = ended.sessions or shown  # none is left if the form was sent twice
            code = "all-ended" if "tokens" in sent else f"sessions-ended.{number}"
            self.redirect_to("/account", code)


class AccountDeletePage(AccountFormPage):
    """/account/delete."""

    async def get(self) -> None:
        """Ask for the password."""
        await self.render_confirmation()

    async def prepare(self) -> None:
        """Lead a form that is sent again to the page that the first one led to."""
        try:
            await super().prepare()
        except NotAuthenticated:
            await self._tell_of_deletion()

    async def post(self) -> None:
        """Delete the account with everything in it."""
        sent = self.read_form("password")
        try:
            is_complete = await delete_account(self.services, self.session, sent, self.address)
        except (Invalid, TooManyRequests) as error:
            await self.render_confirmation(error)
        except NotAuthenticated:
            await self._tell_of_deletion()
        else:
            self.end_session()
            self._redirect_to_login(is_complete=is_complete)

    async def _tell_of_deletion(self) -> None:
        """Redirect a form that was sent twice to where the first one led.

        Raises:
            NotAuthenticated: the account is not deleted, but the session has ended.
        """
        account = self.read_form_lenient("account").get("account", "")
        user_id = self.services.signer.read_account(account)
        is_complete = await finish_deletion(self.services, user_id) if user_id else None
        if is_complete is None:
            raise NotAuthenticated
        self._redirect_to_login(is_complete=is_complete)

    def _redirect_to_login(self, *, is_complete: bool) -> None:
        self.redirect_to("/login", "account-deleted" if is_complete else "account-closed")

    async def render_confirmation(self, error: TaskappError | None = None) -> None:
        """Render the form, with what is lost."""
        summary = await load_summary(self.services, self.session)
        self.render_form(
            "delete_account.html",
            error,
            summary=summary,
            count_limit=COUNT_LIMIT,
            signed_account=self.services.signer.sign_account(self.session.user_id),
        )
