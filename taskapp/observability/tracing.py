"""Traces with OpenTelemetry: a span for each request, statement and password hash.

Only `taskapp/runtime/tracing.py` imports this module, when traces are wanted. Spans name routes and
statements, never contents: no path, address, email address, parameter or text (ADR 0054).
"""

import asyncio
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.re import parse_env_headers

from taskapp.config.installation import version
from taskapp.core.threads import run_in_daemon_thread
from taskapp.observability.logs import log

# Seconds for the last spans at the end; with the drain it is less than the ten of Docker.
FLUSH_TIMEOUT = 0.5
_LIBRARY = logging.getLogger("opentelemetry")
_EXPORTERS = logging.getLogger("opentelemetry.exporter")
_NOBODY = logging.NullHandler()  # without any handler, standard error would be one
_PROPAGATOR = TraceContextTextMapPropagator()  # it ignores what is malformed, and long tracestates

Ids = dict[str, str]


class Tracing:
    """Makes spans; a thread sends them to the collector in batches.

    At most OTEL_BSP_MAX_QUEUE_SIZE spans wait for it, and the oldest are dropped for newer ones.
    """

    def __init__(self, headers: str) -> None:
        """Start the thread; `headers` is sent to the collector, as in OTEL_EXPORTER_OTLP_HEADERS.

        OpenTelemetry reads its other variables from the environment.
        """
        ours = {"service.name": "taskapp", "service.version": version()}
        self._provider = TracerProvider(
            resource=Resource.create(ours | dict(OTELResourceDetector().detect().attributes)),
            shutdown_on_exit=False,  # it may take 30 s
        )
        self._tracer = self._provider.get_tracer("taskapp", version())
        self._exporter = _ReportingExporter(
            OTLPSpanExporter(headers=parse_env_headers(headers, liberal=True))
        )
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        # From here on the library warns of each header of a client and each batch that it drops.
        _LIBRARY.propagate = False
        _LIBRARY.addHandler(_NOBODY)
        _EXPORTERS.addHandler(self._exporter.reasons)

    async def stop(self) -> None:
        """Send what is left, for at most `FLUSH_TIMEOUT` seconds."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await run_in_daemon_thread(self._provider.shutdown)
        except TimeoutError:
            self._exporter.note_failure("The collector has not taken the last spans in time")
        _EXPORTERS.removeHandler(self._exporter.reasons)
        _LIBRARY.removeHandler(_NOBODY)
        _LIBRARY.propagate = True

    def begin_request(
        self, headers: Mapping[str, str], *, is_trusted: bool, is_https: bool
    ) -> "RequestTrace":
        """Begin the span of a request, which is the current one from now on.

        It continues the trace of a trusted sender (W3C Trace Context). Any other sender gets a
        trace of its own, with a link to the sender's: it shall not decide what is recorded.
        """
        sent = _PROPAGATOR.extract(headers, context.Context())
        links = []
        if not is_trusted:
            theirs = trace.get_current_span(sent).get_span_context()
            sent = context.Context()
            if theirs.is_valid:
                links = [Link(SpanContext(theirs.trace_id, theirs.span_id, is_remote=True))]
        scheme = {"url.scheme": "https" if is_https else "http"}
        span = self._tracer.start_span("HTTP", sent, SpanKind.SERVER, scheme, links)
        context.attach(trace.set_span_in_context(span, context.Context()))
        return RequestTrace(span)

    def record_statement(
        self, name: str, seconds: float, failure: BaseException | None = None
    ) -> Ids | None:
        """Record a statement that has ended just now, and return its ids if it is traced.

        Only the statements of a request are, until it is answered.
        """
        if not trace.get_current_span().is_recording():
            return None
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=SpanKind.CLIENT,
            attributes={"db.system.name": "postgresql", "db.query.summary": name},
            start_time=end - int(seconds * 1e9),
        )
        if failure is not None:
            span.set_attribute("error.type", type(failure).__name__)
            span.set_status(StatusCode.ERROR)
        span.end(end)
        return _ids(span)

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Record the time of the block."""
        with self._tracer.start_as_current_span(
            name,
            record_exception=False,  # its text may quote users
            set_status_on_exception=False,
        ):
            yield


class RequestTrace:
    """The span of one request."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self.ids = _ids(span)

    @property
    def header(self) -> str:
        """Return the value of `traceresponse` (W3C Trace Context Level 2)."""
        flags = self._span.get_span_context().trace_flags
        return f"00-{self.ids['trace_id']}-{self.ids['span_id']}-{flags:02x}"

    def end(self, method: str, route: str, status: int) -> Ids | None:
        """End the span, and return its ids if it is recorded."""
        is_recorded = self._span.is_recording()
        known = "_OTHER" if method == "OTHER" else method
        self._span.update_name(f"{'HTTP' if method == 'OTHER' else method} {route}")
        self._span.set_attributes(
            {
                "http.request.method": known,
                "http.route": route,
                "http.response.status_code": status,
            }
        )
        if status >= 500:
            self._span.set_attribute("error.type", str(status))
            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        return self.ids if is_recorded else None


def _ids(span: Span) -> Ids:
    own = span.get_span_context()
    return {
        "trace_id": trace.format_trace_id(own.trace_id),
        "span_id": trace.format_span_id(own.span_id),
    }


class _ReportingExporter(SpanExporter):
    """Sends spans, and logs once that the collector does not take them, and once that it does."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._is_failing = False
        self.reasons = _FirstMessage()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans to the collector."""
        self.reasons.text = ""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            self.note_failure(self.reasons.text)
        elif self._is_failing:
            self._is_failing = False
            log("tracing.resumed")
        return result

    def note_failure(self, reason: str) -> None:
        """Log why spans were lost, the first time."""
        if not self._is_failing:
            self._is_failing = True
            log("tracing.failed", "warning", reason=reason)

    def shutdown(self) -> None:
        """End the connection to the collector."""
        self._exporter.shutdown()


class _FirstMessage(logging.Handler):
    """Keeps the first message of an exporter, which names the reason; the next ones give up."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""

    def emit(self, record: logging.LogRecord) -> None:
        self.text = self.text or record.getMessage()
