"""Write the parts of docs/ that come from the code: `python -m tests.support.reference_pages`.

Only the tables between the markers of a page are generated.
"""

import ast
import re
from collections.abc import Iterator

import click
from click.testing import CliRunner

from server import cli
from taskapp.config import settings
from taskapp.observability.metrics import DatabaseStatistics, Metrics
from tests.support.server_process import CHECKOUT

COMMAND_LINE = CHECKOUT / "docs" / "command-line.md"
METRICS_AND_LOGS = CHECKOUT / "docs" / "metrics-and-logs.md"
SETTINGS = CHECKOUT / "docs" / "settings.md"
PROGRAM = "server.py"
EVENT = re.compile(r"^\| (`[^|]*) \| [^|]* \| ([^|]*?) ?\|$", re.MULTILINE)
OWN_HELP = "  --help  Show this message and exit.\n"


def list_commands(group: click.Group, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every visible command, a group before its members."""
    for name, command in sorted(group.commands.items()):
        if not command.hidden:
            yield (*before, name)
        if isinstance(command, click.Group):
            yield from list_commands(command, *before, name)


def help_of(*words: str) -> str:
    """Return the help of a command at a width of 80 columns."""
    done = CliRunner().invoke(cli, [*words, "--help"], prog_name=PROGRAM, terminal_width=80)
    return done.output


def write_command_line() -> str:
    """Return the help of every command, each below a heading."""
    parts = [f"```text\n{help_of()}```\n"]
    parts += [
        f"### {' '.join(words)}\n\n```text\n{help_of(*words)}```\n" for words in list_commands(cli)
    ]
    return "\n".join(parts)


def write_settings() -> str:
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for item in settings.SETTINGS:
        default = item.metadata["default"]
        shown = f"`{default}`" if default else "empty"
        lines.append(f"| `{settings.variable(item.name)}` | {shown} | {item.metadata['meaning']} |")
    return "\n".join(lines) + "\n"


def write_metrics() -> str:
    """Return the table of all metrics with kind and meaning."""
    metrics = Metrics()
    metrics.database.statistics = DatabaseStatistics(*[0] * len(DatabaseStatistics._fields))
    lines = ["| metric | kind | meaning |", "|---|---|---|"]
    for family in sorted(metrics.registry.collect(), key=lambda each: each.name):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        lines.append(f"| `{name}` | {family.type} | {family.documentation} |")
    return "\n".join(lines) + "\n"


def quoted_names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def described_events() -> dict[str, set[str]]:
    """Return the fields of every event that the page of metrics and logs describes."""
    table = METRICS_AND_LOGS.read_text(encoding="utf-8").partition("## Log events")[2]
    rows = EVENT.findall(table)
    return {event: set(quoted_names(row[1])) for row in rows for event in quoted_names(row[0])}


def find_events() -> dict[str, set[str]]:
    """Return the fields of every logged event; a variable part of a name is a pattern."""
    found: dict[str, set[str]] = {}
    sources = [CHECKOUT / PROGRAM, *(CHECKOUT / "taskapp").rglob("*.py")]
    for path in [*sources, *(CHECKOUT / "handlers").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"log", "logs.log"}:
                fields = {keyword.arg for keyword in node.keywords if keyword.arg}
                for event in read_texts(node.args[0]):
                    found.setdefault(event, set()).update(fields)
    return found | {r"library\.logged": {"logger", "message", "traceback"}}  # messages of libraries


def read_texts(node: ast.expr) -> list[str]:
    """Return the possible values of a string expression, as patterns."""
    if isinstance(node, ast.IfExp):
        return read_texts(node.body) + read_texts(node.orelse)
    if isinstance(node, ast.JoinedStr):
        parts = [
            re.escape(str(part.value)) for part in node.values if isinstance(part, ast.Constant)
        ]
        return [r"\w+".join([*parts, ""])]
    return [re.escape(str(ast.literal_eval(node)))]


def replace_part(page: str, name: str, part: str) -> str:
    """Return the page with the part between its markers replaced."""
    begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}{part}{end}{rest.partition(end)[2]}"


PARTS = (
    (COMMAND_LINE, "commands", write_command_line),
    (SETTINGS, "settings", write_settings),
    (METRICS_AND_LOGS, "metrics", write_metrics),
)

if __name__ == "__main__":
    for path, name, write in PARTS:
        text = path.read_text(encoding="utf-8")
        path.write_text(replace_part(text, name, write()), encoding="utf-8")
