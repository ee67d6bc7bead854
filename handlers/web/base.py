"""What every request does: its id, its session, its answer, its error."""

import re
import traceback
from collections.abc import Mapping
from functools import cache, cached_property
from typing import Any, ClassVar, cast

import tornado.web
from tornado.httputil import HTTPHeaders, parse_cookie
from uuid_utils import uuid7

from handlers.web.application import Application
from handlers.web.headers import ResponseHeaders, now_as_date
from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import UNIX_SOCKET, client_address, is_in
from taskapp.core.errors import (
    BadRequest,
    MethodNotAllowed,
    NotAuthenticated,
    NotFound,
    TaskappError,
    TooManyRequests,
    Unavailable,
    UnderMaintenance,
)
from taskapp.core.messages import Message
from taskapp.observability import logs
from taskapp.services import Services

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_UNIX_PEER = "0.0.0.0"  # noqa: S104  # nosec B104  # what Tornado calls the peer of a Unix socket
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
NOTHING_ALLOWED = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HSTS = "max-age=31536000; includeSubDomains"
SAFE_HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Permissions-Policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)


class BaseHandler(tornado.web.RequestHandler):
    """One request. Private by default: without a session it is refused, unless `is_public`."""

    is_public: ClassVar[bool] = False
    # It waits while the database is opened, so that a deploy lets nobody see that a process is new,
    # and is refused during maintenance.
    needs_database: ClassVar[bool] = True
    content_security_policy: ClassVar[str] = NOTHING_ALLOWED
    content_type: ClassVar[str] = "text/html; charset=UTF-8"

    too_large: ClassVar[type["BaseHandler"]]  # answers instead when the body is too large

    application: Application
    route: str
    session_token: SessionToken | None = None
    is_https: bool  # whether the client came over it, as the settings or a trusted proxy say
    _request_id: str | None = None

    def initialize(self, route: str = "(none)") -> None:
        """Take the route's pattern, which names it in the log and the metrics."""
        self.route = route

    @property
    def services(self) -> Services:
        """Give the parts that operations use."""
        return self.application.services

    @property
    def session(self) -> SessionToken:
        """Give the session that came with the request.

        Raises:
            NotAuthenticated: there is none.
        """
        if self.session_token is None:
            raise NotAuthenticated
        return self.session_token

    def clear(self) -> None:
        """Begin an answer, errors included, as Tornado does but for its own headers."""
        self.set_default_headers()
        self._write_buffer = []
        self.set_status(200)

    def set_default_headers(self) -> None:
        """Set what every answer has."""
        if self._request_id is None:
            self._start_request()
        # Without "Server": nobody has to know what we run (ASVS 13.4.6).
        self._headers = ResponseHeaders(self._fixed_headers(is_https=self.is_https))
        self._headers["Date"] = now_as_date()
        self._headers["X-Request-ID"] = cast("str", self._request_id)
        if self.application.state == "stopping":
            self._headers["Connection"] = "close"

    @classmethod
    @cache
    def _fixed_headers(cls, *, is_https: bool) -> Mapping[str, tuple[str]]:
        headers = dict(SAFE_HEADERS)
        headers["Content-Type"] = cls.content_type
        headers["Content-Security-Policy"] = cls.content_security_policy
        if is_https:
            headers["Strict-Transport-Security"] = HSTS
        return {name: (value,) for name, value in HTTPHeaders(headers).get_all()}

    def _start_request(self) -> None:
        sent = self.request.headers.get("X-Request-ID", "")
        self._request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else str(uuid7())
        logs.request_id.set(self._request_id)
        self.application.in_flight += 1
        peer = self.request.remote_ip or _UNIX_PEER
        self.peer = self.address = UNIX_SOCKET if peer == _UNIX_PEER else peer
        self.is_https = self.application.is_https
        if trusted := self.services.settings.trusted_proxies:
            headers = self.request.headers
            forwarded_for = ",".join(headers.get_list("X-Forwarded-For"))
            self.address = client_address(self.peer, forwarded_for, trusted)
            if headers.get("X-Forwarded-Proto") == "https" and is_in(self.peer, trusted):
                self.is_https = True

    @property
    def user_agent(self) -> str:
        """Give what the client calls itself; it may say anything."""
        return str(self.request.headers.get("User-Agent", ""))

    def is_forwarded(self) -> bool:
        """Tell whether a proxy says that it forwards somebody else's request."""
        headers = self.request.headers
        return any(name in headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip"))

    @classmethod
    @cache
    def allowed_methods(cls) -> tuple[str, ...]:
        """List the methods that this address takes."""
        unimplemented = tornado.web.RequestHandler.get
        allowed = [
            method
            for method in cls.SUPPORTED_METHODS
            if getattr(cls, method.lower()) is not unimplemented
        ]
        if "GET" not in allowed:
            allowed.remove("HEAD")
        return tuple(sorted(allowed))

    async def prepare(self) -> None:
        """Find out whose request it is, and refuse it if it has to be somebody's."""
        if self.request.method == "OPTIONS":
            return
        self.session_token = self.authenticate()
        if self.needs_database:
            if (period := self.services.maintenance.period) is not None:
                raise UnderMaintenance(period.message)
            if self.application.state == "starting":
                await self.application.wait_until_started()
        if self.request.method not in self.allowed_methods():
            raise MethodNotAllowed
        if self.session_token is None and not self.is_public:
            raise NotAuthenticated

    def authenticate(self) -> SessionToken | None:
        """Read the session that the request brings: pages a cookie, the API a token."""
        return None

    @cached_property
    def _sent_cookies(self) -> Mapping[str, str]:
        return parse_cookie(self.request.headers.get("Cookie", ""))

    def read_cookie(self, purpose: str) -> str | None:
        """Read one of our cookies, without an object for each that could be sent back."""
        return self._sent_cookies.get(self.application.cookie_name(purpose))

    def read_cookie_session(self) -> SessionToken | None:
        """Read the session of the cookie; it is alive only if the database says so too."""
        cookie = self.read_cookie("session")
        if not cookie:
            return None
        return self._count_rejected(self.services.signer.read_session_cookie(cookie))

    def _count_rejected(self, session: SessionToken | None) -> SessionToken | None:
        if session is None:
            self.services.metrics.rejected_tokens.inc()
        return session

    async def head(self, *args: str) -> None:
        """Answer as GET does; Tornado leaves out the body."""
        await cast("Any", self).get(*args)

    def options(self, *_: str) -> None:
        """Say which methods this address takes."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)

    def query(self, name: str) -> str | None:
        """Read a parameter of the address, as it was sent.

        Raises:
            BadRequest: it came twice, or is not UTF-8.
        """
        return self._get_one(self.request.query_arguments, name)

    def _get_one(self, arguments: Mapping[str, list[bytes]], name: str) -> str | None:
        values = arguments.get(name, [])
        if len(values) > 1:
            raise BadRequest(Message("%(name)s was sent more than once.", name=name))
        try:
            return values[0].decode("utf-8") if values else None
        except UnicodeDecodeError as error:
            raise BadRequest(Message("%(name)s is not UTF-8.", name=name)) from error

    def compute_etag(self) -> str | None:
        """Make no ETag of the bytes of an answer; those that have one are given it."""
        return None

    def is_cross_site(self) -> bool:
        """Tell whether a browser says that another site's page sent this (OWASP CSRF)."""
        site = self.request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site not in {"same-origin", "none"}
        origin = self.request.headers.get("Origin")
        if origin is None:
            return False
        scheme, _, host = origin.lower().partition("://")
        is_ours = host == self.request.host.lower() and (scheme == "https" or not self.is_https)
        return not is_ours and origin != self.services.settings.public_url

    def is_valid_csrf_token(self, sent: str, session: SessionToken | None) -> bool:
        """Tell whether a page that was shown to this browser in this session sent this."""
        browser = self.read_cookie("csrf")
        signer = self.services.signer
        return browser is not None and signer.is_valid_csrf_token(sent, browser, session)

    def is_safe(self) -> bool:
        """Tell whether the method changes nothing."""
        return self.request.method in _SAFE_METHODS

    def on_finish(self) -> None:
        """Note that the session was used."""
        if self.session_token is not None and self.get_status() < 400:
            self.application.touch(self.session_token, self.address)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log what was not expected: where it happened, not its text, which may quote people."""
        if isinstance(value, TaskappError | tornado.web.HTTPError):
            return
        frames = "".join(traceback.format_tb(tb)).rstrip()
        logs.log("error", "error", exception=typ.__name__, traceback=frames)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer with an error, in the one shape that this kind of handler has."""
        error = _as_taskapp_error(status_code, kwargs.get("exc_info"))
        self.set_status(error.status)
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_retry_after(error)
        self.render_error(error)

    def set_retry_after(self, error: TaskappError | None) -> None:
        """Say when to try again, if what is wrong passes by itself."""
        if isinstance(error, TooManyRequests | Unavailable):
            self.set_header("Retry-After", str(error.retry_after))
        if isinstance(error, TooManyRequests):
            self.services.metrics.limited.labels(error.rate_limit.name).inc()

    def render_error(self, error: TaskappError) -> None:
        """Write the error's words: pages as HTML, the API as problem+json."""
        self.finish(error.title)


def _as_taskapp_error(status: int, exc_info: Any) -> TaskappError:
    """Give the error that tells of an exception, without its text."""
    value = exc_info[1] if exc_info else None
    if isinstance(value, TaskappError):
        return value
    if status == 405:
        return MethodNotAllowed()
    if status == 404:
        return NotFound()
    if 400 <= status < 500:
        return BadRequest()
    return TaskappError()
