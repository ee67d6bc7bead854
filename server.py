"""taskapp's command line; without a command it serves."""

import os
import platform
import sys
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

# This folder is first, also with PYTHONSAFEPATH. What PYTHONPATH names is last, because it
# may have packages of the same names.
sys.path.sort(key=lambda f: f in map(os.path.normpath, os.environ.get("PYTHONPATH", "").split(":")))
sys.path.insert(0, str(Path(__file__).resolve().parent))
if find_spec("click") is None:  # as after an upgrade of Python: the packages are of the one before
    sys.stderr.write(
        f"{sys.executable} (Python {platform.python_version()}) has no packages of taskapp. Run "
        f"`make .venv/.runtime` in {sys.path[0]}.\n"
    )
    sys.exit(2)  # a restart would not help

import click

from taskapp.cli.commands import COMMANDS, LazyCommands
from taskapp.cli.common import EPILOG, echo_json
from taskapp.config.environment import read_settings
from taskapp.config.installation import IS_ONE_FILE, version
from taskapp.config.settings import SettingsError
from taskapp.runtime.privileges import step_down
from taskapp.runtime.standard_streams import output_problem, prepare_standard_streams

ALL_COMMANDS = LazyCommands({"serve": "handlers.serve:serve", **COMMANDS})


@click.group(commands=ALL_COMMANDS, invoke_without_command=True, epilog=EPILOG)
@click.option("--version", "asks_version", is_flag=True, help="Show the version and exit.")
@click.option("--json", "as_json", is_flag=True, help="Show the version as JSON.")
@click.pass_context
def cli(context: click.Context, *, asks_version: bool, as_json: bool) -> None:
    """Keep your tasks. Without a command: serve."""
    if asks_version:
        if as_json:
            echo_json(version=version())
        else:
            click.echo(f"taskapp {version()}")
        context.exit()
    if as_json:
        raise click.UsageError("Say --json after the command, or with --version.")
    if context.invoked_subcommand is None:
        context.invoke(ALL_COMMANDS["serve"])


def main() -> None:
    """Run the command line; root becomes the owner of the data folder first."""
    if sys.getfilesystemencoding() != "utf-8" and not IS_ONE_FILE:
        # Names would reach PostgreSQL's programs in another encoding than its addresses.
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])  # noqa: S606  # itself
    prepare_standard_streams()
    try:
        if os.geteuid() == 0:
            with suppress(SettingsError):  # the command reports it
                step_down(read_settings().data_dir)
        cli()
    except OSError:
        if reason := output_problem():
            sys.exit(f"Standard output cannot be written: {reason}")
        raise


if __name__ == "__main__":
    main()
