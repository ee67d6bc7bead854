"""The pages on which people register, log in and log out."""

import re
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import urlencode

from handlers.pages.base import Draft, PageHandler, is_path_of_this_site
from taskapp.auth.passwords import MIN_PASSWORD_LENGTH
from taskapp.core.errors import (
    EmailTaken,
    Invalid,
    RegistrationClosed,
    TaskappError,
    TooManyRequests,
)
from taskapp.forms.accounts import EMAIL, REGISTRATION
from taskapp.operations.accounts import (
    Registration,
    find_own_registration,
    is_session_of,
    log_in,
    log_out,
    register,
)
from taskapp.queries.sessions import find_session_user

_CREDENTIALS = ("email", "password")
_DRAFT_PREFIX = "draft_"
_FORM_WITH_TEXT = re.compile("/tasks(/several|/[0-9A-Fa-f-]{36}/edit)?")  # a path of a form
_DRAFT_FIELDS = ("title", "description", "titles", "key", "version", "given")


class CredentialsPage(PageHandler):
    """A form with an email address and a password.

    Any error is rendered in the form, with the address that was typed.
    """

    is_public = True
    takes_stale_forms = True
    template: ClassVar[str]
    has_session_ended = False  # it has, since the browser was here last

    @property
    def is_loaded_again(self) -> bool:
        """Return whether our script asks: it leaves the list for this page."""
        return self.request.headers.get("Sec-Fetch-Dest") == "empty"

    def render_credentials(self, values: dict[str, str], error: TaskappError | None = None) -> None:
        """Render the form with what was typed and what is wrong."""
        # A page need not repeat what is too long for an address of anybody.
        shown = {name: text for name, text in values.items() if len(text) <= EMAIL.max_sent_length}
        self.render_form(self.template, error, values=shown, **self.template_context())

    def template_context(self) -> dict[str, Any]:
        """Return what the template needs besides the fields and their errors."""
        return {}

    def render_error(self, error: TaskappError) -> None:
        """Render the form again if it was sent, else an error page."""
        is_shown = self.request.method == "POST" and not self.is_foreign_form
        if not is_shown or isinstance(error, RegistrationClosed):
            super().render_error(error)
        else:
            self.render_credentials(self.read_form_lenient("email"), error)

    async def is_logged_in(self) -> bool:
        """Return whether the browser's session is alive; remove its cookie if it has ended."""
        session = self.session_token
        if session is None:
            return False
        if await find_session_user(self.services.database, session.secret_hash) is None:
            self.end_session()
            self.has_session_ended = True
            if self.is_loaded_again:
                self.set_site_cookie("flash", "session-over")
        return self.session_token is not None


class RegisterPage(CredentialsPage):
    """/register."""

    template = "register.html"
    max_body_size = REGISTRATION.max_body_size

    async def get(self) -> None:
        """Render the form; a user who is logged in has an account already."""
        if await self.is_logged_in():
            self.redirect_to("/tasks")
            return
        if self.services.settings.registration == "closed":
            raise RegistrationClosed
        self.render_credentials({})

    async def post(self) -> None:
        """Create an account, or render the form with what is wrong."""
        sent = self.read_form(*_CREDENTIALS)
        try:
            created = await self._register_once(sent)
        except Invalid as error:
            self.render_credentials(sent, error)
        else:
            self.remember_devices(created.devices)
            email = self.services.signer.sign_new_email(sent["email"].strip())
            self.redirect_to("/login", f"registered.{email}")

    async def _register_once(self, sent: dict[str, str]) -> Registration:
        """Create an account, or return the one that the same form has just created."""
        devices = self.read_devices()
        try:
            return await register(
                self.services, sent, self.address, devices=devices, form_key=self.form_key
            )
        except (EmailTaken, TooManyRequests):
            created = await find_own_registration(
                self.services, sent, self.address, devices=devices, form_key=self.form_key
            )
            if created is None:
                raise
            return created

    def template_context(self) -> dict[str, Any]:
        """Return the length that the hint beside the password names."""
        return {"min_password_length": MIN_PASSWORD_LENGTH}


class LoginPage(CredentialsPage):
    """/login. Keeps a path to continue at, or what was typed before the session ended."""

    template = "login.html"
    _is_repeated = False  # by a user who is logged in already

    async def get(self) -> None:
        """Render the form; a user who is logged in continues at once."""
        if await self.is_logged_in():
            self._continue()
        else:
            self.render_credentials({"email": self._new_email} if self._new_email else {})

    @cached_property
    def _new_email(self) -> str | None:
        """Return the address of the account that this browser has just created."""
        code, _, signed = (self.read_cookie("flash") or "").partition(".")
        is_new = code == "registered" and self.is_safe()
        return self.services.signer.read_new_email(signed) if is_new else None

    async def check_form(self) -> None:
        """Accept a form that was open while the same user logged in by another one."""
        if self.session_token is not None and not self.has_valid_csrf_token():
            email = self.read_form_lenient("email").get("email", "")
            self._is_repeated = await is_session_of(self.services, self.session_token, email)
        if not self._is_repeated:
            await super().check_form()

    async def post(self) -> None:
        """Begin a session and continue, or render the form with what is wrong."""
        if self._is_repeated:
            self._continue()
            return
        sent = self.read_form(*_CREDENTIALS)
        try:
            login = await log_in(
                self.services,
                sent,
                self.address,
                self.services.signer.new_session_cookie,
                user_agent=self.user_agent,
                devices=self.read_devices(),
                form_key=self.form_key,
            )
        except Invalid as error:
            self.render_credentials(sent, error)
        else:
            # The session that the browser had before would stay alive without a cookie.
            if self.session_token is not None:
                await log_out(self.services, self.session_token)
            self.begin_session(login.token)
            self.remember_devices(login.devices)
            self._continue()

    @property
    def current_path(self) -> str:
        """Return the address of this page with the path to continue at."""
        next_path = self._read_next_path()
        return super().current_path + (f"?{urlencode({'next': next_path})}" if next_path else "")

    def template_context(self) -> dict[str, Any]:
        """Return what the form keeps over the login."""
        return {
            "next": self._read_next_path(),
            "draft": self._read_kept_draft(),
            "has_session_ended": self.has_session_ended,
            "is_registered": self._new_email is not None,
        }

    def _continue(self) -> None:
        draft = self._read_kept_draft()
        if draft is not None and self._is_own(draft):
            self.render_page("resume.html", draft=draft)
            return
        self.redirect_to(self.local_path(self._read_next_path()) or "/tasks")

    def _is_own(self, draft: Draft) -> bool:
        """Return whether the user who is logged in now typed a text, or its address has it."""
        mark = self.services.signer.account_mark(self.session.user_id)
        return draft.account == mark or "given" in draft.fields

    def _read_next_path(self) -> str:
        path = self.read_form_lenient("next").get("next") or self.read_query("next")
        return path if is_path_of_this_site(path) else ""

    def _read_kept_draft(self) -> Draft | None:
        kept = self.read_form_lenient(
            "draft_action", "draft_account", *(_DRAFT_PREFIX + name for name in _DRAFT_FIELDS)
        )
        action = kept.pop("draft_action", "")
        account = kept.pop("draft_account", "")
        path = self.local_path(action)
        if path is None or not _FORM_WITH_TEXT.fullmatch(path.partition("?")[0]):
            return None
        return Draft(
            action,
            {name.removeprefix(_DRAFT_PREFIX): value for name, value in kept.items()},
            account,
        )


class LogoutPage(PageHandler):
    """/logout."""

    is_public = True
    takes_stale_forms = True

    async def check_form(self) -> None:
        """Require no CSRF token where there is no session to end: a second click is no error."""
        if self.session_token is not None:
            await super().check_form()

    async def post(self) -> None:
        """End the session in the browser and in the database."""
        if self.session_token is not None:
            await log_out(self.services, self.session_token)
            self.end_session()
            self.remove_site_cookie("csrf")  # a login form from before begins no session anew
        self.redirect_to("/login", "logged-out")
