"""Draw the dashboards of deploy/grafana for a taskapp that is used for three minutes.

`python -m tests.deploy.draw_dashboards docs/pictures/dashboards.png` sends every panel's query to a
real Prometheus, and draws the result at the panel's place.
"""

import math
import re
import sys
import time
from collections.abc import Callable
from html import escape
from pathlib import Path

from tests.deploy.dashboards import Dashboard, Panel, read_dashboards
from tests.deploy.monitored_server import People, Prometheus, monitored_server
from tests.support.browser_fixtures import running_browser

SECONDS = 180  # of use
SHOWN = SECONDS - 15  # seconds; earlier there is no rate yet
COLUMN, ROW, GAP = 48, 16, 8  # pixels of Grafana's grid
COLORS = ("#1f5fbf", "#b8560f", "#2d7a36", "#a8201a", "#6b4ba1", "#0f7c85", "#8a6d00", "#5f5f59")
AXIS = 44  # pixels for the labels beside a chart
MAX_NAMES = 8
STYLE = """
body { width: 1152px; margin: 0; padding: 8px; background: #fff; color: #1c1c1a;
       font: 12px/1.3 sans-serif; }
h1 { margin: 14px 4px 6px; font-size: 17px; }
section { position: relative; }
article { position: absolute; box-sizing: border-box; overflow: hidden; padding: 5px 8px;
          border: 1px solid #d5d5cf; border-radius: 3px; }
h2 { margin: 0; font-size: 12px; }
.number { margin: 4px 0; font-size: 22px; }
.names { display: flex; flex-wrap: wrap; gap: 0 10px; font-size: 10px; }
.names i { font-style: normal; white-space: nowrap; }
.bar { display: flex; gap: 6px; font-size: 10px; }
.bar b { height: 9px; background: #1f5fbf; }
svg { display: block; }
polyline { shape-rendering: crispedges; }
text { fill: #5f5f59; font-size: 9px; }
"""

Line = tuple[str, list[tuple[float, float]]]


def main(target: Path) -> None:
    """Run and use a taskapp, and draw its dashboards."""
    with monitored_server() as (server, prometheus):
        with People(server).at_work():
            time.sleep(SECONDS)
        html = "".join(_draw_dashboard(dashboard, prometheus) for dashboard in read_dashboards())
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 1168, "height": 800})
        page.set_content(f"<!doctype html><style>{STYLE}</style><body>{html}")
        page.screenshot(path=target, full_page=True)


def _draw_dashboard(dashboard: Dashboard, prometheus: Prometheus) -> str:
    shown = [panel for panel in dashboard.panels if not panel.is_of_cluster]
    height = max(y + h for _, y, _, h in (panel.place for panel in shown)) * ROW
    panels = "".join(_draw_panel(panel, prometheus) for panel in shown)
    return (
        f'<h1>{escape(dashboard.title)}</h1><section style="height: {height}px">{panels}</section>'
    )


def _draw_panel(panel: Panel, prometheus: Prometheus) -> str:
    x, y, width, height = panel.place
    inside = (width * COLUMN - GAP - 18, height * ROW - GAP - 50)
    draw = {"stat": _draw_number, "bargauge": _draw_bars}.get(panel.kind)
    content = draw(panel, prometheus) if draw else _draw_chart(panel, prometheus, inside)
    place = (
        f"left: {x * COLUMN}px; top: {y * ROW}px; "
        f"width: {width * COLUMN - GAP}px; height: {height * ROW - GAP}px"
    )
    return f'<article style="{place}"><h2>{escape(panel.title)}</h2>{content}</article>'


def _draw_number(panel: Panel, prometheus: Prometheus) -> str:
    [query] = panel.queries
    value = prometheus.query(query.expression)[0][1]
    words = panel.words.get(f"{value:g}") or _written(value, panel.unit)
    return f'<p class="number">{escape(words)}</p>'


def _draw_bars(panel: Panel, prometheus: Prometheus) -> str:
    [query] = panel.queries
    series = prometheus.query(query.expression)
    rows = sorted(
        ((_named(query.legend, labels), value) for labels, value in series), key=_by_value
    )
    most = max(value for _, value in rows)
    return "".join(
        f'<div class="bar"><b style="width: {180 * value / most:.0f}px"></b>'
        f"{_written(value, panel.unit)} {escape(name)}</div>"
        for name, value in rows[:8]
    )


def _by_value(row: tuple[str, float]) -> float:
    return -row[1]


def _draw_chart(panel: Panel, prometheus: Prometheus, size: tuple[int, int]) -> str:
    lines: list[Line] = []
    for query in panel.queries:
        for labels, points in prometheus.query_range(query.expression, SHOWN):
            shown = [(at, value) for at, value in points if math.isfinite(value)]
            if shown:
                lines.append((_named(query.legend, labels), shown))
    width, height = size
    highest = max((value for _, points in lines for _, value in points), default=0) * 1.05 or 1
    since = time.time() - SHOWN

    def place(at: float, value: float) -> str:
        x = AXIS + (at - since) / SHOWN * (width - AXIS)
        return f"{x:.1f},{height - value / highest * height:.1f}"

    drawn = "".join(_draw_line(points, COLORS[n % 8], place) for n, (_, points) in enumerate(lines))
    names = "".join(
        f'<i style="color: {COLORS[n % 8]}">{escape(name)}</i>'
        for n, (name, _) in enumerate(lines[:MAX_NAMES])
    )
    return (
        f'<svg width="{width}" height="{height + 2}">'
        f'<path d="M{AXIS} 0V{height}H{width}" fill="none" stroke="#d5d5cf"/>'
        f'<text x="0" y="9">{_written(highest / 1.05, panel.unit)}</text>'
        f'<text x="0" y="{height - 1}">0</text>{drawn}</svg><div class="names">{names}</div>'
    )


def _draw_line(
    points: list[tuple[float, float]], color: str, place: Callable[[float, float], str]
) -> str:
    path = " ".join(place(at, value) for at, value in points)
    return f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="1.3"/>'


def _named(legend: str, labels: dict[str, str]) -> str:
    """Return the name of a series as in Grafana, with names instead of this run's ports."""
    known = labels | {"instance": "this machine"}
    return re.sub(r"{{(\w+)}}", lambda name: known.get(name[1], ""), legend).strip()


def _written(value: float, unit: str) -> str:
    """Return a value with its unit."""
    if unit == "percentunit":
        return f"{value * 100:.3g} %"
    if unit == "s":
        return f"{value * 1000:.3g} ms" if value < 1 else f"{value:.3g} s"
    if unit in {"bytes", "Bps"}:
        step = min(3, int(math.log(max(value, 1), 1024)))
        return (
            f"{value / 1024**step:.3g} {('B', 'KiB', 'MiB', 'GiB')[step]}{'/s' * (unit == 'Bps')}"
        )
    return f"{value:.4g}" + {"reqps": " /s", "ops": " /s"}.get(unit, "")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
