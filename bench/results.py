"""Measured cells: their medians, the table, and the file that stores them."""

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Cell:
    """The result of one load on one server. Times in milliseconds, CPU in percent of a core."""

    point: int
    target: str
    scenario: str
    connections: int
    rate: float  # responses with the expected status, per second
    size: float  # bytes per response
    p50: float
    p95: float
    p99: float
    errors: int
    cpu: float  # of the server
    cpu_per_request: float  # milliseconds, user and system, of the server
    other: float  # of the server's core, used by other processes
    busy_cores: float  # of the machine, used by all processes
    logins: float | None = None  # per second, next to the load


@dataclass(frozen=True)
class Summary:
    """The medians of all repetitions of a cell, and the sum of their errors."""

    target: str
    scenario: str
    connections: int
    repetitions: int
    rate: float
    slowest: float
    fastest: float
    size: float
    p50: float
    p95: float
    p99: float
    errors: int
    cpu: float
    cpu_per_request: float
    other: float
    busy_cores: float
    logins: float | None


class Results:
    """The cells of a run; each is appended to a file at once."""

    def __init__(self, path: Path, run: str) -> None:
        self._path = path
        self._run = run
        self.cells: list[Cell] = []

    def add(self, cell: Cell) -> None:
        """Store a cell."""
        self.cells.append(cell)
        self.keep("cell", asdict(cell))

    def keep(self, kind: str, values: dict[str, Any]) -> None:
        """Append a line of another kind."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"run": self._run, "kind": kind, **values}) + "\n")

    def find(self, point: int, target: str, scenario: str, connections: int = 32) -> Summary | None:
        """Return the medians of a cell, or None if it was not measured."""
        wanted = (point, target, scenario, connections)
        cells = [cell for cell in self.cells if _key(cell) == wanted]
        return summarize(cells) if cells else None


def read_last_run(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of the last run in a file, by kind."""
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    last = lines[-1]["run"]
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        run, kind = line.pop("run"), line.pop("kind")
        if run == last:
            found[kind].append(line)
    return found


def summarize(cells: Sequence[Cell]) -> Summary:
    """Return the medians of the repetitions of one cell."""

    def middle(name: str) -> float:
        return float(median(getattr(cell, name) for cell in cells))

    first = cells[0]
    rates = [cell.rate for cell in cells]
    return Summary(
        target=first.target,
        scenario=first.scenario,
        connections=first.connections,
        repetitions=len(cells),
        rate=median(rates),
        slowest=min(rates),
        fastest=max(rates),
        size=middle("size"),
        p50=middle("p50"),
        p95=middle("p95"),
        p99=middle("p99"),
        errors=sum(cell.errors for cell in cells),
        cpu=middle("cpu"),
        cpu_per_request=middle("cpu_per_request"),
        other=middle("other"),
        busy_cores=middle("busy_cores"),
        logins=None if first.logins is None else middle("logins"),
    )


def table(cells: Iterable[Cell]) -> str:
    """Return the medians of all cells as a Markdown table."""
    groups: dict[tuple[int, str, str, int], list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_key(cell), []).append(cell)
    head = (
        "| point | request | connections | target | n | req/s | (min to max) | p50 ms | p95 ms "
        "| p99 ms | bytes | server CPU ms/req | server CPU % | others % | errors |\n"
        "|--:|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    )
    rows = [_row(key[0], summarize(group)) for key, group in groups.items()]
    return "\n".join([head, *rows])


def _key(cell: Cell) -> tuple[int, str, str, int]:
    return cell.point, cell.target, cell.scenario, cell.connections


def _row(point: int, row: Summary) -> str:
    logins = "" if row.logins is None else f" (and {row.logins:.1f} logins/s)"
    return (
        f"| {point} | {row.scenario} | {row.connections} | {row.target} | {row.repetitions} "
        f"| {row.rate:,.1f}{logins} | {row.slowest:,.1f} to {row.fastest:,.1f} | {row.p50:.2f} "
        f"| {row.p95:.2f} | {row.p99:.2f} | {row.size:,.0f} "
        f"| {row.cpu_per_request:.3f} | {row.cpu:.0f} | {row.other:.0f} | {row.errors} |"
    )
