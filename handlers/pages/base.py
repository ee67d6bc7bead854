"""What the pages have in common: the cookie, forms, notices and error pages."""

import gzip
import secrets
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar
from urllib.parse import quote

from handlers.rendering.flash_messages import FlashMessage, read_flash_message
from handlers.rendering.languages import Language, choose_language
from handlers.rendering.static_assets import negotiate_encoding
from handlers.web.base import BaseHandler
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    BodyTooLarge,
    Forbidden,
    FormNotTrusted,
    NotAuthenticated,
    NotFound,
    TaskappError,
)
from taskapp.queries.sessions import LIFETIME

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
TEXT_FIELDS = ("title", "description", "titles")
_ZSTANDARD = zstd.ZstdCompressor(level=1)
PAGE_CODINGS: dict[str, Callable[[bytes], bytes]] = {  # the best first
    # Of 70 KB, it leaves 5 in 0.05 ms, and zlib 6 in 0.12. Browsers take it by https only.
    "zstd": partial(_ZSTANDARD.compress, mode=_ZSTANDARD.FLUSH_FRAME),
    "gzip": partial(gzip.compress, compresslevel=1, mtime=0),
    "identity": bytes,
}
THEMES = ("light", "dark")


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
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "manifest-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types taskapp"
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
            FormNotTrusted: it has not the proof of our pages, or comes from elsewhere.
        """
        if self.is_cross_site():
            raise FormNotTrusted
        sent = self.request.body_arguments.get("csrf_token", [])
        proof = sent[0].decode("utf-8", "replace") if len(sent) == 1 else ""
        if not self.is_valid_csrf_token(proof, self.session_token):
            raise FormNotTrusted

    def authenticate(self) -> SessionToken | None:
        """Read the session of the cookie."""
        return self.read_cookie_session()

    def read_form(self, *names: str) -> dict[str, str]:
        """Read the named fields of the form that were sent, as they were typed.

        Browsers send a line's end as CR LF, whatever was typed; it becomes LF again.

        Raises:
            BadRequest: a field came twice, or is not UTF-8.
        """
        sent = {name: self._get_one(self.request.body_arguments, name) for name in names}
        return {
            name: value.replace("\r\n", "\n") for name, value in sent.items() if value is not None
        }

    def read_form_lenient(self, *names: str) -> dict[str, str]:
        """Read the named fields as well as can be, to show them again beside an error."""
        return _lenient(self.request.body_arguments, names)

    def read_query(self, name: str) -> str:
        """Read a parameter of the address that is only a wish, as well as can be."""
        return _lenient(self.request.query_arguments, [name]).get(name, "")

    @cached_property
    def language(self) -> Language:
        """Give the language that the page is written in."""
        return choose_language(self.request.headers.get("Accept-Language", ""))

    @property
    def current_path(self) -> str:
        """Give the address of this page, without anything that somebody else could have put in."""
        return str(self.request.path)

    def show(
        self,
        template: str,
        status: int = 200,
        *,
        look: Mapping[str, Hashable] | None = None,
        **values: Any,
    ) -> None:
        """Answer with a page.

        `look` is all that the template decides by, where that differs little from page to page:
        then it is not run for each, and the values are texts (handlers/rendering/skeletons.py).
        """
        self.set_status(status)
        self._headers["Content-Language"] = self.language.code
        self._headers["Vary"] = "Accept-Encoding, Accept-Language, Cookie"
        frame = {
            "is_logged_in": self.session_token is not None,
            "notice": self._take_flash_message(),
            "theme": read_theme(self.read_cookie("theme")),
        }
        values["csrf_token"] = self._new_csrf_token()
        values["current_path"] = self.current_path if self.is_safe() else self.application.path("/")
        if look is None or frame["notice"]:
            values |= {**frame, **(look or {})}
            page = self.application.templates.template(self.language, template).render(values)
        else:
            outlines = self.application.templates.outlines(self.language)
            page = outlines.fill(template, {**frame, **look}, values)
        self.finish(self._compress(page.encode("utf-8")))

    def _new_csrf_token(self) -> str:
        """Make the proof for this page's forms, and know this browser by a cookie (ADR 0016)."""
        browser = self.read_cookie("csrf")
        if not browser:
            browser = secrets.token_urlsafe(16)
            self.set_site_cookie("csrf", browser, max_age=int(LIFETIME.total_seconds()))
        return self.services.signer.new_csrf_token(browser, self.session_token)

    def _compress(self, page: bytes) -> bytes:
        """Compress a page if the browser takes that.

        Nobody else can put text into a page beside what is private in it, and the proof in its
        forms is written differently each time: its length gives nothing away (CVE-2013-3587).
        """
        coding = negotiate_encoding(self.request.headers.get("Accept-Encoding", ""), PAGE_CODINGS)
        if coding != "identity":
            self._headers["Content-Encoding"] = coding
        return PAGE_CODINGS[coding](page)

    def redirect_to(self, path: str, notice: str | None = None) -> None:
        """Send the browser to a path of this site by GET, and say there what was done."""
        if notice is not None:
            self.set_site_cookie("notice", notice, max_age=60)
        self.set_status(303)
        self.set_header("Location", self.application.path(path))
        self.finish()

    def local_path(self, wanted: str) -> str | None:
        """Give the path below the base path that an address of this site names; else None."""
        base = self.services.settings.base_path
        is_own = is_path_of_this_site(wanted) and wanted.startswith(f"{base}/")
        return wanted.removeprefix(base) if is_own else None

    def begin_session(self, token: str) -> None:
        """Give the browser its session; the database decides when it ends."""
        self.session_token = self.services.signer.read_session_cookie(token)
        self.set_site_cookie("session", token, max_age=int(LIFETIME.total_seconds()))

    def end_session(self) -> None:
        """Take the session from the browser."""
        self.session_token = None
        self.set_site_cookie("session", "", max_age=None)

    def render_error(self, error: TaskappError) -> None:
        """Write an error page; a visitor without a session is sent to log in."""
        if isinstance(error, NotAuthenticated):
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
            is_untrusted_form=isinstance(error, FormNotTrusted),
        )

    def read_draft(self) -> Draft | None:
        """Read what was typed into this page's form, whatever is wrong with the request."""
        if self.is_safe() or not self.draft_fields:
            return None
        fields = self.read_form_lenient(*self.draft_fields)
        if not any(fields.get(name, "").strip() for name in TEXT_FIELDS):
            return None
        return Draft(self.current_path, fields)

    def _show_login(self, error: NotAuthenticated) -> None:
        """Send a reader to the login page; show it to a writer, with what was typed kept."""
        if self.read_cookie("session"):
            self.end_session()
        draft = self.read_draft()
        if draft is None:
            wanted = f"?next={quote(self.request.uri or '/', safe='/')}" if self.is_safe() else ""
            self.redirect_to(f"/login{wanted}")
            return
        # RFC 9110, 15.5.2 wants the header; browsers do not know the scheme and show the page.
        self.set_header("WWW-Authenticate", 'Cookie realm="taskapp"')
        self.show(
            "login.html", error.status, values={}, errors={}, problem=None, next="", draft=draft
        )

    def _take_flash_message(self) -> FlashMessage | None:
        cookie = self.read_cookie("notice")
        if not cookie:
            return None
        self.set_site_cookie("notice", "", max_age=None)
        return read_flash_message(cookie)

    def set_site_cookie(self, purpose: str, value: str, *, max_age: int | None) -> None:
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


def read_theme(text: str | None) -> str:
    """Read which theme was chosen; nothing for the system's own."""
    return text if text in THEMES else ""


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
        self.session_token = self.authenticate()
        raise NotFound


class PayloadTooLargePage(PageHandler):
    """A form that was too large."""

    is_public = True

    async def prepare(self) -> None:
        """Refuse, whatever the method."""
        self.session_token = self.authenticate()
        raise BodyTooLarge


PageHandler.too_large = PayloadTooLargePage


def is_path_of_this_site(text: str) -> bool:
    r"""Tell whether a browser stays on this site when it is sent to this path.

    "//evil" and "/\evil" name other sites, and browsers drop tabs and line ends (CWE-601).
    """
    is_path = text.startswith("/") and text[1:2] not in {"/", "\\"}
    return is_path and text.isascii() and text.isprintable()
