"""The README is true: its session runs, its numbers are right, its pictures exist."""

import re
import subprocess

from taskapp.config.settings import SETTINGS, variable
from tests.support.browser_fixtures import running_server
from tests.support.draw_badges import FOLDER, draw, read_badges
from tests.support.draw_pictures import ADDING, SCHEMES, list_path
from tests.support.page_states import STATES
from tests.support.server_process import CHECKOUT, LONG_ENOUGH, new_data_folder

README = (CHECKOUT / "README.md").read_text(encoding="utf-8")
MAX_LINES = 130
MAX_MOVING_PICTURE = 300_000  # bytes
MAX_LIST_PICTURE = 120_000  # bytes


def test_the_session_runs_in_a_plain_shell_from_register_to_delete() -> None:
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    session = next(block for block in blocks if "curl" in block)
    with new_data_folder() as folder, running_server(folder) as address:
        done = subprocess.run(
            ["sh", "-euc", session.replace("http://127.0.0.1:8000", address)],
            capture_output=True,
            text=True,
            check=False,
            timeout=LONG_ENOUGH,
        )
    assert done.returncode == 0, done.stderr
    for part in ("userId", '"status":"completed"', "Task deleted", "Logged out"):
        assert part in done.stdout


def test_the_settings_that_it_names_exist() -> None:
    named = set(re.findall(r"`(TASKAPP_\w+)`", README))
    assert len(named) >= 6
    assert named <= {variable(item.name) for item in SETTINGS}


def test_it_stays_short() -> None:
    assert len(README.splitlines()) <= MAX_LINES


def test_it_counts_the_page_states_that_are_checked() -> None:
    assert f"axe finds nothing in {len(STATES)} page states" in README


def test_the_badges_say_what_the_repository_says() -> None:
    badges = read_badges()
    assert {path.stem for path in FOLDER.iterdir()} == set(badges)
    for name, words in badges.items():
        assert (FOLDER / f"{name}.svg").read_text(encoding="utf-8") == draw(*words)
        assert f"docs/pictures/badges/{name}.svg" in README


def test_its_pictures_are_there_and_small() -> None:
    shown = set(re.findall(r'(?:src|srcset)="([^"]+)"', README))
    lists = {list_path(scheme) for scheme in SCHEMES}
    assert {CHECKOUT / path for path in shown} == {*lists, ADDING}
    assert all(path.stat().st_size < MAX_LIST_PICTURE for path in lists)
    assert ADDING.stat().st_size < MAX_MOVING_PICTURE
