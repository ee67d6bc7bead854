"""Traces pass through a collector that others wrote, and say the same behind it."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from taskapp.config.settings import Settings
from tests.conftest import PASSWORD
from tests.deploy.tools import BIN
from tests.support.api_tools import running
from tests.support.collector import Collector
from tests.support.server_process import reserved_port

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("empty_database")]

[ROTEL] = (BIN.parent / "lib").glob("python3.*/site-packages/rotel/rotel-agent")


@contextmanager
def running_rotel(folder: Path, behind: Collector) -> Iterator[str]:
    """Run Rotel, which passes on what it receives, and yield its address."""
    with reserved_port() as http, reserved_port() as grpc, (folder / "log").open("wb") as log:
        options = {
            "otlp-http-endpoint": f"127.0.0.1:{http}",
            "otlp-grpc-endpoint": f"127.0.0.1:{grpc}",
            "exporter": "otlp",
            "otlp-exporter-protocol": "http",
            "otlp-exporter-endpoint": behind.address,
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        rotel = subprocess.Popen([ROTEL, "start", *words], stdout=log, stderr=log)
        try:
            yield f"http://127.0.0.1:{http}"
        finally:
            rotel.terminate()
            rotel.wait()


@pytest.mark.parametrize("compression", ["none", "gzip"])
async def test_a_request_with_its_statement_arrives_behind_another_collector(
    settings: Settings, tmp_path: Path, compression: str
) -> None:
    behind = Collector()
    with behind.listening(), running_rotel(tmp_path, behind) as address, patch.dict(os.environ):
        variables = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": address,
            "OTEL_EXPORTER_OTLP_COMPRESSION": compression,
            "OTEL_BSP_SCHEDULE_DELAY": "50",  # milliseconds
            "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=staging",
        }
        async with running(settings, **variables) as server:
            alice = await server.client.sign_up("alice@example.com", PASSWORD)
            response = await alice.post("/api/tasks", {"title": "Buy milk"})
            for name in ("POST /api/tasks", "tasks.insert"):
                await asyncio.to_thread(behind.wait_for, name)
    [request] = behind.named("POST /api/tasks")
    [statement] = [span for span in behind.spans if span.parent_id == request.span_id]
    assert (statement.name, statement.trace_id) == ("tasks.insert", request.trace_id)
    trace = f"00-{request.trace_id}-{request.span_id}-"
    assert response.headers["traceresponse"].startswith(trace)
    assert request.attributes["http.response.status_code"] == 201
    assert request.process["service.name"] == "taskapp"
    assert request.process["deployment.environment.name"] == "staging"
