"""Register, log in and log out, for people."""

from handlers.pages import Draft, PageHandler, is_path_of_this_site
from taskapp.errors import (
    FormNotTrusted,
    Invalid,
    RegistrationClosed,
    TaskappError,
    TooManyRequests,
    Unavailable,
    WrongCredentials,
)
from taskapp.operations.accounts import log_in, log_out, register
from taskapp.passwords import MINIMUM_LENGTH

_ASKED = ("email", "password")
_DRAFT_PREFIX = "draft_"
_DRAFT_FIELDS = ("title", "description", "status", "key", "version")


class RegisterPage(PageHandler):
    """/register."""

    is_public = True

    async def get(self) -> None:
        """Show the form."""
        if self.services.settings.registration == "closed":
            raise RegistrationClosed
        self._show_form({}, {})

    async def post(self) -> None:
        """Make an account, or show the form again with what is wrong."""
        sent = self.read_form(*_ASKED)
        try:
            await register(self.services, sent, self.address)
        except Invalid as error:
            self._show_form(sent, error.errors, status=error.status)
        except (TooManyRequests, Unavailable) as error:
            self._show_form(sent, {}, problem=error, status=error.status)
        else:
            self.go("/login", "registered")

    def show_error(self, error: TaskappError) -> None:
        """Show the form again when only its proof of origin was missing."""
        if isinstance(error, FormNotTrusted):
            self._show_form(self.read_form("email"), {}, problem=error, status=error.status)
        else:
            super().show_error(error)

    def _show_form(
        self,
        values: dict[str, str],
        errors: dict[str, str],
        *,
        problem: TaskappError | None = None,
        status: int = 200,
    ) -> None:
        self.ask_to_wait(problem)
        self.show(
            "register.html",
            status,
            values=values,
            errors=errors,
            problem=problem,
            minimum_length=MINIMUM_LENGTH,
        )


class LoginPage(PageHandler):
    """/login. Carries a path to go on to, or a text that was typed before the session ended."""

    is_public = True

    async def get(self) -> None:
        """Show the form."""
        self._show_form({}, {})

    async def post(self) -> None:
        """Begin a session and go on; or show the form again with what is wrong."""
        sent = self.read_form(*_ASKED)
        try:
            login = await log_in(self.services, sent, self.address, self.services.tokens.new_cookie)
        except Invalid as error:
            self._show_form(sent, error.errors, status=error.status)
        except (WrongCredentials, TooManyRequests, Unavailable) as error:
            self._show_form(sent, {}, problem=error, status=error.status)
        else:
            await self._end_session_before()
            self.begin_session(login.token)
            self._go_on()

    def show_error(self, error: TaskappError) -> None:
        """Show the form again when only its proof of origin was missing."""
        if isinstance(error, FormNotTrusted):
            self._show_form(self.read_form("email"), {}, problem=error, status=error.status)
        else:
            super().show_error(error)

    async def _end_session_before(self) -> None:
        """End the session that the browser had, so that no forgotten one stays alive."""
        if self.owner is not None:
            await log_out(self.services, self.owner)
            self.owner = None

    def _go_on(self) -> None:
        draft = self._read_kept_draft()
        if draft is not None:
            self.show("resume.html", draft=draft, problem=None)
            return
        wanted = self._wanted()
        base = self.services.settings.base_path
        self.go(wanted.removeprefix(base) if wanted.startswith(f"{base}/") else "/tasks")

    def _wanted(self) -> str:
        wanted = self.read_form("next").get("next", "") or self.query("next") or ""
        return wanted if is_path_of_this_site(wanted) else ""

    def _read_kept_draft(self) -> Draft | None:
        kept = self.read_form("draft_action", *(_DRAFT_PREFIX + name for name in _DRAFT_FIELDS))
        action = kept.pop("draft_action", "")
        tasks = self.application.path("/tasks")
        if not is_path_of_this_site(action) or not (action + "/").startswith(f"{tasks}/"):
            return None
        return Draft(
            action, {name.removeprefix(_DRAFT_PREFIX): value for name, value in kept.items()}
        )

    def _show_form(
        self,
        values: dict[str, str],
        errors: dict[str, str],
        *,
        problem: TaskappError | None = None,
        status: int = 200,
    ) -> None:
        self.ask_to_wait(problem)
        if status == 401:
            # RFC 9110, 15.5.2 wants the header; browsers do not know the scheme.
            self.set_header("WWW-Authenticate", 'Cookie realm="taskapp"')
        self.show(
            "login.html",
            status,
            values=values,
            errors=errors,
            problem=problem,
            next=self._wanted(),
            draft=self._read_kept_draft(),
        )


class LogoutPage(PageHandler):
    """/logout."""

    is_public = True

    async def post(self) -> None:
        """End the session, here and in the database."""
        if self.owner is not None:
            await log_out(self.services, self.owner)
        self.end_session()
        self.go("/login", "logged-out")
