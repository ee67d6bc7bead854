"""Whether requests are traced."""

import os
from typing import TYPE_CHECKING

from taskapp.config.settings import Settings
from taskapp.observability.logs import log

if TYPE_CHECKING:
    from taskapp.observability.tracing import Tracing

FIX = "Install taskapp with its extra `tracing`, or unset OTEL_EXPORTER_OTLP_ENDPOINT."


def start_tracing(settings: Settings) -> "Tracing | None":
    """Return what traces requests, or None if there is no collector to send traces to.

    OpenTelemetry takes a quarter of a second and 20 MB, so that it is imported only if needed.
    """
    if not settings.has_collector:
        return None
    os.environ.update(settings.opentelemetry)  # what is in `.env` too: OpenTelemetry reads it here
    try:
        from taskapp.observability.tracing import Tracing  # noqa: PLC0415  # see above
    except ImportError as error:
        # The variables may be of all programs of a machine, and taskapp works without traces.
        log("tracing.disabled", "warning", reason=str(error), fix=FIX)
        return None
    return Tracing(settings.otlp_headers)
