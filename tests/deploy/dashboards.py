"""The dashboards of deploy/grafana: their panels and queries."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.support.server_process import CHECKOUT

FOLDER = CHECKOUT / "deploy" / "grafana" / "dashboards"
OF_CLUSTER = re.compile(r"\b(?:patroni|etcd|haproxy|pgbackrest)_\w+")
# MON-10 in docs/design/requirements.md
NAMES = ("overview", "api", "infrastructure", "database", "business")


@dataclass(frozen=True)
class Query:
    """The query of one line, bar or number of a panel."""

    expression: str
    legend: str
    is_instant: bool


@dataclass(frozen=True)
class Panel:
    """`place` is x, y, width and height on Grafana's grid of 24; `words` replace some values."""

    title: str
    kind: str
    unit: str
    place: tuple[int, int, int, int]
    words: dict[str, str]
    queries: tuple[Query, ...]

    @property
    def is_of_cluster(self) -> bool:
        """Return whether it shows what only a cluster has, or backups by pgBackRest."""
        return any(OF_CLUSTER.search(query.expression) for query in self.queries)


@dataclass(frozen=True)
class Dashboard:
    name: str
    title: str
    panels: tuple[Panel, ...]


def read_dashboards() -> Iterator[Dashboard]:
    for name in NAMES:
        document = json.loads((FOLDER / f"{name}.json").read_text())
        panels = tuple(_read_panel(panel) for panel in document["panels"])
        yield Dashboard(name, document["title"], panels)


def _read_panel(panel: dict[str, Any]) -> Panel:
    grid = panel["gridPos"]
    queries = tuple(
        Query(target["expr"], target["legendFormat"], target.get("instant", False))
        for target in panel["targets"]
    )
    place = (grid["x"], grid["y"], grid["w"], grid["h"])
    shown = panel["fieldConfig"]["defaults"]
    words = {
        value: option["text"]
        for mapping in shown.get("mappings", [])
        for value, option in mapping["options"].items()
    }
    return Panel(panel["title"], panel["type"], shown["unit"], place, words, queries)
