"""The command `taskapp` of the wheel. The top of a checkout is installed beside this file."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line, with its packages on the path under the names of a checkout."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from server import main as run  # noqa: PLC0415  # needs the path above

    run()
