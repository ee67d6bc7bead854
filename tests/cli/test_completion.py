"""A shell completes the commands."""

import os
import re
import subprocess
import sys

import pytest

from taskapp.cli.completion import SHELLS
from tests.support.server_process import CHECKOUT

SERVER = [sys.executable, str(CHECKOUT / "server.py")]


def ask(*arguments: str, **environment: str) -> str:
    return subprocess.check_output(
        [*SERVER, *arguments], text=True, env=dict(os.environ, **environment)
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_of_each_shell_asks_for_the_commands_that_there_are(shell: str) -> None:
    script = ask("completion", shell)
    (variable,) = set(re.findall(r"\b(_\w+_COMPLETE)=", script))
    (instruction,) = set(re.findall(rf"{variable}=(\w+)", script))
    word = "ver" if shell == "fish" else "2"  # fish hands on the word, the others its place
    words = {"COMP_WORDS": "server.py backup ver", "COMP_CWORD": word}
    said = ask(**{variable: instruction}, **words)
    assert "verify" in said
    assert "list" not in said
