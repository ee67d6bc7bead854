"""Whether requests are traced."""

import os
from typing import TYPE_CHECKING

from taskapp.config.settings import Settings
from taskapp.observability.logs import log

if TYPE_CHECKING:
    from taskapp.observability.tracing import Tracing

_INSTALL = "Install taskapp with its extra `tracing`, or unset OTEL_EXPORTER_OTLP_ENDPOINT."
_CORRECT = "Correct the variables that begin with OTEL_, or unset OTEL_EXPORTER_OTLP_ENDPOINT."


def start_tracing(settings: Settings) -> "Tracing | None":
    """Return what traces requests, or None if there is no collector to send traces to.

    OpenTelemetry takes a quarter of a second and 20 MB, so that it is imported only if needed. Its
    variables may be of all programs of a machine, and taskapp works without traces.
    """
    if not settings.has_collector:
        return None
    os.environ.update(settings.opentelemetry)  # what is in `.env` too: OpenTelemetry reads it here
    try:
        from taskapp.observability.tracing import Tracing  # noqa: PLC0415  # see above

        return Tracing(settings.otlp_headers)
    except ImportError as error:
        log("tracing.disabled", "warning", reason=str(error), fix=_INSTALL)
    except Exception as error:  # what its plug-ins raise, of which it loads those that it finds
        log("tracing.disabled", "warning", reason=repr(error), fix=_CORRECT)
    return None
