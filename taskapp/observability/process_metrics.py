"""The metrics of several processes in one answer: each tells its own on a private Unix socket."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from taskapp.observability.metrics import Metrics

TIMEOUT = 1.0  # seconds in which another process has to answer; else it is left out
LABEL = "process"


class _Family(msgspec.Struct, array_like=True):
    """A metric as it is sent from process to process."""

    name: str
    meaning: str
    kind: str
    samples: list[tuple[str, dict[str, str], float]]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Family]).decode


class MetricsExchange:
    """Tells the metrics of this process, and of the others while there are others."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._folder: Path | None = None
        self._process = ""

    @asynccontextmanager
    async def serving(self, folder: Path, process: str) -> AsyncIterator[None]:
        """Be one of several processes, which find each other's sockets in a folder.

        The folder has to be closed to other users; the socket bears the name of the process.
        """
        self._folder, self._process = folder, process
        async with await asyncio.start_unix_server(self._respond, folder / process):
            yield

    async def render(self) -> bytes:
        """Give the values of all processes in the text format of Prometheus.

        With several processes, what one did has a label with its name; what is true of all has not.
        """
        if self._folder is None:
            return self._metrics.render()
        others = self._find_others(self._folder)
        responses = await asyncio.gather(*(_ask(path) for path in others))
        families = {self._process: self._own_families()}
        families |= {path.name: response for path, response in zip(others, responses, strict=True)}
        merged = CollectorRegistry()
        merged.register(_Merged(families))
        return generate_latest(merged) + generate_latest(self._metrics.common)

    async def _respond(self, _reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(_encode(self._own_families()))
        writer.close()

    def _own_families(self) -> list[_Family]:
        return [
            _Family(
                metric.name,
                metric.documentation,
                metric.type,
                [(sample.name, sample.labels, sample.value) for sample in metric.samples],
            )
            for metric in self._metrics.registry.collect()
        ]

    def _find_others(self, folder: Path) -> list[Path]:
        return sorted(
            path for path in folder.iterdir() if path.is_socket() and path.name != self._process
        )


async def _ask(path: Path) -> list[_Family]:
    """Ask a process for its metrics; one that has ended, or hangs, has none."""
    try:
        async with asyncio.timeout(TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return _decode(await reader.read())
            finally:
                writer.close()
    except (OSError, TimeoutError, msgspec.DecodeError):
        return []


class _Merged(Collector):
    """The families of several processes, each sample with the name of its process."""

    def __init__(self, processes: dict[str, list[_Family]]) -> None:
        self._processes = processes

    def collect(self) -> Iterable[Metric]:
        metrics: dict[str, Metric] = {}
        for process, family in self._families():
            metric = metrics.setdefault(
                family.name, Metric(family.name, family.meaning, family.kind)
            )
            for name, labels, value in family.samples:
                metric.add_sample(name, {LABEL: process, **labels}, value)
        return metrics.values()

    def _families(self) -> Iterator[tuple[str, _Family]]:
        for process, families in self._processes.items():
            for family in families:
                yield process, family
