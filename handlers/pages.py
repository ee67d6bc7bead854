"""What the pages have in common: the cookie, forms, notices and error pages."""

from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import quote

from tornado.web import HTTPError

from handlers.base import BaseHandler
from taskapp.errors import (
    BodyTooLarge,
    FormNotTrusted,
    NotFound,
    NotSignedIn,
    TaskappError,
)
from taskapp.queries.sessions import LIFETIME
from taskapp.tokens import SessionProof

NOTICES = {
    "registered": "Your account is ready. Log in to begin.",
    "logged-out": "You are logged out.",
    "added": "Task added.",
    "saved": "Task saved.",
    "completed": "Task completed.",
    "reopened": "Task is pending again.",
    "deleted": "Task deleted.",
}
TEXT_FIELDS = ("title", "description")


@dataclass(frozen=True)
class Draft:
    """What somebody typed into a form that could not be taken: where it goes, and its fields."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class PageHandler(BaseHandler):
    """A request for a page.

    Differences from the API:

    * the session comes as a cookie, and every form has to prove that a page of ours sent it;
    * `draft_fields` names what is typed into this page's form: it is shown again with any error,
      and survives a login in between.
    """

    content_security_policy = (
        "default-src 'none'; style-src 'self'; img-src 'self'; manifest-src 'self'; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    draft_fields: ClassVar[tuple[str, ...]] = ()

    async def prepare(self) -> None:
        """Refuse a form that no page of ours sent, after asking whose it is."""
        await super().prepare()
        if not self.is_safe():
            self.check_form()

    def check_form(self) -> None:
        """Refuse a request that another site's page may have sent.

        Raises:
            FormNotTrusted: it has not our token, or comes from elsewhere.
        """
        if self.came_from_elsewhere():
            raise FormNotTrusted
        try:
            self.check_xsrf_cookie()
        except HTTPError:
            raise FormNotTrusted from None

    def read_session(self) -> SessionProof | None:
        """Read the session of the cookie."""
        return self.read_cookie_session()

    def read_form(self, *names: str) -> dict[str, str]:
        """Read the named fields of the form that were sent, as they were typed.

        Browsers send a line's end as CR LF, whatever was typed; it becomes LF again.

        Raises:
            BadRequest: a field came twice, or is not UTF-8.
        """
        sent = {name: self._single(self.request.body_arguments, name) for name in names}
        return {
            name: value.replace("\r\n", "\n") for name, value in sent.items() if value is not None
        }

    def show(self, template: str, status: int = 200, **values: Any) -> None:
        """Answer with a page."""
        self.set_status(status)
        page = self.application.templates.get_template(template)
        self.finish(
            page.render(
                values,
                is_signed_in=self.owner is not None,
                notice=self._take_notice(),
                xsrf=self.xsrf_token.decode("ascii"),
            )
        )

    def go(self, path: str, notice: str | None = None) -> None:
        """Send the browser to a path of this site by GET, and say there what was done."""
        if notice is not None:
            self._set_cookie("notice", notice, max_age=60)
        self.set_status(303)
        self.set_header("Location", self.application.path(path))
        self.finish()

    def begin_session(self, token: str) -> None:
        """Give the browser its session; the database decides when it ends."""
        self._set_cookie("session", token, max_age=int(LIFETIME.total_seconds()))

    def end_session(self) -> None:
        """Take the session from the browser."""
        self.owner = None
        self._set_cookie("session", "", max_age=0)

    def show_error(self, error: TaskappError) -> None:
        """Write an error page; a visitor without a session is sent to log in."""
        if isinstance(error, NotSignedIn):
            self._show_login(error)
            return
        draft = self.read_draft()
        self.show("error.html", error.status, error=error, request_id=self._request_id, draft=draft)

    def read_draft(self) -> Draft | None:
        """Read what was typed into this page's form, whatever is wrong with the request."""
        if self.is_safe() or not self.draft_fields:
            return None
        fields = {}
        for name in self.draft_fields:
            values = self.request.body_arguments.get(name, [])
            if values:
                fields[name] = values[0].decode("utf-8", "replace").replace("\r\n", "\n")
        if not any(fields.get(name, "").strip() for name in TEXT_FIELDS):
            return None
        return Draft(self.request.path, fields)

    def _show_login(self, error: NotSignedIn) -> None:
        """Send a reader to the login page; show it to a writer, with what was typed kept."""
        was_signed_in = self.owner is not None
        if was_signed_in:
            self.end_session()
        draft = self.read_draft()
        if draft is None:
            wanted = f"?next={quote(self.request.uri or '/', safe='/')}" if self.is_safe() else ""
            self.go(f"/login{wanted}")
            return
        # RFC 9110, 15.5.2 wants the header; browsers do not know the scheme and show the page.
        self.set_header("WWW-Authenticate", 'Cookie realm="taskapp"')
        self.show(
            "login.html", error.status, values={}, errors={}, problem=None, next="", draft=draft
        )

    def _take_notice(self) -> str | None:
        code = self.get_cookie(self.application.cookie_name("notice"))
        if code:
            self._set_cookie("notice", "", max_age=0)
        return NOTICES.get(code or "")

    def _set_cookie(self, purpose: str, value: str, *, max_age: int) -> None:
        self.set_cookie(
            self.application.cookie_name(purpose),
            value,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.is_https,
            max_age=max_age,
        )


class NotFoundPage(PageHandler):
    """Every address that has no route."""

    is_public = True

    async def prepare(self) -> None:
        """Refuse, whatever the method."""
        self.owner = self.read_session()
        raise NotFound


class TooLargePage(PageHandler):
    """A form that was too large."""

    is_public = True

    async def prepare(self) -> None:
        """Refuse, whatever the method."""
        raise BodyTooLarge


PageHandler.too_large = TooLargePage


def is_path_of_this_site(text: str) -> bool:
    r"""Tell whether a browser stays on this site when it is sent to this path.

    "//evil" and "/\evil" name other sites, and browsers drop tabs and line ends (CWE-601).
    """
    return text.startswith("/") and text[1:2] not in {"/", "\\"} and text.isprintable()
