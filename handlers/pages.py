"""What the pages have in common: the cookie, forms, notices and error pages."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, ClassVar
from urllib.parse import quote

from tornado.web import HTTPError

from handlers.base import BaseHandler
from taskapp.errors import (
    BodyTooLarge,
    Forbidden,
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
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
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

    def read_typed(self, *names: str) -> dict[str, str]:
        """Read the named fields as well as can be, to show them again beside an error."""
        return _lenient(self.request.body_arguments, names)

    def read_query(self, name: str) -> str:
        """Read a parameter of the address that is only a wish, as well as can be."""
        return _lenient(self.request.query_arguments, [name]).get(name, "")

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
        self.owner = self.services.tokens.read_cookie(token)
        self._set_cookie("session", token, max_age=int(LIFETIME.total_seconds()))

    def end_session(self) -> None:
        """Take the session from the browser."""
        self.owner = None
        self._set_cookie("session", "", max_age=None)

    def show_error(self, error: TaskappError) -> None:
        """Write an error page; a visitor without a session is sent to log in."""
        if isinstance(error, NotSignedIn):
            self._show_login(error)
            return
        draft = self.read_draft()
        is_gone = isinstance(error, NotFound | Forbidden) and not isinstance(error, FormNotTrusted)
        if draft and is_gone:
            draft = Draft(self.application.path("/tasks"), _only_texts(draft.fields))
        self.show(
            "error.html",
            error.status,
            error=error,
            request_id=self._request_id,
            draft=draft,
            is_gone=is_gone,
        )

    def read_draft(self) -> Draft | None:
        """Read what was typed into this page's form, whatever is wrong with the request."""
        if self.is_safe() or not self.draft_fields:
            return None
        fields = self.read_typed(*self.draft_fields)
        if not any(fields.get(name, "").strip() for name in TEXT_FIELDS):
            return None
        return Draft(self.request.path, fields)

    def _show_login(self, error: NotSignedIn) -> None:
        """Send a reader to the login page; show it to a writer, with what was typed kept."""
        if self.get_cookie(self.application.cookie_name("session")):
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
            self._set_cookie("notice", "", max_age=None)
        return NOTICES.get(code or "")

    def _set_cookie(self, purpose: str, value: str, *, max_age: int | None) -> None:
        """Set a cookie for so many seconds; None takes it away."""
        self.set_cookie(
            self.application.cookie_name(purpose),
            value,
            # Tornado leaves out a max_age of 0, and so the browser would keep the cookie.
            expires=_LONG_AGO if max_age is None else None,
            max_age=max_age,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.is_https,
        )


def _only_texts(fields: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if name in TEXT_FIELDS}


def _lenient(arguments: Mapping[str, list[bytes]], names: Iterable[str]) -> dict[str, str]:
    """Give the first value of each argument that was sent, with its line ends as LF."""
    return {
        name: arguments[name][0].decode("utf-8", "replace").replace("\r\n", "\n")
        for name in names
        if arguments.get(name)
    }


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
    is_path = text.startswith("/") and text[1:2] not in {"/", "\\"}
    return is_path and text.isascii() and text.isprintable()
