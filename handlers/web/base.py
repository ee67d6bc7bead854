"""The base of all handlers: request id, session, headers, errors."""

import asyncio
import re
import traceback
from collections.abc import Mapping
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING, Any, ClassVar, cast

import tornado.web
from uuid_utils import uuid7

from handlers.rendering.negotiation import negotiate_encoding
from handlers.web.application import Application
from handlers.web.body_limit import MAX_BODY_SIZE
from handlers.web.cookies import is_cookie_value, read_cookies
from handlers.web.entity_tags import is_known
from handlers.web.hosts import normalize_origin
from handlers.web.safe_headers import CSP_NOTHING, NOT_CACHED, safe_header_lines
from taskapp.auth.rate_limits import SessionLimit
from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import client_address, is_in
from taskapp.core.errors import (
    BadRequest,
    EncodedBody,
    MethodNotAllowed,
    Misdirected,
    NotAuthenticated,
    NotFound,
    RateLimitStatus,
    TaskappError,
    TooManyRequests,
    Unavailable,
    UnderMaintenance,
)
from taskapp.core.messages import Message
from taskapp.observability import logs
from taskapp.services import Services

if TYPE_CHECKING:  # tracing imports OpenTelemetry
    from handlers.web.request_stream import RequestStream
    from taskapp.observability.tracing import RequestTrace

_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
# Errors that come from the database, after it has found the session.
_OF_LIVE_SESSIONS = (403, 404, 412)
# Characters, before they are quoted. Paths of this site have fewer, and a proxy takes a response
# whose headers do not fit into its buffer for a failure of the server.
MAX_PATH_LENGTH = 500
PROBE_INTERVAL = 0.1  # seconds


class BaseHandler(tornado.web.RequestHandler):
    """A request. It is rejected without a session, unless the handler is public."""

    is_public: ClassVar[bool] = False
    # Requests wait while the database is opening, so that deploys are invisible; during maintenance
    # they get 503.
    needs_database: ClassVar[bool] = True
    content_security_policy: ClassVar[str] = CSP_NOTHING
    content_type: ClassVar[str] = "text/html; charset=UTF-8"
    resource_policy = "same-origin"  # which sites may embed the response
    max_body_size: ClassVar[int] = MAX_BODY_SIZE
    too_large: ClassVar[type["BaseHandler"]]  # the handler when the body is too large

    application: Application
    services: Services
    route: str
    cache_control: str
    session_token: SessionToken | None = None
    trace: "RequestTrace | None" = None
    peer: str  # the address of the connection, or "unix"
    address: str  # the address of the client, which a trusted proxy may forward
    is_https: bool  # for the client, by the settings or a trusted proxy
    _request_id: str | None = None
    _task: asyncio.Task[Any] | None = None  # that runs the handler
    _is_counted = False  # for the session, against the limit of its user

    def initialize(self, route: str = "(none)") -> None:
        """Set the pattern of the route, its name in the log and the metrics."""
        self.route = route

    @property
    def session(self) -> SessionToken:
        """Return the session that came with the request.

        Raises:
            NotAuthenticated: the request has no session.
        """
        if self.session_token is None:
            raise NotAuthenticated
        return self.session_token

    def set_default_headers(self) -> None:
        """Set the headers of every response; Tornado calls this first, and again for an error."""
        if self._request_id is None:
            self._start_request()
        self.cache_control = NOT_CACHED
        self.clear_header("Server")  # clients need not know what runs here (ASVS 13.4.6)
        self.set_header("Content-Type", self.content_type)
        if self.trace is not None:
            self.set_header("traceresponse", self.trace.header)
        if self.application.state == "stopping":
            self.set_header("Connection", "close")

    def finish(self, chunk: str | bytes | dict[str, Any] | None = None) -> "asyncio.Future[None]":
        """Send the response, with the headers that every response has."""
        self.stream.header_lines = self.header_lines().encode("ascii")
        return super().finish(chunk)

    def header_lines(self) -> str:
        """Return the lines of the headers that no method of a handler sets, each with its end.

        Names are spelled as Tornado spells all others.
        """
        safe = safe_header_lines(
            self.content_security_policy,
            is_https=self.is_https,
            cache_control=self.cache_control,
            resource_policy=self.resource_policy,
        )
        return f"{safe}X-Request-Id: {self._request_id}\r\n"

    @property
    def stream(self) -> "RequestStream":
        """Return the connection of the request."""
        connection: Any = self.request.connection
        stream: RequestStream = connection.context.stream
        return stream

    def _start_request(self) -> None:
        self.services = self.application.services
        sent = self.header("X-Request-ID")
        self._request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else str(uuid7())
        self.application.in_flight += 1
        self.peer = self.address = str(self.request.remote_ip)
        self.is_https = self.application.is_https
        if trusted := self.services.settings.trusted_proxies:
            headers = self.request.headers
            forwarded_for = ",".join(headers.get_list("X-Forwarded-For"))
            self.address = client_address(self.peer, forwarded_for, trusted)
            if headers.get("X-Forwarded-Proto") == "https" and is_in(self.peer, trusted):
                self.is_https = True
        logs.request_values.set({"requestId": self._request_id} | self._start_trace())

    def _start_trace(self) -> dict[str, str]:
        """Begin the trace of the request, if requests are traced, and return its ids."""
        if (tracing := self.services.tracing) is None:
            return {}
        is_trusted = is_in(self.peer, self.services.settings.trace_parents)
        self.trace = tracing.begin_request(
            self.request.headers, is_trusted=is_trusted, is_https=self.is_https
        )
        return self.trace.ids

    def header(self, name: str) -> str:
        """Return a header of the request, or an empty text.

        `headers.get` raises and catches an error inside when it is absent: twice the instructions.
        """
        return ",".join(self.request.headers.get_list(name))

    @property
    def shown_path(self) -> str:
        """Return the path of the request as a response may repeat it; empty if it is too long."""
        path = str(self.request.path)
        return path if len(path) <= MAX_PATH_LENGTH else ""

    @property
    def user_agent(self) -> str:
        """Return what the client calls itself, which may be anything."""
        return self.header("User-Agent")

    def is_forwarded(self) -> bool:
        """Return whether the request comes from a proxy, by its headers."""
        headers = self.request.headers
        return any(name in headers for name in ("X-Forwarded-For", "Forwarded", "X-Real-Ip"))

    @classmethod
    @cache
    def allowed_methods(cls) -> tuple[str, ...]:
        """Return the methods that this handler implements, in order."""
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
        """Authenticate the request, and reject it if it cannot be handled.

        Raises:
            Misdirected: the request is for another host.
            UnderMaintenance: the handler needs the database.
            MethodNotAllowed: the handler does not implement the method.
            NotAuthenticated: the handler is not public, and there is no session.
            TooManyRequests: the user has sent too many.
        """
        self.check_host()
        if self.request.method == "OPTIONS":
            return
        self._task = asyncio.current_task()
        self.stream.on_end_of_input = self._watch_client
        self.session_token = self.authenticate()
        if self.needs_database:
            if (window := self.services.maintenance.window) is not None:
                raise UnderMaintenance(window.message)
            if self.application.state == "starting":
                await self.application.wait_until_started()
        if self.request.method not in self.allowed_methods():
            raise MethodNotAllowed
        if self.is_public:
            return
        if self.session_token is None:
            raise NotAuthenticated
        await self.count_request(self.session_token)

    async def count_request(self, session: SessionToken) -> None:
        """Count the request against the limit of its user.

        Raises:
            TooManyRequests: the limit is reached.
        """
        status = await self.limit.hit(session)
        if status is not None:
            self._is_counted = True
            self.note_limit(status)

    @property
    def limit(self) -> SessionLimit:
        """Return the limit of the requests of a user that are of this kind."""
        return self.services.limits.pages

    def note_limit(self, status: RateLimitStatus) -> None:
        """Take note of what remains of the limit; only the API tells its clients."""

    def check_host(self) -> None:
        """Reject a request for another host.

        Raises:
            Misdirected: this site has no such name.
        """
        if not self.application.hosts.includes(self.request.host):
            raise Misdirected

    def authenticate(self) -> SessionToken | None:
        """Return the session of the request: pages read a cookie, the API a token."""
        return None

    @cached_property
    def sent_cookies(self) -> Mapping[str, str]:
        """Return all cookies of the request by their names."""
        return read_cookies(";".join(self.request.headers.get_list("Cookie")))

    def read_cookie(self, purpose: str) -> str | None:
        """Return the value of one of our cookies, or None if it can be none of ours."""
        value = self.sent_cookies.get(self.application.cookie_name(purpose))
        if value is None and self.earlier_cookie_prefix:
            value = self.sent_cookies.get(self.earlier_cookie_prefix + purpose)
        return value if value and is_cookie_value(value) else None

    @cached_property
    def earlier_cookie_prefix(self) -> str | None:
        """Return the earlier prefix under which this instance has set cookies, or None.

        Those are ours that come beside a session that we signed: another instance on this host may
        have set others.
        """
        for prefix in self.application.earlier_cookie_prefixes:
            session = self.sent_cookies.get(f"{prefix}session")
            if session and self.services.signer.read_session_cookie(session):
                return prefix
        return None

    def read_cookie_session(self) -> SessionToken | None:
        """Return the session of the cookie, if its signature is valid.

        Only the database knows whether the session has ended.
        """
        cookie = self.read_cookie("session")
        if not cookie:
            return None
        return self._count_rejected(self.services.signer.read_session_cookie(cookie))

    def _count_rejected(self, session: SessionToken | None) -> SessionToken | None:
        if session is None:
            self.services.metrics.rejected_tokens.inc()
        return session

    async def head(self, *args: str) -> None:
        """Respond as GET does; Tornado leaves out the body."""
        await cast("Any", self).get(*args)

    def options(self, *_: str) -> None:
        """Respond with the allowed methods."""
        self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_status(204)

    def query(self, name: str) -> str | None:
        """Return a query parameter, unaltered.

        Raises:
            BadRequest: it was sent more than once, or is not UTF-8.
        """
        return self._get_one(self.request.query_arguments, name)

    def _get_one(self, arguments: Mapping[str, list[bytes]], name: str) -> str | None:
        values = arguments.get(name, [])
        if len(values) > 1:
            raise BadRequest(Message("%(name)s must be sent only once.", name=name))
        try:
            return values[0].decode("utf-8") if values else None
        except UnicodeDecodeError as error:
            raise BadRequest(Message("%(name)s must be valid UTF-8.", name=name)) from error

    def compute_etag(self) -> str | None:
        """Return None: an ETag is the version of what is shown, not a hash of the response."""
        return None

    def is_known(self, tag: str) -> bool:
        """Return whether the client has the version with this entity tag, by `If-None-Match`."""
        return is_known(tag, self.header("If-None-Match"))

    def finish_encoded(self, digest: str, codings: Mapping[str, bytes]) -> None:
        """Send a file in the best coding that the client accepts, or 304 if the client has it."""
        coding = negotiate_encoding(self.header("Accept-Encoding"), codings)
        tag = f"{digest}-{coding}"
        self.set_header("Etag", f'"{tag}"')
        self.add_header("Vary", "Accept-Encoding")
        if coding != "identity":
            self.set_header("Content-Encoding", coding)
        if self.is_known(tag):
            self.set_status(304)
            self.finish()
        else:
            self.finish(codings[coding])

    def is_cross_site(self) -> bool:
        """Return whether a page of another site sent the request, by its headers (OWASP CSRF)."""
        return self.is_same_origin() is False

    def is_same_origin(self) -> bool | None:
        """Return whether a page of this site sent the request; None if no header tells."""
        site = self.request.headers.get("Sec-Fetch-Site")
        if site is not None:
            return site in {"same-origin", "none"}
        origin = self.request.headers.get("Origin")
        if origin is None:
            return None
        schemes = ("https",) if self.is_https else ("https", "http")
        ours = {normalize_origin(f"{scheme}://{host}") for scheme in schemes for host in self.hosts}
        public_url = self.services.settings.public_url
        return normalize_origin(origin) in ours or bool(public_url and origin == public_url)

    @property
    def hosts(self) -> list[str]:
        """Return the hosts, with their ports, by which the client may have asked for this site.

        A proxy may ask for another one than its client, and name the client's.
        """
        forwarded = ",".join(self.request.headers.get_list("X-Forwarded-Host"))
        nearest = forwarded.rpartition(",")[2].strip()  # a proxy appends its own
        is_trusted = is_in(self.peer, self.services.settings.trusted_proxies)
        return [self.request.host, *([nearest] if nearest and is_trusted else [])]

    def is_valid_csrf_token(self, sent: str, session: SessionToken | None) -> bool:
        """Return whether a CSRF token was issued to this browser in this session."""
        browser = self.read_cookie("csrf")
        signer = self.services.signer
        return browser is not None and signer.is_valid_csrf_token(sent, browser, session)

    @property
    def has_encoded_body(self) -> bool:
        """Return whether the body has a content coding, which no handler decodes."""
        return self.header("Content-Encoding").lower() not in {"", "identity"}

    def is_safe(self) -> bool:
        """Return whether the method changes nothing (RFC 9110, 9.2.1)."""
        return self.request.method in _SAFE_METHODS

    def on_connection_close(self) -> None:
        """Let others have the place in the queue for passwords, if the request waits there."""
        if self._task is not None:
            self.services.passwords.queue.leave(self._task)

    def _watch_client(self, *, is_probed: bool = False) -> None:
        """Find out, until the response, whether a client that sends no more is gone.

        The kernel cannot tell: both have ended their side. So a client that waits in the queue for
        passwords gets an interim response, which HTTP/1.0 does not know (ADR 0039).
        """
        if self._task is None or self._task.done():
            return
        if is_probed and self.stream.is_reset():
            self.on_connection_close()
            return
        queue = self.services.passwords.queue
        if not is_probed and queue.is_waiting(self._task) and self.request.version != "HTTP/1.0":
            self.stream.probe()
            is_probed = True
        watch = partial(self._watch_client, is_probed=is_probed)
        asyncio.get_running_loop().call_later(PROBE_INTERVAL, watch)

    def on_finish(self) -> None:
        """Record the use of the session, and count it for its user if it was found to be live."""
        if self.session_token is None:
            return
        if self.get_status() < 400:
            self.application.session_activity.record(self.session_token, self.address)
        if self._is_counted and self._has_found_session():
            self.limit.record_for_user(self.session_token)

    def _has_found_session(self) -> bool:
        """Return whether the status is one that only a live session gets."""
        status = self.get_status()
        is_redirect = status == 303 and self.is_safe()  # to the page that has a form: no statement
        return status in _OF_LIVE_SESSIONS or (status < 400 and not is_redirect)

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Log where an unexpected exception was raised, without its text, which may quote users."""
        if isinstance(value, TaskappError | tornado.web.HTTPError):
            return
        frames = "".join(traceback.format_tb(tb)).rstrip()
        logs.log("request.failed", "error", exception=typ.__name__, traceback=frames)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Respond with an error, with the headers that belong to it."""
        error = _as_taskapp_error(status_code, kwargs.get("exc_info"))
        if type(error) is BadRequest and self.has_encoded_body:
            error = EncodedBody()  # Tornado parses no such form
        self.set_status(error.status)
        if isinstance(error, EncodedBody):
            self.set_header("Accept-Encoding", "identity")  # RFC 9110, 12.5.3
        if isinstance(error, MethodNotAllowed):
            self.set_header("Allow", ", ".join(self.allowed_methods()))
        self.set_retry_after(error)
        self.render_error(error)

    def set_retry_after(self, error: TaskappError | None) -> None:
        """Set when the client may try again, for an error that passes by itself."""
        if isinstance(error, TooManyRequests | Unavailable):
            self.set_header("Retry-After", str(error.retry_after))
        if isinstance(error, TooManyRequests):
            self.services.metrics.limited.labels(error.rate_limit.name).inc()

    def render_error(self, error: TaskappError) -> None:
        """Write the body of an error: pages write HTML, the API problem+json."""
        self.finish(error.title)


def _as_taskapp_error(status: int, exc_info: Any) -> TaskappError:
    """Return an error of ours for any exception, without the exception's text."""
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
