"""The application: routes, templates and services together, and what it does for each request."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic
from typing import Any, cast
from weakref import WeakSet

import tornado.httputil
import tornado.web
from prometheus_client import Histogram
from tornado.iostream import IOStream
from tornado.routing import URLSpec

from handlers.rendering.templates import Templates
from taskapp.auth.signing import SessionToken
from taskapp.core.client_address import limit_key
from taskapp.core.deadlines import DeadlineTimer
from taskapp.core.errors import TaskappError
from taskapp.observability.logs import log
from taskapp.queries.sessions import TOUCH_INTERVAL, touch_session
from taskapp.services import Services

MAX_BODY_SIZE = 256 * 1024  # bytes: a description of 10,000 emoji, each escaped as \ud83d\ude00
BODY_SECONDS = 30.0  # for a whole body, however large
MAX_FORM_FIELDS = 100  # fields, in a body or an address; the largest of ours has 14
START_TIMEOUT = 4.0  # seconds that a request waits for a start, so that 503 comes within five
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Below a warning Tornado quotes headers that it cannot read, which may hold a token or a cookie.
logging.getLogger("tornado.general").setLevel(logging.WARNING)

# Nobody sends files here, and the parser for them has had its share of weaknesses.
tornado.httputil.set_parse_body_config(
    tornado.httputil.ParseBodyConfig(
        multipart=tornado.httputil.ParseMultipartConfig(enabled=False),
        urlencoded=tornado.httputil.ParseUrlEncodedConfig(max_arguments=MAX_FORM_FIELDS),
    )
)


class Application(tornado.web.Application):
    """What all handlers share."""

    def __init__(
        self,
        services: Services,
        fixed: Mapping[str, tuple[type[tornado.web.RequestHandler], str]],
        patterns: list[URLSpec],
        *,
        not_found: type[tornado.web.RequestHandler],
    ) -> None:
        """Take the services, the routes, and the handler of every other address.

        `fixed` has the handlers of paths without parameters, each with the name of its route;
        `patterns` has the others.
        """
        self.services = services
        self.is_https = services.settings.is_https
        base = services.settings.base_path.replace("/", "-")
        self._cookie_prefix = f"{'__Host-' if self.is_https else ''}taskapp{base}-"
        self._fixed = fixed
        self._state = "starting"
        self._started = asyncio.Event()
        self.in_flight = 0
        # Connections on which a request is to begin, and those of which the body is still coming.
        self.idle_connections: DeadlineTimer[IOStream] = DeadlineTimer(IOStream.close)
        self.incoming_bodies: DeadlineTimer[IOStream] = DeadlineTimer(IOStream.close)
        self._sending: WeakSet[Any] = WeakSet()
        self._touched: set[bytes] = set()
        self._touched_since = monotonic()
        self._background: set[asyncio.Task[None]] = set()
        self._histograms: dict[tuple[str, str, int], Histogram] = {}
        services.metrics.in_flight.set_function(lambda: self.in_flight)
        super().__init__(
            cast("list[Any]", patterns),
            default_handler_class=not_found,
        )
        self.templates = Templates(services.settings, self.path)

    @property
    def state(self) -> str:
        """Tell whether it is starting, ready or stopping."""
        return self._state

    @state.setter
    def state(self, state: str) -> None:
        self._state = state
        self._started.set()

    async def wait_until_started(self) -> None:
        """Wait for the database to be open, but no longer than for an answer of it."""
        if not self._started.is_set():
            await asyncio.wait([asyncio.ensure_future(self._started.wait())], timeout=START_TIMEOUT)

    def cookie_name(self, purpose: str) -> str:
        """Name a cookie; behind https only this host can have set it (RFC 6265bis, `__Host-`)."""
        return self._cookie_prefix + purpose

    def path(self, path: str) -> str:
        """Give a path of this site as a browser asks for it, below the base path."""
        return self.services.settings.base_path + path

    def find_handler(self, request: Any, **kwargs: Any) -> Any:
        """Find who answers a request; only paths with parameters are matched one by one."""
        found = self._fixed.get(request.path)
        if found is None:
            return super().find_handler(request, **kwargs)
        handler, route = found
        return self.get_handler_delegate(request, handler, {"route": route})

    def get_handler_delegate(
        self, request: Any, target_class: Any, *args: Any, **kwargs: Any
    ) -> Any:
        """Answer a body that is too large with 413, where Tornado would only hang up."""
        whole = super().get_handler_delegate(request, target_class, *args, **kwargs)
        refuse = partial(super().get_handler_delegate, request, target_class.too_large)
        stream = request.connection.stream
        self.idle_connections.discard(stream)
        return _BodyLimit(self.incoming_bodies, stream, whole, refuse)

    def log_request(self, handler: tornado.web.RequestHandler) -> None:
        """Log and measure a request that has been answered."""
        request = handler.request
        status = handler.get_status()
        route = getattr(handler, "route", "")
        seconds = request.request_time()
        method = request.method if request.method in METHODS else "OTHER"
        session: SessionToken | None = getattr(handler, "session_token", None)
        self.in_flight -= 1
        stream = getattr(request.connection, "stream", None)
        if stream is not None and stream.writing():
            self._sending.add(stream)
        self._histogram(method, route, status).observe(seconds)
        log(
            "request",
            "error" if status >= 500 and status != 503 else "info",
            method=method,
            route=route,
            status=status,
            ms=round(seconds * 1000, 2),
            userId=session.user_id if session else None,
            address=getattr(handler, "address", None),
        )

    def touch(self, session: SessionToken, address: str) -> None:
        """Note where a session was used and move its end, in the background, once a minute."""
        if monotonic() - self._touched_since >= TOUCH_INTERVAL.total_seconds():
            self._touched.clear()
            self._touched_since = monotonic()
        if session.secret_hash in self._touched or self.services.maintenance.window is not None:
            return
        self._touched.add(session.secret_hash)
        task = asyncio.create_task(self._touch(session, address))
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def _touch(self, session: SessionToken, address: str) -> None:
        idle, place = self.services.settings.session_idle, limit_key(address)
        try:
            await touch_session(self.services.database, session.secret_hash, idle, place)
        except TaskappError:
            self._touched.discard(session.secret_hash)  # the next request tries again

    async def drain(self, seconds: float) -> bool:
        """Wait until every request is received and answered; False if it takes longer."""
        deadline = monotonic() + seconds
        while self._is_busy():
            if monotonic() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _is_busy(self) -> bool:
        return bool(
            self.incoming_bodies
            or self.in_flight
            or self._background
            or any(stream.writing() for stream in self._sending)
        )

    def _histogram(self, method: str, route: str, status: int) -> Histogram:
        key = (method, route, status)
        histogram = self._histograms.get(key)
        if histogram is None:
            histogram = self.services.metrics.requests.labels(method, route, str(status))
            self._histograms[key] = histogram
        return histogram


class _BodyLimit(tornado.httputil.HTTPMessageDelegate):
    """Receives a request and passes it on, or, if its body grows too large, a refusal."""

    def __init__(
        self,
        incoming_bodies: DeadlineTimer[IOStream],
        stream: IOStream,
        whole: Any,
        refuse: Callable[[], Any],
    ) -> None:
        self._incoming_bodies = incoming_bodies
        self._stream = stream
        self._whole = whole
        self._refuse = refuse
        self._size = 0
        self._is_begun = False

    def headers_received(self, start_line: Any, headers: tornado.httputil.HTTPHeaders) -> Any:
        deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        self._incoming_bodies.begin(self._stream, deadline)
        self._is_begun = True
        return self._whole.headers_received(start_line, headers)

    def data_received(self, chunk: bytes) -> Any:
        self._size += len(chunk)
        if self._size <= MAX_BODY_SIZE:
            return self._whole.data_received(chunk)
        return None

    def finish(self) -> None:
        self._end()
        (self._whole if self._size <= MAX_BODY_SIZE else self._refuse()).finish()

    def on_connection_close(self) -> None:
        self._end()
        self._whole.on_connection_close()

    def _end(self) -> None:
        if self._is_begun:
            self._incoming_bodies.end(self._stream)
            self._is_begun = False
