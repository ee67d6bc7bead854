"""Register, log in and log out, for people."""

from typing import Any, ClassVar
from urllib.parse import urlencode

from handlers.pages.base import Draft, PageHandler, is_path_of_this_site
from taskapp.auth.passwords import MIN_PASSWORD_LENGTH
from taskapp.core.errors import Invalid, RegistrationClosed, TaskappError
from taskapp.operations.accounts import log_in, log_out, register
from taskapp.queries.sessions import find_session_user

_ASKED = ("email", "password")
_DRAFT_PREFIX = "draft_"
_DRAFT_FIELDS = ("title", "description", "titles", "status", "key", "version")


class CredentialsPage(PageHandler):
    """A form that asks for an e-mail address and a password.

    Whatever goes wrong when it is sent, it is shown again, with the address that was typed.
    """

    is_public = True
    template: ClassVar[str]

    def show_form(
        self,
        values: dict[str, str],
        errors: dict[str, str],
        *,
        problem: TaskappError | None = None,
        status: int = 200,
    ) -> None:
        """Show the form, with what was typed and what is wrong with it."""
        more = self.more_values()
        self.show(self.template, status, values=values, errors=errors, problem=problem, **more)

    def more_values(self) -> dict[str, Any]:
        """Give what the template needs besides the form's fields."""
        return {}

    def render_error(self, error: TaskappError) -> None:
        """Show the form again with what went wrong."""
        if self.request.method != "POST" or isinstance(error, RegistrationClosed):
            super().render_error(error)
            return
        if error.status == 401:
            # RFC 9110, 15.5.2 wants the header; browsers do not know the scheme.
            self.set_header("WWW-Authenticate", 'Cookie realm="taskapp"')
        self.show_form(self.read_form_lenient("email"), {}, problem=error, status=error.status)

    async def is_logged_in(self) -> bool:
        """Tell whether the browser's session is alive; take it from the browser if it is over."""
        if self.session_token is None:
            return False
        if await find_session_user(self.services.database, self.session_token.secret_hash) is None:
            self.end_session()
        return self.session_token is not None


class RegisterPage(CredentialsPage):
    """/register."""

    template = "register.html"

    async def get(self) -> None:
        """Show the form; somebody who is logged in has an account already."""
        if await self.is_logged_in():
            self.redirect_to("/tasks")
            return
        if self.services.settings.registration == "closed":
            raise RegistrationClosed
        self.show_form({}, {})

    async def post(self) -> None:
        """Make an account, or show the form again with what is wrong."""
        sent = self.read_form(*_ASKED)
        try:
            await register(self.services, sent, self.address)
        except Invalid as error:
            self.show_form(sent, error.errors, status=error.status)
        else:
            self.redirect_to("/login", "registered")

    def more_values(self) -> dict[str, Any]:
        """Give what the template needs besides the form's fields."""
        return {"min_password_length": MIN_PASSWORD_LENGTH}


class LoginPage(CredentialsPage):
    """/login. Carries a path to go on to, or a text that was typed before the session ended."""

    template = "login.html"

    async def get(self) -> None:
        """Show the form; somebody who is logged in goes on at once."""
        if await self.is_logged_in():
            self._go_on()
        else:
            self.show_form({}, {})

    async def post(self) -> None:
        """Begin a session and go on; or show the form again with what is wrong."""
        sent = self.read_form(*_ASKED)
        try:
            login = await log_in(
                self.services,
                sent,
                self.address,
                self.services.signer.new_session_cookie,
                user_agent=self.user_agent,
            )
        except Invalid as error:
            self.show_form(sent, error.errors, status=error.status)
        else:
            await self._end_session_before()
            self.begin_session(login.token)
            self._go_on()

    @property
    def current_path(self) -> str:
        """Give the address of this page, with where it leads on to."""
        wanted = self._wanted()
        return super().current_path + (f"?{urlencode({'next': wanted})}" if wanted else "")

    def more_values(self) -> dict[str, Any]:
        """Give what the template needs besides the form's fields."""
        return {"next": self._wanted(), "draft": self._read_kept_draft()}

    async def _end_session_before(self) -> None:
        """End the session that the browser had, so that no forgotten one stays alive."""
        if self.session_token is not None:
            await log_out(self.services, self.session_token)

    def _go_on(self) -> None:
        draft = self._read_kept_draft()
        if draft is not None:
            self.show("resume.html", draft=draft)
            return
        self.redirect_to(self.local_path(self._wanted()) or "/tasks")

    def _wanted(self) -> str:
        wanted = self.read_form_lenient("next").get("next") or self.read_query("next")
        return wanted if is_path_of_this_site(wanted) else ""

    def _read_kept_draft(self) -> Draft | None:
        kept = self.read_form_lenient(
            "draft_action", *(_DRAFT_PREFIX + name for name in _DRAFT_FIELDS)
        )
        action = kept.pop("draft_action", "")
        tasks = self.application.path("/tasks")
        path = action.partition("?")[0]
        if not is_path_of_this_site(action) or not f"{path}/".startswith(f"{tasks}/"):
            return None
        return Draft(
            action, {name.removeprefix(_DRAFT_PREFIX): value for name, value in kept.items()}
        )


class LogoutPage(PageHandler):
    """/logout."""

    is_public = True

    def check_form(self) -> None:
        """Ask for no proof where there is no session to end: a second click is no error."""
        if self.session_token is not None:
            super().check_form()

    async def post(self) -> None:
        """End the session, here and in the database.

        Another site's form comes without the cookie (SameSite), and so may not take it away.
        """
        if self.session_token is not None:
            await log_out(self.services, self.session_token)
            self.end_session()
        self.redirect_to("/login", "logged-out")
