"""What the README says holds: its first session runs, and its settings are the real ones."""

import re
import subprocess
from pathlib import Path

from taskapp.config.settings import SETTINGS, variable
from tests.support.browser_fixtures import running_server
from tests.support.server_process import new_data_folder

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def settings_table() -> str:
    """Write the table of settings as the README has it."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for item in SETTINGS:
        default = item.metadata["default"]
        shown = f"`{default}`" if default else "empty"
        lines.append(f"| `{variable(item.name)}` | {shown} | {item.metadata['meaning']} |")
    return "\n".join(lines)


def test_the_table_of_settings_is_the_real_one() -> None:
    table = README.partition("<!-- settings -->\n")[2].partition("\n<!-- /settings -->")[0]
    assert table == settings_table()


def test_the_first_session_runs_in_a_plain_shell_from_register_to_delete() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    session = next(block for block in blocks if "curl" in block)
    with new_data_folder() as folder, running_server(folder) as address:
        done = subprocess.run(
            ["sh", "-euc", session.replace("http://127.0.0.1:8000", address)],
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
    assert done.returncode == 0, done.stderr
    for part in ("userId", '"status":"completed"', "Task deleted", "Logged out"):
        assert part in done.stdout
