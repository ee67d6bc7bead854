"""Draw the badges of README.md from the repository: `python -m tests.support.draw_badges`.

They are files of the repository, because a badge service needs the address of one copy of it, and
controls what it shows.
"""

import re
import tomllib
from html import escape
from typing import Any

from tests.support.server_process import CHECKOUT

FOLDER = CHECKOUT / "docs" / "pictures" / "badges"
CI = {"GitHub": ".github/workflows/ci.yml", "GitLab": ".gitlab-ci.yml"}
LETTER, MARGIN, HEIGHT = 6.1, 7, 20  # pixels
STYLE = "text{font:11px Verdana,DejaVu Sans,sans-serif;fill:#fff}"


def read_badges() -> dict[str, tuple[str, str]]:
    """Return label and value of each badge, by name."""
    everything: dict[str, Any] = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())
    project, coverage = everything["project"], everything["tool"]["coverage"]["report"]
    security = (CHECKOUT / "docs" / "security.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \d+\.\d+\.\d+ \| 1 \|.*$", security, re.MULTILINE)
    checked = [row for row in rows if "not yet: " not in row]
    services = [name for name, path in CI.items() if (CHECKOUT / path).exists()]
    return {
        "version": ("version", read_version(project["version"])),
        "ci": ("CI", ", ".join(services)),
        "licence": ("licence", project["license"]),
        "python": ("Python", project["requires-python"].replace(">=", "≥ ")),
        "coverage": ("coverage", f"≥ {coverage['fail_under']} %"),
        "asvs": ("ASVS level 1", f"{len(checked)} of {len(rows)} checked"),
    }


def read_version(version: str) -> str:
    """Return the version, with "unreleased" unless the changelog has its section."""
    changelog = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    return version if f"## [{version}]" in changelog else f"{version}, unreleased"


def draw(label: str, value: str) -> str:
    """Return a badge."""
    left, right = (round(len(text) * LETTER) + 2 * MARGIN for text in (label, value))
    width = left + right
    words = f"{escape(label)}: {escape(value)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width}" height="{HEIGHT}">'
        f"<title>{words}</title><style>{STYLE}</style>"
        f'<rect width="{width}" height="{HEIGHT}" rx="3" fill="#1f5fbf"/>'
        f'<path d="M3 0h{left - 3}v{HEIGHT}H3a3 3 0 0 1-3-3V3a3 3 0 0 1 3-3" fill="#55585c"/>'
        f'<text x="{MARGIN}" y="14" textLength="{left - 2 * MARGIN}">{escape(label)}</text>'
        f'<text x="{left + MARGIN}" y="14" textLength="{right - 2 * MARGIN}">{escape(value)}</text>'
        "</svg>\n"
    )


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, words in read_badges().items():
        (FOLDER / f"{name}.svg").write_text(draw(*words), encoding="utf-8")
