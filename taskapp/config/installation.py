"""What this program is: its version, where its files are, and how people start it."""

import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]  # has templates/, static/ and schema/
IS_CHECKOUT = (HOME / "pyproject.toml").exists()
IS_ONE_FILE = hasattr(sys, "frozen")  # PyInstaller's word for what `make binary` builds
COMMAND = "python server.py" if IS_CHECKOUT else "taskapp"  # as people type it


@cache
def version() -> str:
    """Give the version, as pyproject.toml says or, once it is installed, its metadata."""
    # Few ask, and both take a hundredth of a second to import.
    if IS_CHECKOUT:
        import tomllib  # noqa: PLC0415  # see above

        project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"])
    from importlib import metadata  # noqa: PLC0415  # see above

    return metadata.version("taskapp")
