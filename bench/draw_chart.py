"""Draw docs/pictures/speed.svg from bench/README.md: `python -m bench.draw_chart`."""

import re
from html import escape

from bench.servers import CHECKOUT

CHART = CHECKOUT / "docs" / "pictures" / "speed.svg"
CONNECTIONS = 32
REQUESTS = {
    "list": "list 50 tasks",
    "get": "read a task",
    "create": "create a task",
    "update": "update a task",
}
SERVERS = {
    "taskapp": "taskapp",
    "aiopg_fair": "bare Tornado (no sessions, limits, log)",
    "express": "Express, Sequelize",
    "fastapi": "FastAPI, SQLAlchemy",
}
# Point 1: request, connections, server, and the median rate of its repetitions.
ROW = re.compile(r"^\| 1 \| (\w+) \| (\d+) \| (\w+) \| \d+ \| ([\d,.]+) \|", re.MULTILINE)
# Pixels.
WIDTH, LEFT, VALUE = 760, 130, 62
TOP, BAR, STEP, GROUP = 74, 15, 18, 90
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1c1c1a; }
.paper { fill: #fdfdfb; } .title { font-weight: 650; } .soft { fill: #5f5f59; }
.taskapp { fill: #1f5fbf; } .aiopg_fair { fill: #7c9cc9; }
.express { fill: #9a9a92; } .fastapi { fill: #c4c4bd; }
@media (prefers-color-scheme: dark) {
  text { fill: #ebebe8; } .paper { fill: #17181a; } .soft { fill: #a6a7a2; }
  .taskapp { fill: #8ab6f7; } .aiopg_fair { fill: #50709d; }
  .express { fill: #7b7d80; } .fastapi { fill: #55585c; }
}
"""


def read_rates(page: str) -> dict[tuple[str, str], float]:
    """Return the requests a second by request and server."""
    return {
        (request, server): float(rate.replace(",", ""))
        for request, connections, server, rate in ROW.findall(page)
        if int(connections) == CONNECTIONS and server in SERVERS
    }


def draw(rates: dict[tuple[str, str], float]) -> str:
    """Return the chart, an SVG that follows the reader's color scheme."""
    height = TOP + GROUP * len(REQUESTS)
    scale = (WIDTH - LEFT - VALUE) / max(rates.values())
    title = f"Requests a second, {CONNECTIONS} connections, one process on one core"
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>',
        f"<title>{title}</title><style>{STYLE}</style>",
        f'<rect class="paper" width="{WIDTH}" height="{height}" rx="8"/>',
        f'<text class="title" x="16" y="28">{title}</text>',
        *_draw_legend(),
    ]
    for row, (request, label) in enumerate(REQUESTS.items()):
        top = TOP + GROUP * row
        parts.append(f'<text x="16" y="{top + 2 * STEP}">{label}</text>')
        for index, server in enumerate(SERVERS):
            rate, y = rates[request, server], top + STEP * index
            length = rate * scale
            parts.append(
                f'<rect class="{server}" x="{LEFT}" y="{y}" width="{length:.0f}" height="{BAR}"/>'
                f'<text class="soft" x="{LEFT + length + 6:.0f}" y="{y + 12}">{rate:,.0f}</text>'
            )
    return "\n".join([*parts, "</svg>", ""])


def _draw_legend() -> list[str]:
    columns = (16, 100, 400, 570)  # pixels from the left
    return [
        f'<rect class="{server}" x="{x}" y="44" width="12" height="12"/>'
        f'<text class="soft" x="{x + 18}" y="55">{escape(words)}</text>'
        for x, (server, words) in zip(columns, SERVERS.items(), strict=True)
    ]


def write_chart() -> str:
    """Return the chart of the last run."""
    page = (CHECKOUT / "bench" / "README.md").read_text(encoding="utf-8")
    return draw(read_rates(page))


if __name__ == "__main__":
    CHART.write_text(write_chart(), encoding="utf-8")
