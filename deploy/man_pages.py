"""Write a man page for each command, from its `--help`: `man_pages.py FOLDER`."""

import sys
from pathlib import Path

# The checkout comes before what is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
from click_man.core import write_man_pages

from server import cli
from taskapp.config.installation import version


def name_in_full(command: click.Command) -> None:
    """Have the line below NAME be the first sentence of the help, which is else cut off."""
    command.short_help = command.get_short_help_str(limit=200)
    for member in getattr(command, "commands", {}).values():
        name_in_full(member)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for page in folder.glob("taskapp*.1"):  # of a command that is gone
        page.unlink()
    name_in_full(cli)
    write_man_pages("taskapp", cli, version=f"taskapp {version()}", target_dir=str(folder))
