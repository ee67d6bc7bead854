"""Completes a release in dist/ with its list of parts (CycloneDX) and the digest of each file.

Run it with the tag as its argument, after `make wheel`, and `make binary image` on each machine.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

BUILT = {"taskapp-{version}-*.whl": "make wheel"} | {
    name.replace("MACHINE", machine): f"make {target} on {machine}"
    for machine in ("x86_64", "aarch64")
    for name, target in (
        ("taskapp-linux-MACHINE", "binary"),
        ("taskapp-image-linux-MACHINE.tar.gz", "image"),
    )
}
PARTS = "taskapp.cdx.json"
SUMS = "SHA256SUMS"


def check(tag: str, version: str, dist: Path) -> list[str]:
    """Return the problems that prevent this release."""
    problems = []
    if tag != f"v{version}":
        problems.append(f"The tag is {tag or 'missing'}, and pyproject.toml says {version}.")
    for name, command in BUILT.items():
        pattern = name.format(version=version)
        if not [*dist.glob(pattern)]:
            problems.append(f"There is no dist/{pattern}: run {command}.")
    return problems


def read_notes(version: str) -> str:
    """Return the section of a version in CHANGELOG.md, or an empty string."""
    text = Path("CHANGELOG.md").read_text(encoding="utf-8")
    sections = re.split(r"^## ", text, flags=re.MULTILINE)
    found = [section for section in sections if section.startswith(f"[{version}]")]
    return found[0].partition("\n")[2].strip() if found else ""


def list_parts(target: Path) -> None:
    """Write the packages of the release as CycloneDX."""
    command = [sys.executable, "-W", "ignore", "-m", "cyclonedx_py", "requirements"]
    options = ["--pyproject", "pyproject.toml", "--output-reproducible", "--validate"]
    subprocess.run(  # noqa: S603  # nothing of it comes from outside
        [*command, *options, "--output-file", str(target), "requirements.lock"], check=True
    )


def write_sums(dist: Path) -> None:
    """Write the digests in the format of `sha256sum --check`."""
    lines = []
    # Without dist/taskapp, which is the file of this machine by another name.
    for path in sorted(dist.glob("taskapp[-.]*")):
        with path.open("rb") as file:
            lines.append(f"{hashlib.file_digest(file, 'sha256').hexdigest()}  {path.name}\n")
    (dist / SUMS).write_text("".join(lines), encoding="utf-8")


def main(tag: str) -> None:
    """Complete the release of this tag, or print its problems and exit with 1."""
    version = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"][
        "version"
    ]
    dist, notes = Path("dist"), read_notes(version)
    problems = check(tag, version, dist)
    if not notes:
        problems.append(f"CHANGELOG.md has no section of version {version}.")
    if problems:
        sys.exit("\n".join(problems))
    list_parts(dist / PARTS)
    write_sums(dist)
    Path("build").mkdir(exist_ok=True)
    Path("build", "release-notes.md").write_text(notes + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:] or [""])
