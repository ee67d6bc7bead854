"""What all pages share: the session cookie, forms, rendering, flash messages and error pages."""

import gzip
import re
import secrets
import sys
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from time import time
from typing import Any, ClassVar
from urllib.parse import quote

from handlers.rendering.flash_messages import read_flash_message
from handlers.rendering.languages import Language, choose_language
from handlers.rendering.negotiation import negotiate_encoding
from handlers.rendering.skeletons import HtmlChunks
from handlers.web.base import MAX_PATH_LENGTH, BaseHandler
from handlers.web.hosts import MAX_HOST_LENGTH
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
from taskapp.observability.logs import log
from taskapp.operations.access_checks import require_session
from taskapp.operations.password_verification import MAX_DEVICES
from taskapp.queries.login_addresses import REMEMBERED_FOR
from taskapp.queries.sessions import LIFETIME

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:_\[\]-]{1,255}", re.ASCII)
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
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
_SESSION_AGE = int(LIFETIME.total_seconds())
COOKIE_AGES = {  # seconds; browsers keep no cookie for longer than 400 days (RFC 6265bis)
    "session": _SESSION_AGE,
    "csrf": _SESSION_AGE,
    "device": int(REMEMBERED_FOR.total_seconds()),
    "theme": 400 * 24 * 60 * 60,
    "flash": 60,
}


@dataclass(frozen=True)
class Draft:
    """The fields of a form that was sent in vain, and where it goes when it is sent again.

    `account` is the mark of the account whose page had the form, if it is known.
    """

    action: str
    fields: dict[str, str] = field(default_factory=dict)
    account: str = ""


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
        "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
    )
    draft_fields: ClassVar[tuple[str, ...]] = ()
    flash_message: str = ""  # of this response itself, in the form that the cookie has
    # The fields of a form that a click may send again; None if it has text or a password.
    resent_fields: ClassVar[tuple[str, ...] | None] = None
    # Whether forms of pages from before a login are taken: that this site sent them is enough.
    takes_stale_forms: ClassVar[bool] = False
    # The session of the cookie, also one that has ended: the form that is sent next comes with it.
    _csrf_session: SessionToken | None = None
    # Whether no text that another site can choose is in the page beside the user's own: the length
    # of a compressed page would tell what both have in common (CVE-2013-3587).
    may_compress = True

    async def prepare(self) -> None:
        """Reject what another site sent, authenticate, and reject a form without a CSRF token."""
        if self.is_foreign_form:
            if self.other_origin:
                log("form.refused", "warning", origin=self.other_origin, host=self.request.host)
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

    @property
    def other_origin(self) -> str:
        """Return the origin of a form if it may be ours, and a proxy may have changed the host.

        Over plain http browsers do not say whether a page of the same site sent a form.
        """
        headers = self.request.headers
        origin = headers.get("Origin", "")
        is_told = "Sec-Fetch-Site" in headers or not _ORIGIN.fullmatch(origin)
        is_shown = not is_told and len(self.request.host) <= MAX_HOST_LENGTH
        return origin if is_shown and self.is_foreign_form else ""

    async def check_form(self) -> None:
        """Reject a form without a CSRF token of this browser and session.

        Raises:
            FormNotTrusted: the token is missing or not valid.
            NotAuthenticated: the token is not valid, and the session has ended.
        """
        if self.has_valid_csrf_token():
            return
        has_cookies = self.session_token is not None or self.read_cookie("csrf") is not None
        if self.takes_stale_forms and has_cookies and self.is_same_origin():
            return
        if self.session_token is not None and not self.is_public:
            await require_session(self.services, self.session_token)
        raise FormNotTrusted

    def has_valid_csrf_token(self) -> bool:
        """Return whether the form has a CSRF token of this browser and session."""
        return self.is_valid_csrf_token(self.csrf_token, self._csrf_session)

    @property
    def csrf_token(self) -> str:
        """Return the CSRF token that was sent, which may be anything; empty if not exactly one."""
        sent = self.request.body_arguments.get("csrf_token", [])
        return sent[0].decode("utf-8", "replace") if len(sent) == 1 else ""

    @property
    def form_key(self) -> str:
        """Return what only this form in this browser sends; empty if it has no CSRF token."""
        browser = self.read_cookie("csrf")
        return f"{browser} {self.csrf_token}" if browser and self.csrf_token else ""

    def authenticate(self) -> SessionToken | None:
        if self.is_safe():
            self._rename_cookies()
        self._csrf_session = self.read_cookie_session()
        return self._csrf_session

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
        return Draft(self.current_path, fields, self._account_of_form)

    def local_path(self, address: str) -> str | None:
        """Return an address of this site as a path below the base path; None for any other."""
        base = self.services.settings.base_path
        is_local = is_path_of_this_site(address) and address.startswith(f"{base}/")
        return address.removeprefix(base) if is_local else None

    @cached_property
    def language(self) -> Language:
        return choose_language(self.header("Accept-Language"))

    @property
    def current_path(self) -> str:
        """Return the address of this page, without parameters that another site can choose.

        Of an address that is longer than any page's, it is that of the start page.
        """
        return self.shown_path or self.application.path("/")

    @property
    def path_after_login(self) -> str:
        """Return where to continue if the session has ended; empty for the list of all tasks."""
        return (self.request.uri or "/") if self.is_safe() else ""

    @property
    def site_url(self) -> str:
        """Return the address at which the browser reaches this site."""
        settings = self.services.settings
        reached = f"{'https' if self.is_https else 'http'}://{self.request.host}"
        return (settings.public_url or reached) + settings.base_path

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
    def _account_of_form(self) -> str:
        """Return the mark of the account whose page had the form that was sent."""
        session = self._csrf_session
        own = self.services.signer.account_mark(session.user_id) if session else ""
        return self.services.signer.read_csrf_account(self.csrf_token) or own

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
            "now": str(int(1000 * time())),
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
        accepted = self.header("Accept-Encoding") if self.may_compress else ""
        coding = negotiate_encoding(accepted, PAGE_CODINGS)
        if coding != "identity":
            self.set_header("Content-Encoding", coding)
        self.finish(PAGE_CODINGS[coding](page.encode("utf-8")))

    def redirect_to(self, path: str, flash_message: str | None = None) -> None:
        """Send the browser to a path of this site by GET, where the flash message is shown."""
        if flash_message is not None:
            self.set_site_cookie("flash", flash_message)
        self.set_status(303)
        self.set_header("Location", self.application.path(path))
        self.finish()

    @property
    def is_loaded_again(self) -> bool:
        """Return whether a script fetches the page, and the browser loads it after that."""
        return False

    def _take_flash_message(self, csrf_token: str) -> HtmlChunks:
        """Return the flash message as HTML, and clear its cookie; empty if there is none."""
        html = HtmlChunks()
        cookie = self.read_cookie("flash") if self.is_safe() else None
        if cookie and not self.is_loaded_again:
            self.remove_site_cookie("flash")
        if text := self.flash_message or cookie:
            flash_message = read_flash_message(text, self.is_valid_undo_token)
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

    def is_valid_undo_token(self, sent: str) -> bool:
        """Return whether a text was signed for this user, to undo a deletion."""
        session = self.session_token
        return bool(session and self.services.signer.read_undo(session.user_id, sent))

    # Cookies

    def begin_session(self, token: str) -> None:
        """Set the session cookie; when the session ends, the database decides."""
        self.session_token = self._csrf_session = self.services.signer.read_session_cookie(token)
        self.set_site_cookie("session", token)

    def end_session(self) -> None:
        """Remove the session cookie; the session in the database stays.

        This is for logouts and for pages only. The response to a form may come after that to a
        later request, which has set the cookie of a new session.
        """
        self.session_token = self._csrf_session = None
        self.remove_site_cookie("session")

    def read_devices(self) -> list[str]:
        """Return the device tokens that the browser sent, which only the signer verifies."""
        return _DEVICE.findall(self.read_cookie("device") or "")[:MAX_DEVICES]

    def remember_devices(self, devices: Sequence[str]) -> None:
        """Set the cookie by which the browser is known; a logout keeps it (ADR 0041)."""
        value = "~".join(devices)
        self.set_site_cookie("device", value)

    def _new_csrf_token(self) -> str:
        """Return a token for this page's forms, bound to the browser by a cookie (ADR 0016)."""
        browser = self.read_cookie("csrf")
        if not browser:
            browser = secrets.token_urlsafe(16)
            self.set_site_cookie("csrf", browser)
        return self.services.signer.new_csrf_token(browser, self._csrf_session)

    def set_site_cookie(self, purpose: str, value: str) -> None:
        self._write_cookie(
            self.application.cookie_name(purpose), value, max_age=COOKIE_AGES[purpose]
        )

    def remove_site_cookie(self, purpose: str) -> None:
        """Remove a cookie of ours, whatever its name is."""
        # Tornado leaves out a max_age of 0, and the browser would keep the cookie.
        self._write_cookie(self.application.cookie_name(purpose), "", expires=_LONG_AGO)
        if self.earlier_cookie_prefix:
            self._write_cookie(self.earlier_cookie_prefix + purpose, "", expires=_LONG_AGO)

    def _write_cookie(self, name: str, value: str, **lifetime: Any) -> None:
        if not self.is_foreign_form:
            self.set_cookie(
                name,
                value,
                path="/",
                httponly=True,
                samesite="Lax",
                secure=self.is_https,
                **lifetime,
            )

    def _rename_cookies(self) -> None:
        """Rename cookies that have an earlier name."""
        for purpose in COOKIE_AGES if self.earlier_cookie_prefix else ():
            if f"{self.earlier_cookie_prefix}{purpose}" in self.sent_cookies:
                value = self.read_cookie(purpose)
                self.remove_site_cookie(purpose)
                if value:
                    self.set_site_cookie(purpose, value)

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
        is_stale = isinstance(error, FormNotTrusted) and self._is_live_and_ours()
        is_own = self._account_of_form == self._account_mark
        if is_stale and not is_own:
            draft = None  # what somebody else typed before
        elif is_stale and draft is None:
            draft = self._read_resent_form()
        self.render_page(
            "error.html",
            error.status,
            error=error,
            request_id=self._request_id,
            draft=draft,
            is_gone=is_gone,
            is_untrusted_form=isinstance(error, FormNotTrusted),
            is_stale=is_stale,
            form_path=self.current_path,
            other_origin=self.other_origin if isinstance(error, FormNotTrusted) else "",
            host=self.request.host,
        )

    def _is_live_and_ours(self) -> bool:
        """Return whether a rejected form is ours and its session live: only its token is stale.

        The error page names the new token in `data-csrf-token`, and the account in `data-account`:
        a script may send the form once more with it, if the account is that of its own page.
        """
        return not self.is_foreign_form and self.session_token is not None

    def _read_resent_form(self) -> Draft | None:
        """Return a form to be sent again by a click, if it has neither text nor a password."""
        if self.resent_fields is None:
            return None
        return Draft(self.current_path, self.read_form_lenient(*self.resent_fields))

    def _render_login(self, error: NotAuthenticated) -> None:
        """Redirect to the login page, or render it with what was typed into a form."""
        self.session_token = None
        draft = self.read_draft()
        if draft is None:
            path = self.path_after_login
            is_kept = is_path_of_this_site(path)
            self.redirect_to(
                f"/login?next={quote(path, safe='/')}" if is_kept else "/login",
                None if self.is_safe() else "session-over",
            )
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
