"""Traces arrive at a collector with what happened, and with nothing of anybody."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from handlers.routes import ROUTES
from taskapp.config.settings import Settings, SettingsError, load_settings
from taskapp.observability.logs import configure_logging
from taskapp.observability.tracing import FLUSH_TIMEOUT
from taskapp.runtime.tracing import start_tracing
from tests.conftest import PASSWORD
from tests.support.api_tools import Running, log_in_as_browser, running, send_raw
from tests.support.collector import Collector, ReceivedSpan
from tests.support.environment import inherited_environment
from tests.support.server_process import (
    CHECKOUT,
    Stopwatch,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("empty_database")]

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"  # of W3C's examples
SAMPLED = f"00-{TRACE}-{SPAN}-01"
SERVER, CLIENT, INTERNAL = 2, 3, 1
HTTP = {"http.request.method", "http.route", "http.response.status_code", "url.scheme"}
NEVER = {"OTEL_TRACES_SAMPLER": "parentbased_always_off"}  # but what a trusted sender wants
TRUSTED = {"TASKAPP_TRACE_PARENTS": "127.0.0.1"}


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Put back the variables, which are set for OpenTelemetry, and wait for the end of its threads.

    A thread goes on when `Tracing.stop` has given up: until then it draws random numbers, which
    hypothesis would take for those of another test.
    """
    threads = set(threading.enumerate())
    with patch.dict(os.environ):
        yield
    wait_until(lambda: not {each for each in threading.enumerate() if _is_exporter(each)} - threads)


def _is_exporter(thread: threading.Thread) -> bool:
    return thread.name.startswith("Otel")


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    with collector.listening():
        yield collector


@asynccontextmanager
async def traced(
    settings: Settings, collector: Collector, **changes: str
) -> AsyncIterator[Running]:
    """Run an application that sends traces to the collector at once."""
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_EXPORTER_OTLP_TIMEOUT": "3",  # seconds; the first of its attempts is after one
        "OTEL_BSP_SCHEDULE_DELAY": "50",  # milliseconds
    }
    async with running(settings, **variables, **changes) as server:
        yield server


async def arrived(collector: Collector, name: str, number: int = 1) -> list[ReceivedSpan]:
    return await asyncio.to_thread(collector.wait_for, name, number)


async def test_a_request_is_a_span_with_its_statements_and_its_hash_within(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector) as server:
        alice = await server.client.sign_up("alice@example.com", PASSWORD)
        made = await alice.post("/api/tasks", {"title": "Milk"})
        await alice.get(f"/api/tasks/{made.json['id']}")
    spans = collector.spans
    requests = {span.name: span for span in spans if span.kind == SERVER}
    inner = {
        name: {each.name for each in spans if each.parent_id == request.span_id}
        for name, request in requests.items()
    }
    assert inner["POST /api/auth/register"] == {"password.hash", "users.insert"}
    assert {"password.check", "users.find_by_email"} < inner["POST /api/auth/login"]
    assert inner["POST /api/tasks"] == {"tasks.insert"}
    assert inner["GET /api/tasks/:id"] == {"tasks.find"}
    assert sum(map(len, inner.values())) == len(spans) - len(requests)
    for span in spans:
        if span.kind == SERVER:
            assert set(span.attributes) == HTTP
            assert not span.parent_id
        elif span.name.startswith("password."):
            assert (span.kind, span.attributes) == (INTERNAL, {})
        else:
            wanted = {"db.system.name": "postgresql", "db.query.summary": span.name}
            assert (span.kind, span.attributes) == (CLIENT, wanted)
        assert not span.is_error
        (outer,) = (each for each in requests.values() if each.trace_id == span.trace_id)
        assert 0 < span.seconds <= outer.seconds
        assert span.process["service.name"] == "taskapp"
    created = requests["POST /api/tasks"].attributes
    assert (created["http.request.method"], created["http.response.status_code"]) == ("POST", 201)
    assert (created["http.route"], created["url.scheme"]) == ("/api/tasks", "http")


async def test_no_span_holds_anything_that_somebody_wrote_or_may_keep_secret(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector) as server:
        alice = await server.client.sign_up("alice-secret@example.com", PASSWORD)
        told = {"X-Request-ID": "word-of-a-client", "User-Agent": "agent-of-a-client"}
        made = await alice.post(
            "/api/tasks", {"title": "title-secret", "description": "text-secret"}, headers=told
        )
        task = made.json["id"]
        for _, pattern, *_ in ROUTES:
            path = pattern.replace(":id", task) if isinstance(pattern, str) else ""
            await alice.get(f"{path}?title=query-secret&cursor=query-secret", headers=told)
        await alice.send("BREW", "/path-secret", headers=told)
        await alice.post("/api/auth/login", {"email": "other-secret@example.com", "password": "x"})
        browser = await log_in_as_browser(server.client, "alice-secret@example.com", PASSWORD)
        await arrived(collector, "HTTP (none)")
        secrets = ["secret", "of-a-client", "example.com", PASSWORD, task, alice.user_id, "127.0.0"]
        secrets += [alice.headers["Authorization"].split()[-1], *browser[0].values()]
    assert len(collector.spans) > 2 * len(ROUTES)
    sent = b"".join(collector.bodies)
    assert [secret for secret in secrets if secret.encode() in sent] == []


async def test_the_trace_of_a_trusted_sender_is_continued_and_its_wish_is_followed(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector, **TRUSTED, **NEVER) as server:
        asked = {"traceparent": SAMPLED, "tracestate": "vendor=1"}
        response = await server.client.get("/api/health/live", headers=asked)
        asked = {"traceparent": SAMPLED.removesuffix("1") + "0"}
        await server.client.get("/api/health", headers=asked)
        (span,) = await arrived(collector, "GET /api/health/live")
    assert (span.trace_id, span.parent_id, span.trace_state) == (TRACE, SPAN, "vendor=1")
    assert response.headers["traceresponse"] == f"00-{TRACE}-{span.span_id}-01"
    assert {each.name for each in collector.spans} == {"GET /api/health/live"}


async def test_anybody_else_gets_a_trace_of_their_own_and_decides_nothing(
    settings: Settings, collector: Collector
) -> None:
    asked = {"traceparent": SAMPLED, "tracestate": "vendor=1"}
    async with traced(settings, collector) as server:
        response = await server.client.get("/api/health/live", headers=asked)
        (span,) = await arrived(collector, "GET /api/health/live")
    assert span.trace_id != TRACE
    assert (span.parent_id, span.trace_state, span.links) == ("", "", [(TRACE, SPAN)])
    assert response.headers["traceresponse"].startswith(f"00-{span.trace_id}-{span.span_id}-")
    collector.bodies.clear()
    # TraceIdRatioBased decides by the id, which would be the client's choice too.
    for chosen in ({**TRUSTED, "TASKAPP_TRACE_PARENTS": "192.0.2.0/24,unix"}, {}):
        variables = {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio"}
        variables |= {"OTEL_TRACES_SAMPLER_ARG": "0.0"}
        async with traced(settings, collector, **variables, **chosen) as server:
            for trace in (TRACE, "0" * 31 + "1", "f" * 32):
                asked = {"traceparent": f"00-{trace}-{SPAN}-01"}
                response = await server.client.get("/api/health/live", headers=asked)
                flags = response.headers["traceresponse"].rpartition("-")[2]
                assert int(flags, 16) & 1 == 0  # not recorded
    assert collector.spans == []


MALFORMED = [
    "",
    "nonsense",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"00-{TRACE[1:]}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"ff-{TRACE}-{SPAN}-01",
    f"00_{TRACE}_{SPAN}_01",
    f"{SAMPLED},{SAMPLED}",
    f"cc-{TRACE}-{SPAN}-01-{'x' * 600}",
    "0" * 10_000,
]


async def test_a_malformed_traceparent_and_a_long_tracestate_are_ignored_and_not_logged(
    settings: Settings, collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    async with traced(settings, collector, **TRUSTED) as server:
        for text in MALFORMED:
            asked = {"traceparent": text, "tracestate": "vendor=1"}
            response = await server.client.get("/api/health/live", headers=asked)
            assert response.status == 200
        long = {"traceparent": SAMPLED, "tracestate": ",".join(f"v{n}={n}" for n in range(200))}
        await server.client.get("/api/health", headers=long)
        spans = await arrived(collector, "GET /api/health/live", len(MALFORMED))
        (continued,) = await arrived(collector, "GET /api/health")
    assert {(span.parent_id, span.trace_state, len(span.links)) for span in spans} == {("", "", 0)}
    assert len({span.trace_id for span in spans} | {TRACE}) == len(MALFORMED) + 1
    assert (continued.trace_id, continued.trace_state) == (TRACE, "")
    events = {json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()}
    assert events == {"request.completed", "availability.changed"}  # by /api/health


async def test_a_request_that_is_not_traced_adds_nothing_to_the_one_before_it_on_its_connection(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector, **TRUSTED, **NEVER) as server:
        request = "GET /api/health HTTP/1.1\r\nHost: 127.0.0.1\r\n{}\r\n"
        pipelined = request.format(f"traceparent: {SAMPLED}\r\n") + request.format(
            "Connection: close\r\n"
        )
        received = await send_raw(server.client.base_url, pipelined.encode())
        assert received.count(b"HTTP/1.1 200") == 2
        await arrived(collector, "GET /api/health")
    names = [span.name for span in collector.spans]
    assert len(names) == len(set(names))


async def test_each_line_of_a_request_names_its_trace(
    settings: Settings, collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    async with traced(settings, collector) as server:
        alice = await server.client.sign_up("alice@example.com", PASSWORD)
        capsys.readouterr()
        await alice.post("/api/tasks", {"title": "Milk"})
        (span,) = await arrived(collector, "POST /api/tasks")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert {line["event"] for line in lines} == {"task.created", "request.completed"}
    assert {(line["trace_id"], line["span_id"]) for line in lines} == {
        (span.trace_id, span.span_id)
    }


async def test_the_metrics_lead_to_traces_for_whoever_accepts_openmetrics(
    settings: Settings, collector: Collector
) -> None:
    prometheus = {
        "Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"
    }
    async with traced(settings, collector, **TRUSTED, **NEVER) as server:
        await server.client.get("/api/health", headers={"traceparent": SAMPLED})
        await server.client.get("/api/health/live")
        (request,) = await arrived(collector, "GET /api/health")
        response = await server.client.get("/metrics", headers=prometheus)
        plain = await server.client.get("/metrics")
    assert response.headers["Content-Type"].startswith("application/openmetrics-text")
    exemplars = {
        sample.labels.get("route") or sample.labels["statement"]: sample.exemplar.labels
        for family in text_string_to_metric_families(  # type: ignore[no-untyped-call]  # theirs
            response.body.decode()
        )
        for sample in family.samples
        if sample.exemplar
    }
    assert exemplars.pop("/api/health") == {"trace_id": TRACE, "span_id": request.span_id}
    statements = {span.name: span.span_id for span in collector.spans if span.kind == CLIENT}
    assert {name: each["span_id"] for name, each in exemplars.items()} == statements
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert TRACE not in plain.body.decode()


async def test_what_fails_is_an_error_without_its_words(
    settings: Settings, collector: Collector
) -> None:
    async with traced(settings, collector) as server:
        account = {"email": "alice@example.com", "password": PASSWORD}
        for status in (201, 409):
            response = await server.client.post("/api/auth/register", account)
            assert response.status == status
        await server.services.database.close()
        await server.client.get("/api/health")
        (down,) = await arrived(collector, "GET /api/health")
        refused, made = sorted(
            (span for span in collector.named("users.insert")), key=lambda span: not span.is_error
        )
    assert refused.is_error
    assert refused.attributes["error.type"] == "UniqueViolation"
    assert not made.is_error
    (first, second) = collector.named("POST /api/auth/register")
    assert not first.is_error
    assert not second.is_error  # the client's, not the server's
    assert down.is_error
    assert down.attributes["error.type"] == "503"


async def test_a_collector_that_is_away_is_one_line_of_the_log_and_no_more(
    settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    collector = Collector()
    with reserved_port() as port:
        collector.address = f"http://127.0.0.1:{port}"
        limits = {"OTEL_BSP_MAX_QUEUE_SIZE": "16", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
        async with traced(settings, collector, **limits) as server:

            async def is_logged(event: str) -> dict[str, Any]:
                while True:
                    for _ in range(30):  # more than may wait
                        response = await server.client.get("/api/health/live")
                        assert response.status == 200
                    read = capsys.readouterr().err.splitlines()
                    lines.extend(map(json.loads, read))
                    for line in lines:
                        if line["event"] == event:
                            return line

            lines: list[dict[str, Any]] = []
            failed = await is_logged("tracing.failed")
            assert "refused" in failed["reason"]
            with collector.listening(port):
                await is_logged("tracing.resumed")
                await arrived(collector, "GET /api/health/live")
                collector.status = 401
                again = await is_logged("tracing.failed")
                assert "401" in again["reason"] or again is failed
    events = [line["event"] for line in lines if line["event"] != "request.completed"]
    assert events[:2] == ["tracing.failed", "tracing.resumed"]
    assert len(events) <= 3


async def test_only_so_many_spans_wait_for_a_collector_that_hangs_and_half_a_second_at_the_end(
    settings: Settings, collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    collector.may_answer.clear()
    limits = {
        "OTEL_BSP_MAX_QUEUE_SIZE": "16",
        "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "100",
    }
    variables = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    async with running(settings, **variables, **limits) as server:
        for _ in range(100):
            response = await server.client.get("/api/health/live")
            assert response.status == 200
        assert server.services.tracing
        watch = Stopwatch()
        await server.services.tracing.stop()
        assert watch.seconds < FLUSH_TIMEOUT + 0.5
    events = [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()]
    assert [event for event in events if event != "request.completed"] == ["tracing.failed"]
    collector.may_answer.set()


def test_what_is_left_is_sent_when_the_process_ends_and_headers_may_be_in_a_file(
    collector: Collector, tmp_path: Path, empty_database: str
) -> None:
    secret = tmp_path / "headers"
    secret.write_text("api-key=of%20ours\n")
    settings = {
        "TASKAPP_DATABASE_URL": empty_database,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{collector.address}/somewhere/else",
        "OTEL_EXPORTER_OTLP_HEADERS_FILE": str(secret),
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_BSP_SCHEDULE_DELAY": "3600000",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test,service.name=mine",
    }
    with new_data_folder() as folder, server_process(folder, settings=settings) as server:
        server.wait_until_ready().client().sign_up("alice@example.com")
        assert collector.bodies == []
        assert server.end() == 0
    assert collector.named("POST /api/auth/login")
    assert {each["api-key"] for each in collector.headers} == {"of ours"}
    assert set(collector.paths) == {"/somewhere/else"}
    process = collector.spans[0].process
    assert process["service.name"] == "mine"
    assert process["deployment.environment.name"] == "test"


IMPORTED = """
import sys, server, handlers.serve
from taskapp.config.settings import load_settings
from taskapp.runtime.tracing import start_tracing

endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
for variables in (
    {}, {"OTEL_SERVICE_NAME": "x", "OTEL_EXPORTER_OTLP_HEADERS": "x=y"},
    endpoint | {"OTEL_TRACES_EXPORTER": "none"},
):
    assert start_tracing(load_settings(variables)) is None
assert not [name for name in sys.modules if name.startswith(("opentelemetry", "google."))]
sys.modules["opentelemetry"] = None  # as if it were not installed
assert start_tracing(load_settings(endpoint)) is None
"""


def test_without_a_collector_nothing_of_opentelemetry_is_imported_nor_needed() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORTED],
        cwd=CHECKOUT,
        env=inherited_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = map(json.loads, done.stderr.splitlines())
    assert (line["event"], line["level"]) == ("tracing.disabled", "warning")
    assert "extra `tracing`" in line["fix"]


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "127.0.0.1:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "grpc://127.0.0.1:4317"},
        {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://alice:pass@example.com"},
        {"OTEL_TRACES_EXPORTER": "jaeger"},
        {"TASKAPP_TRACE_PARENTS": "everybody"},
    ],
    ids=str,
)
def test_what_cannot_be_a_collector_stops_the_start(variables: dict[str, str]) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(variables)
    (problem,) = caught.value.problems
    assert problem.startswith(next(iter(variables)))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_ATTRIBUTE_COUNT_LIMIT", "many"),
        ("OTEL_SPAN_LINK_COUNT_LIMIT", "-3"),
        ("OTEL_BSP_SCHEDULE_DELAY", "0"),
        ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "100000"),  # more than the queue holds
        ("OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER", "gcp"),
    ],
)
def test_what_opentelemetry_cannot_be_set_to_disables_traces_and_nothing_else(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = load_settings({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", name: value})
    configure_logging(settings)
    assert start_tracing(settings) is None
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["event"], line["level"]) == ("tracing.disabled", "warning")
    assert "OTEL_" in line["fix"]


def test_the_library_says_what_it_does_not_understand_only_at_the_start() -> None:
    assert logging.getLogger("opentelemetry").propagate  # the tests above have ended
