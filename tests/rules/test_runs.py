"""A run that fails goes on to its end, and names last what failed."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.conftest import LONGEST, TESTS_OF_PROCESSES, TESTS_OF_WHAT_RUNS_ELSEWHERE
from tests.support.environment import inherited_environment

CHECKOUT = Path(__file__).parents[2]
HALF_OF_THE_TIME_OF_CI = 45 / 2 * 60  # seconds
IN_TURN = CHECKOUT / "tests" / "in_turn.sh"
GOOD_AND_BAD = """
import pytest

@pytest.fixture
def broken():
    raise LookupError("not there")

def test_good():
    pass

def test_bad():
    assert 1 + 1 == 3

def test_never_begun(broken):
    pass

def test_left_out():
    pytest.skip("for another machine")
"""


def run(*commands: str) -> tuple[int, list[str]]:
    """Run commands in turn; return the exit code, and the lines that were said."""
    done = subprocess.run(
        ["bash", str(IN_TURN), *commands],
        env=inherited_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.splitlines()


def pytest_command(folder: Path, name: str, content: str) -> str:
    """Write a file of tests, and return the command that runs it as this project's are run."""
    path = folder / name
    path.write_text(content)
    options = f"-c {CHECKOUT / 'pyproject.toml'} --rootdir {folder} -p no:cacheprovider"
    return f"{sys.executable} -m pytest {options} {path}"


def test_a_run_ends_with_the_names_of_all_that_failed_in_whichever_command(tmp_path: Path) -> None:
    first = pytest_command(tmp_path, "test_first.py", GOOD_AND_BAD)
    second = pytest_command(tmp_path, "test_second.py", "def test_good():\n    pass\n")
    code, said = run(first, second, "echo 'make: *** [Makefile:1: types] Error 1'; false")
    assert code == 1
    assert "1 passed" in said[said.index("What was skipped:") - 3]  # of the second
    named = said[said.index("What failed:") + 1 :]
    assert named[:2] == [first, "echo 'make: *** [Makefile:1: types] Error 1'; false"]
    assert named[2] == "make: *** [Makefile:1: types] Error 1"
    assert [re.sub(r" \S*/| - .*", " ", line).split() for line in named[3:]] == [
        ["ERROR", "test_first.py::test_never_begun"],
        ["FAILED", "test_first.py::test_bad"],
    ]


def test_a_run_ends_with_what_was_skipped_in_whichever_command_also_if_nothing_failed(
    tmp_path: Path,
) -> None:
    skips = "import pytest\n\ndef test_left_out():\n    pytest.skip('for another machine')\n"
    first = pytest_command(tmp_path, "test_first.py", skips)
    second = pytest_command(tmp_path, "test_second.py", "def test_good():\n    pass\n")
    inside = f"bash {IN_TURN} '{first}'"  # as .ci/run does, whose end is another's middle
    code, said = run(inside, second)
    assert code == 0
    assert said[-2] == "What was skipped:"
    assert re.fullmatch(r"SKIPPED \[1\] \S*test_first\.py:4: for another machine", said[-1])


def test_a_run_in_which_nothing_failed_says_no_more_than_its_commands() -> None:
    assert run("echo one", "echo two") == (0, ["one", "two"])


def test_what_fails_in_a_run_inside_of_a_run_is_named_once_at_the_end() -> None:
    inside = f"bash {IN_TURN} \"echo 'FAILED tests/test_one.py::test_one'; false\" 'echo done'"
    code, said = run(inside, "echo after")
    assert code == 1
    assert said[-3:] == ["What failed:", inside, "FAILED tests/test_one.py::test_one"]
    assert "after" in said


def test_a_test_that_hangs_is_ended_and_named_and_those_after_it_run(tmp_path: Path) -> None:
    hangs = "import threading\n\ndef test_hangs():\n    threading.Event().wait()\n"
    content = f"{hangs}\ndef test_good():\n    pass\n"
    code, said = run(f"{pytest_command(tmp_path, 'test_hang.py', content)} --timeout=1")
    assert code == 1
    assert re.fullmatch(r"FAILED \S*test_hang\.py::test_hangs( - .*)?", said[-1])
    assert any("Timeout (>1.0s) from pytest-timeout" in line for line in said)
    assert any(line.startswith("1 failed, 1 passed") for line in said)


def test_no_run_hangs_for_longer_than_ci_waits() -> None:
    options = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["pytest"]
    assert 0 < options["ini_options"]["timeout"] <= HALF_OF_THE_TIME_OF_CI


def test_the_run_of_a_change_tries_everything_also_what_is_in_deploy() -> None:
    script = (CHECKOUT / ".ci" / "run").read_text()
    assert re.findall(r'"make ([a-z-]+)"', script) == ["test", "test-deploy"]
    makefile = (CHECKOUT / "Makefile").read_text()
    (pytest_target,) = re.findall(r"^pytest:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert re.findall(r"-m \"?(not alone|alone)\b", pytest_target) == ["not alone", "alone"]


def test_what_runs_alone_is_where_the_run_looks_for_it() -> None:
    """To read all modules of the tests again would take longer than some of those tests."""
    tests = CHECKOUT / "tests"
    marked = {
        path.relative_to(tests).parts[0]
        for path in tests.rglob("test_*.py")
        if "pytest.mark.alone" in path.read_text() and path != Path(__file__)
    }
    assert marked == {"browser"}
    assert "pytest tests/browser -m alone" in (CHECKOUT / "Makefile").read_text()


def test_the_modules_that_are_measured_otherwise_are_there() -> None:
    found = {path.stem for path in (CHECKOUT / "tests").rglob("test_*.py")}
    named = {name.rpartition(".")[2] for name in TESTS_OF_WHAT_RUNS_ELSEWHERE}
    assert found >= TESTS_OF_PROCESSES | named
    assert all((CHECKOUT / path).is_file() for path in LONGEST)
