"""The dashboards of deploy/grafana, as far as Prometheus is asked by them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.server_process import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "grafana" / "dashboards"


@dataclass(frozen=True)
class Query:
    """What one line, bar or number of a panel shows."""

    expression: str
    legend: str
    is_instant: bool


@dataclass(frozen=True)
class Panel:
    """A panel with its queries; `place` is x, y, width and height on Grafana's grid of 24."""

    title: str
    kind: str
    unit: str
    place: tuple[int, int, int, int]
    queries: tuple[Query, ...]


@dataclass(frozen=True)
class Dashboard:
    """A dashboard and its panels."""

    name: str
    title: str
    panels: tuple[Panel, ...]


def read_dashboards() -> Iterator[Dashboard]:
    """Read all dashboards by their names."""
    for path in sorted(FOLDER.glob("*.json")):
        document = json.loads(path.read_text())
        panels = tuple(_read_panel(panel) for panel in document["panels"])
        yield Dashboard(path.stem, document["title"], panels)


def _read_panel(panel: dict[str, Any]) -> Panel:
    grid = panel["gridPos"]
    queries = tuple(
        Query(target["expr"], target["legendFormat"], target.get("instant", False))
        for target in panel["targets"]
    )
    place = (grid["x"], grid["y"], grid["w"], grid["h"])
    unit = panel["fieldConfig"]["defaults"]["unit"]
    return Panel(panel["title"], panel["type"], unit, place, queries)
