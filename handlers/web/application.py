"""The application: finds the handler of a request, and tracks requests and connections."""

import asyncio
import logging
import re
from collections.abc import Mapping
from functools import partial
from typing import Any, cast

import tornado.httputil
import tornado.web
from prometheus_client import Histogram
from tornado.httputil import HTTPInputError, HTTPServerRequest, RequestStartLine
from tornado.routing import URLSpec

from handlers.rendering.templates import Templates
from handlers.web.body_limit import BodyLimit
from handlers.web.connections import Connections
from handlers.web.cookies import cookie_prefixes
from handlers.web.hosts import Hosts
from taskapp.core.waiting import wait_until
from taskapp.observability.logs import log
from taskapp.operations.session_activity import SessionActivity
from taskapp.services import Services

MAX_FORM_FIELDS = 100  # fields in a body or a query; the largest form of ours has 14
START_TIMEOUT = 4.0  # seconds a request waits while the database opens: 503 comes within five
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_ABSOLUTE_FORM = re.compile(r"https?://([^/?]*)(.*)", re.IGNORECASE)

# Below a warning Tornado quotes headers that it cannot read, which may hold a token or a cookie.
logging.getLogger("tornado.general").setLevel(logging.WARNING)

# There are no file uploads, and multipart parsers have had many vulnerabilities.
tornado.httputil.set_parse_body_config(
    tornado.httputil.ParseBodyConfig(
        multipart=tornado.httputil.ParseMultipartConfig(enabled=False),
        urlencoded=tornado.httputil.ParseUrlEncodedConfig(max_arguments=MAX_FORM_FIELDS),
    )
)


class Application(tornado.web.Application):
    """What all handlers share.

    It finds the handler of a path, names cookies and paths below the base path, has the state of
    the process from start to drain and the open connections, and logs and measures each request.
    """

    def __init__(
        self,
        services: Services,
        fixed: Mapping[str, tuple[type[tornado.web.RequestHandler], str]],
        patterns: list[URLSpec],
        *,
        not_found: type[tornado.web.RequestHandler],
    ) -> None:
        """Set the routes.

        `fixed` maps each path without parameters to its handler and the name of its route,
        `patterns` has the paths with parameters, and `not_found` handles all others.
        """
        self.services = services
        self.is_https = services.settings.is_https
        self.hosts = Hosts(services.settings)
        self._cookie_prefix, *self.earlier_cookie_prefixes = cookie_prefixes(
            services.settings, services.signer.instance_marks
        )
        self._fixed = fixed
        self._state = "starting"
        self._has_started = asyncio.Event()
        self.in_flight = 0  # requests
        self.connections = Connections()
        self.session_activity = SessionActivity(services)
        self._histograms: dict[tuple[str, str, int], Histogram] = {}
        services.metrics.in_flight.set_function(lambda: self.in_flight)
        super().__init__(
            cast("list[Any]", patterns),
            default_handler_class=not_found,
        )
        self.templates = Templates(services.settings, self.path)

    @property
    def state(self) -> str:
        """Return "starting", "ready" or "stopping"."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self._has_started.set()

    async def wait_until_started(self) -> None:
        """Wait until the database is open, for at most `START_TIMEOUT`."""
        if not self._has_started.is_set():
            started = asyncio.ensure_future(self._has_started.wait())
            await asyncio.wait([started], timeout=START_TIMEOUT)

    def cookie_name(self, purpose: str) -> str:
        """Return the name of a cookie of ours."""
        return self._cookie_prefix + purpose

    def path(self, path: str) -> str:
        """Return a path of this site with the base path before it, as browsers request it."""
        return self.services.settings.base_path + path

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Return what handles a request; Tornado would try the patterns one by one."""
        if not request.path.startswith("/"):
            request = _in_origin_form(request)
        found = self._fixed.get(request.path)
        if found is None:
            return super().find_handler(request, **kwargs)
        handler, route = found
        return self.get_handler_delegate(request, handler, {"route": route})

    def get_handler_delegate(
        self, request: Any, target_class: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Return what receives a request for a handler, with a limit on its body."""
        return BodyLimit(
            self.connections,
            request.connection.context.stream,
            super().get_handler_delegate(request, target_class, *args, **kwargs),
            partial(super().get_handler_delegate, request, target_class.too_large),
            target_class.max_body_size,
        )

    def log_request(self, handler: tornado.web.RequestHandler) -> None:
        """Log and measure a request that has been answered."""
        request = handler.request
        status = handler.get_status()
        route = getattr(handler, "route", "")
        seconds = request.request_time()
        method = request.method if request.method in METHODS else "OTHER"
        session = getattr(handler, "session_token", None)
        self.in_flight -= 1
        trace = getattr(handler, "trace", None)
        exemplar = trace and trace.end(method, route, status)
        self._histogram(method, route, status).observe(seconds, exemplar)
        log(
            "request.completed",
            "error" if status >= 500 and status != 503 else "info",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            userId=session.user_id if session else None,
            address=getattr(handler, "address", None),
        )

    async def drain(self, seconds: float) -> bool:
        """Wait until all requests are received and answered; return False if time is up first."""
        return await wait_until(lambda: not self._is_busy(), seconds, interval=0.01)

    def _is_busy(self) -> bool:
        return bool(
            self.connections.is_any_busy() or self.in_flight or self.session_activity.is_writing
        )

    def _histogram(self, method: str, route: str, status: int) -> Histogram:
        key = (method, route, status)
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self.services.metrics.requests.labels(method, route, str(status))
            self._histograms[key] = histogram
        return histogram


def _in_origin_form(request: HTTPServerRequest) -> HTTPServerRequest:
    """Return a request for an absolute address as one for its path, with the address's host.

    The host in the address counts, and the header `Host` does not (RFC 9112, 3.2.2).

    Raises:
        HTTPInputError: the address has no valid host.
    """
    match = _ABSOLUTE_FORM.fullmatch(request.uri or "")
    if match is None:
        return request
    host, target = match.groups()
    if not host:
        raise HTTPInputError("The address has no host")
    request.headers["Host"] = host
    target = target if target.startswith("/") else f"/{target}"
    return HTTPServerRequest(
        start_line=RequestStartLine(request.method, target, request.version),
        headers=request.headers,
        connection=request.connection,
        server_connection=request.server_connection,
    )
