"""The command `taskapp` of the wheel; beside it lies all that is at the top of a checkout."""

import sys
from pathlib import Path


def main() -> None:
    """Run the command line, with the rooms named as they are in a checkout."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from server import cli  # noqa: PLC0415  # its place is not known before

    cli()
