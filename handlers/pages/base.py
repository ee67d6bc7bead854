"""What all pages share: the session cookie, forms, rendering, flash messages and error pages."""

import gzip
import re
import secrets
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import Any, ClassVar
from urllib.parse import quote

from handlers.rendering.flash_messages import read_flash_message
from handlers.rendering.languages import Language, choose_language
from handlers.rendering.negotiation import negotiate_encoding
from handlers.rendering.skeletons import HtmlChunks
from handlers.web.base import BaseHandler
from taskapp.auth.signing import SessionToken
from taskapp.core.errors import (
    BodyTooLarge,
    Forbidden,
    FormNotTrusted,
    Invalid,
    NotAuthenticated,
    NotFound,
    TaskappError,
)
from taskapp.operations.access_checks import require_session
from taskapp.operations.password_verification import MAX_DEVICES
from taskapp.queries.login_addresses import REMEMBERED_FOR
from taskapp.queries.sessions import LIFETIME

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
_FLASH_MESSAGE_MAX_AGE = 60  # seconds
_DEVICE = re.compile(r"(?<![^~])[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43}(?=~|$)", re.ASCII)
TEXT_FIELDS = ("title", "description", "titles")
_ZSTANDARD = zstd.ZstdCompressor(level=1)
PAGE_CODINGS: dict[str, Callable[[bytes], bytes]] = {  # the best first
    # A page of 70 KB becomes 5 KB in 0.05 ms; by zlib, 6 KB in 0.12 ms. Browsers accept zstd over
    # https only.
    "zstd": partial(_ZSTANDARD.compress, mode=_ZSTANDARD.FLUSH_FRAME),
    "gzip": partial(gzip.compress, compresslevel=1, mtime=0),
    "identity": bytes,
}
THEMES = ("light", "dark")
# Characters, before they are quoted. Paths of this site have fewer, and a proxy takes a response
# whose headers do not fit into its buffer for a failure of the server.
MAX_PATH_LENGTH = 500


@dataclass(frozen=True)
class Draft:
    """The fields of a form that was sent in vain, and where it goes when it is sent again."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class PageHandler(BaseHandler):
    """A request for a page.

    Differences from the API:

    * the session comes as a cookie, and every form needs the CSRF token of a page of ours;
    * `draft_fields` names the fields of this page's form that any error page shows again, and that
      survive a login in between.
    """

    content_security_policy = (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
        "manifest-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types taskapp"
    )
    draft_fields: ClassVar[tuple[str, ...]] = ()
    # Whether no text that another site can choose is in the page beside the user's own: the length
    # of a compressed page would tell what both have in common (CVE-2013-3587).
    may_compress = True

    async def prepare(self) -> None:
        """Reject what another site sent, authenticate, and reject a form without a CSRF token."""
        if self.is_foreign_form:
            raise FormNotTrusted
        await super().prepare()
        if not self.is_safe():
            await self.check_form()

    @cached_property
    def is_foreign_form(self) -> bool:
        """Return whether another site sent a form.

        Its browser gets nothing of what was sent, and no cookie: it sends such a form without
        ours (SameSite), so that a new one would replace that of the pages that are open.
        """
        return not self.is_safe() and self.is_cross_site()

    async def check_form(self) -> None:
        """Reject a form without a CSRF token of this browser and session.

        Raises:
            FormNotTrusted: the token is missing or not valid.
            NotAuthenticated: so it is, and the session that sent it has ended.
        """
        sent = self.request.body_arguments.get("csrf_token", [])
        token = sent[0].decode("utf-8", "replace") if len(sent) == 1 else ""
        if self.is_valid_csrf_token(token, self.session_token):
            return
        if self.session_token is not None:
            await require_session(self.services, self.session_token)
        raise FormNotTrusted

    def authenticate(self) -> SessionToken | None:
        """Return the session of the cookie."""
        return self.read_cookie_session()

    # What was sent

    def read_form(self, *names: str) -> dict[str, str]:
        """Return those of the named fields that were sent, with LF as line end.

        Browsers send CR LF, whatever was typed (HTML, 4.10.22.4).

        Raises:
            BadRequest: a field came twice, or is not UTF-8.
        """
        sent = {name: self._get_one(self.request.body_arguments, name) for name in names}
        return {name: _normalize(value) for name, value in sent.items() if value is not None}

    def read_form_lenient(self, *names: str) -> dict[str, str]:
        """Return those of the named fields that were sent, to show them again beside an error."""
        if self.is_foreign_form:
            return {}
        return _decode_lenient(self.request.body_arguments, names)

    def read_query(self, name: str) -> str:
        """Return an optional query parameter, decoded leniently; empty if it is absent."""
        return _decode_lenient(self.request.query_arguments, [name]).get(name, "")

    def read_draft(self) -> Draft | None:
        """Return what was typed into this page's form; lenient, because error pages show it."""
        if self.is_safe() or not self.draft_fields:
            return None
        fields = self.read_form_lenient(*self.draft_fields)
        if not any(fields.get(name, "").strip() for name in TEXT_FIELDS):
            return None
        return Draft(self.current_path, fields)

    def local_path(self, address: str) -> str | None:
        """Return an address of this site as a path below the base path; None for any other."""
        base = self.services.settings.base_path
        is_local = is_path_of_this_site(address) and address.startswith(f"{base}/")
        return address.removeprefix(base) if is_local else None

    @cached_property
    def language(self) -> Language:
        """Return the language of the page."""
        return choose_language(self.request.headers.get("Accept-Language", ""))

    @property
    def current_path(self) -> str:
        """Return the address of this page, without parameters that another site can choose."""
        return str(self.request.path)

    @property
    def list_query(self) -> str:
        """Return the query of the part of the list that this page belongs to; empty if to none."""
        return ""

    # What is sent back

    def render_page(self, template: str, status: int = 200, **context: Any) -> None:
        """Run a template and send the page."""
        shared = {**self._shared_variant(), **self._shared_values()}
        page = self.application.templates.template(self.language, template)
        self._send_page(page.render({**shared, **context}), status)

    def render_form(self, template: str, error: TaskappError | None, **context: Any) -> None:
        """Render a form, with what is wrong beside its fields or, if it is none of them, above."""
        is_invalid = isinstance(error, Invalid)
        self.render_page(
            template,
            error.status if error else 200,
            errors=error.errors if isinstance(error, Invalid) else {},
            problem=None if is_invalid else error,
            **context,
        )

    def render_skeleton(
        self,
        template: str,
        variant: Mapping[str, Hashable],
        values: Mapping[str, str | HtmlChunks | None],
    ) -> None:
        """Send the page that a cached skeleton makes of values, without running its template.

        `variant` has everything that the template branches on (ADR 0029).
        """
        page = self.application.templates.skeletons(self.language).render(
            template, {**self._shared_variant(), **variant}, {**self._shared_values(), **values}
        )
        self._send_page(page)

    def _shared_variant(self) -> dict[str, Hashable]:
        """Return what the template of all pages, base.html, branches on."""
        return {
            "is_logged_in": self.session_token is not None,
            "theme": read_theme(self.read_cookie("theme")),
        }

    @property
    def _account_mark(self) -> str:
        """Return which account the page is for; empty if nobody is logged in."""
        session = self.session_token
        return self.services.signer.account_mark(session.user_id) if session else ""

    def _shared_values(self) -> dict[str, str | HtmlChunks]:
        """Return the other values of base.html."""
        csrf_token = self._new_csrf_token()
        return {
            "csrf_token": csrf_token,
            "account_mark": self._account_mark,
            "current_path": self.current_path if self.is_safe() else self.application.path("/"),
            "flash_message": self._take_flash_message(csrf_token),
        }

    def _send_page(self, page: str, status: int = 200) -> None:
        self.set_status(status)
        self.set_header("Content-Language", self.language.code)
        self.set_header("Vary", "Accept-Encoding, Accept-Language, Cookie")
        if status == 401:
            # RFC 9110, 15.5.2 requires it. Browsers do not know the scheme, and show the page.
            self.set_header("WWW-Authenticate", 'Cookie realm="taskapp"')
        # The CSRF tokens differ in every response: the compressed length reveals nothing of them.
        accepted = self.request.headers.get("Accept-Encoding", "") if self.may_compress else ""
        coding = negotiate_encoding(accepted, PAGE_CODINGS)
        if coding != "identity":
            self.set_header("Content-Encoding", coding)
        self.finish(PAGE_CODINGS[coding](page.encode("utf-8")))

    def redirect_to(self, path: str, flash_message: str | None = None) -> None:
        """Send the browser to a path of this site by GET, where the flash message is shown."""
        if flash_message is not None:
            self.set_site_cookie("flash", flash_message, max_age=_FLASH_MESSAGE_MAX_AGE)
        self.set_status(303)
        self.set_header("Location", self.application.path(path))
        self.finish()

    def _take_flash_message(self, csrf_token: str) -> HtmlChunks:
        """Return the flash message as HTML, and clear its cookie; empty if there is none."""
        html = HtmlChunks()
        cookie = self.read_cookie("flash")
        if cookie:
            self.set_site_cookie("flash", "", max_age=None)
            flash_message = read_flash_message(cookie)
            if flash_message is not None:
                template = self.application.templates.template(self.language, "_flash_message.html")
                html.append(
                    template.render(
                        flash_message=flash_message,
                        csrf_token=csrf_token,
                        list_query=self.list_query,
                    )
                )
        return html

    # Cookies

    def begin_session(self, token: str) -> None:
        """Set the session cookie; when the session ends, the database decides."""
        self.session_token = self.services.signer.read_session_cookie(token)
        self.set_site_cookie("session", token, max_age=int(LIFETIME.total_seconds()))

    def end_session(self) -> None:
        """Remove the session cookie; the session in the database stays."""
        self.session_token = None
        self.set_site_cookie("session", "", max_age=None)

    def read_devices(self) -> list[str]:
        """Return what says who has logged in with this browser; only the signer knows whether."""
        return _DEVICE.findall(self.read_cookie("device") or "")[:MAX_DEVICES]

    def remember_devices(self, devices: Sequence[str]) -> None:
        """Set the cookie by which the browser is known; a logout keeps it (ADR 0041)."""
        value = "~".join(devices)
        self.set_site_cookie("device", value, max_age=int(REMEMBERED_FOR.total_seconds()))

    def _new_csrf_token(self) -> str:
        """Return a token for this page's forms, bound to the browser by a cookie (ADR 0016)."""
        browser = self.read_cookie("csrf")
        if not browser:
            browser = secrets.token_urlsafe(16)
            self.set_site_cookie("csrf", browser, max_age=int(LIFETIME.total_seconds()))
        return self.services.signer.new_csrf_token(browser, self.session_token)

    def set_site_cookie(self, purpose: str, value: str, *, max_age: int | None) -> None:
        """Set a cookie for so many seconds; None removes it."""
        if self.is_foreign_form:
            return
        self.set_cookie(
            self.application.cookie_name(purpose),
            value,
            # Tornado leaves out a max_age of 0, and the browser would keep the cookie.
            expires=_LONG_AGO if max_age is None else None,
            max_age=max_age,
            path="/",
            httponly=True,
            samesite="Lax",
            secure=self.is_https,
        )

    # Errors

    def render_error(self, error: TaskappError) -> None:
        """Render an error page, or lead a request without a session to log in."""
        if isinstance(error, NotAuthenticated):
            self._render_login(error)
            return
        draft = self.read_draft()
        is_gone = isinstance(error, NotFound | Forbidden) and not isinstance(error, FormNotTrusted)
        if draft and is_gone:
            draft = Draft(self.application.path("/tasks"), _only_texts(draft.fields))
        self.render_page(
            "error.html",
            error.status,
            error=error,
            request_id=self._request_id,
            draft=draft,
            is_gone=is_gone,
            is_untrusted_form=isinstance(error, FormNotTrusted),
            is_renewed=self._is_renewed(error),
        )

    def _is_renewed(self, error: TaskappError) -> bool:
        """Return whether the form was ours, but its CSRF token is that of another session.

        The error page names the new token in `data-csrf-token`, and the account in `data-account`:
        a script may send the form once more with it, if the account is that of its own page.
        """
        is_rejected = isinstance(error, FormNotTrusted) and not self.is_foreign_form
        return is_rejected and self.session_token is not None

    def _render_login(self, error: NotAuthenticated) -> None:
        """Redirect to the login page, or render it with what was typed into a form."""
        if self.read_cookie("session"):
            self.end_session()
        draft = self.read_draft()
        if draft is None:
            uri = self.request.uri or "/"
            is_kept = self.is_safe() and is_path_of_this_site(uri)
            self.redirect_to(f"/login?next={quote(uri, safe='/')}" if is_kept else "/login")
            return
        self.render_page(
            "login.html", error.status, values={}, errors={}, problem=None, next="", draft=draft
        )


def read_theme(text: str | None) -> str:
    """Return a theme that exists; empty for the system's own."""
    return text if text in THEMES else ""


def is_path_of_this_site(text: str) -> bool:
    r"""Return whether a browser that is sent to this path stays on this site.

    "//evil" and "/\evil" name other sites, and browsers drop tabs and line ends (CWE-601). A path
    becomes part of a response header, so it is not longer than MAX_PATH_LENGTH.
    """
    is_path = text.startswith("/") and text[1:2] not in {"/", "\\"}
    return is_path and len(text) <= MAX_PATH_LENGTH and text.isascii() and text.isprintable()


def _only_texts(fields: dict[str, str]) -> dict[str, str]:
    return {name: text for name, text in fields.items() if name in TEXT_FIELDS}


def _decode_lenient(arguments: Mapping[str, list[bytes]], names: Iterable[str]) -> dict[str, str]:
    """Return the first value of each named argument, with what is not UTF-8 replaced."""
    return {
        name: _normalize(arguments[name][0].decode("utf-8", "replace"))
        for name in names
        if arguments.get(name)
    }


def _normalize(text: str) -> str:
    return text.replace("\r\n", "\n")


class NotFoundPage(PageHandler):
    """Every address without a route."""

    is_public = True

    async def prepare(self) -> None:
        """Reject the request for any method."""
        self.check_host()
        self.session_token = self.authenticate()
        raise NotFound


class TrailingSlashPage(PageHandler):
    """Every path of a page with a slash at its end."""

    is_public = True

    async def prepare(self) -> None:
        """Redirect any method to the address without the slash.

        Raises:
            NotFound: the address is too long for a response header.
        """
        self.check_host()
        query = f"?{self.request.query}" if self.request.query else ""
        address = self.request.path.removesuffix("/") + query
        if not is_path_of_this_site(address):
            raise NotFound
        self.set_status(308)
        self.set_header("Location", address)
        self.finish()


class PayloadTooLargePage(PageHandler):
    """A form whose body is too large."""

    is_public = True

    async def prepare(self) -> None:
        """Reject the request for any method."""
        self.check_host()
        self.session_token = self.authenticate()
        raise BodyTooLarge


PageHandler.too_large = PayloadTooLargePage
