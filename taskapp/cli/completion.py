"""The command that completes the others in a shell."""

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from taskapp.cli.common import EPILOG

SHELLS: dict[str, type[ShellComplete]] = {
    "bash": BashComplete,
    "fish": FishComplete,
    "zsh": ZshComplete,
}


@click.command("completion", epilog=EPILOG)
@click.argument("shell", type=click.Choice([*SHELLS]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print a script with which a shell completes the words of these commands.

    Of bash: taskapp completion bash >~/.local/share/bash-completion/completions/taskapp

    Of fish: taskapp completion fish >~/.config/fish/completions/taskapp.fish

    Of zsh: taskapp completion zsh >"${fpath[1]}/_taskapp"
    """
    root = context.find_root()
    program = root.info_name or "taskapp"
    # The variable by which the script asks: click's name for it.
    variable = f"_{program}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    click.echo(SHELLS[shell](root.command, {}, program, variable).source())
