"""Reads the metrics as Prometheus does."""

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.clients import ApiClient

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def read_metrics(client: ApiClient) -> Samples:
    """Return every value by name and labels."""
    response = await client.get("/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(response.body.decode())
        for sample in family.samples
    }


class Metrics:
    """The values of the metrics, as differences from the first reading."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._before: dict[Any, float] = {}
        self._now: dict[Any, float] = {}

    async def look(self) -> None:
        self._before, self._now = self._now, await read_metrics(self._client)

    def value(self, name: str, **labels: str) -> float:
        return self._now[f"taskapp_{name}", frozenset(labels.items())]

    def grown(self, name: str, **labels: str) -> float:
        key = f"taskapp_{name}", frozenset(labels.items())
        return self._now.get(key, 0) - self._before.get(key, 0)
