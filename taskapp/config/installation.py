"""How this program is installed: its version, its folder, and the command that starts it."""

import sys
from functools import cache
from pathlib import Path

HOME = Path(__file__).resolve().parents[2]  # has templates/, static/ and schema/
IS_CHECKOUT = (HOME / "pyproject.toml").exists()
IS_ONE_FILE = hasattr(sys, "frozen")  # set by PyInstaller in what `make binary` builds
COMMAND = "python server.py" if IS_CHECKOUT else "taskapp"  # as users type it


@cache
def version() -> str:
    """Return the version, from pyproject.toml or from the metadata of the installed package."""
    # Imported at first use: few commands show the version, and either import takes 10 ms.
    if IS_CHECKOUT:
        import tomllib  # noqa: PLC0415  # see above

        project = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["version"])
    from importlib import metadata  # noqa: PLC0415  # see above

    return metadata.version("taskapp")
