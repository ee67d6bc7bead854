"""`make bench` works from end to end; speed is not judged here."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import nginx
from taskapp.cli.common import CliError
from tests.support.environment import inherited_environment
from tests.support.server_process import CHECKOUT

TINY = [
    *("--alone", "--seconds=2", "--repetitions=1", "--attempts=1", "--warm-up=0", "--users=4"),
    *("--tasks=60", "--accounts=1", "--requests=3", "--starts=1", "--soak=0.01"),
]
CELLS = [  # point, request, connections, target
    *[(1, name, n, "taskapp") for name in ("list", "get", "create", "update") for n in (32, 100)],
    (2, "list", 500, "taskapp"),
    *[(3, name, 32, "taskapp") for name in ("list", "list beside logins")],
    *[(4, name, 32, "taskapp") for name in ("list", "HTML page", "304")],
    *[(7, "list", 32, f"taskapp, {count} behind nginx") for count in (1, 2)],
]
ASKED = [
    (2, "list, 500 connections, errors: at most 0 requests"),
    (2, "list, 500 connections, p95: at most 1.6 x the median"),
    (3, "list, 32 connections, while 4 log in, rate: at least 0.75 x undisturbed"),
    (3, "list, 32 connections, while 4 log in, p95: at most 2 x undisturbed"),
    (3, "list, 32 connections, while 4 log in, logins: more than 0 logins/s"),
    (4, "HTML page with 50 tasks: at least 0.6 x the JSON list"),
    (4, "304 to If-None-Match: at least 1.5 x the JSON list"),
    (5, "memory, idle: at most 90 MB"),
    (5, "memory, after 0.01 minutes of a mix: at most 140 MB"),
    *[
        (5, f"{name}, 240 tasks, median of one client: at most 1.1 x 120 tasks")
        for name in ("list", "get", "create", "update")
    ],
    (5, "memory, 240 tasks: at most 1.1 x 120 tasks"),
    (5, "page 3 of a list: at most 1.1 x the first page"),
    *[
        (6, f"start, {kind} (median of 1): at most {bound} s")
        for kind, bound in (
            ("existing embedded database, the first 200", 1.2),
            ("existing embedded database, the port answers", 0.6),
            ("empty folder, the first 200", 2.5),
            ("empty folder, the port answers", 0.6),
        )
    ],
    (8, "4 logins a second, p95: at most 1 s"),
    (8, "4 logins a second, errors: at most 0 requests"),
    (8, "list, while one client logs in on 32, p95: at most 3 x undisturbed"),
    (8, "list, while one client logs in on 32, errors: at most 0 requests"),
]


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the benchmark in an empty folder, without settings."""
    return subprocess.run(
        [sys.executable, "-m", "bench.compare_peers", f"--work={folder / 'work'}", *arguments],
        cwd=folder,
        env=inherited_environment()
        | {"PYTHONPATH": str(CHECKOUT), "TMPDIR": str(folder)}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def measured(short_folder: Path) -> subprocess.CompletedProcess[str]:
    folder = short_folder / "peers"
    folder.mkdir()
    done = run(folder, *TINY)
    assert done.returncode in {0, 1}, done.stderr  # one second is too short to judge speed
    assert "verdicts are met." in done.stdout, done.stderr
    left = [path.name for path in folder.iterdir()]
    assert left == ["work"]
    assert run(folder, "--last").stdout in done.stdout
    return done


def rows(text: str, columns: int) -> list[list[str]]:
    """Return the rows of the table with this number of columns, without its header."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if len(line) == columns and line[0].isdigit()]


def test_every_cell_is_in_the_table_and_no_request_failed(
    measured: subprocess.CompletedProcess[str],
) -> None:
    found = rows(measured.stdout, 15)
    cells = [(int(row[0]), row[1], int(row[2]), row[3]) for row in found]
    assert cells == CELLS
    for row in found:
        rate, size = (float(row[column].partition(" ")[0].replace(",", "")) for column in (5, 10))
        assert rate > 0, row
        assert row[-1] == "0", row
        assert (size < 2000) is (row[1] in {"get", "create", "update", "304"}), row


def test_every_point_that_needs_no_peer_has_its_verdict(
    measured: subprocess.CompletedProcess[str],
) -> None:
    found = rows(measured.stdout, 5)
    assert [(int(row[0]), row[1]) for row in found if row[0] != "7"] == ASKED
    several = [row[1].partition(":")[0] for row in found if row[0] == "7"]
    assert several == ["list, two taskapps behind nginx"]
    assert all(re.fullmatch(r"\d+\.\d\d", row[3]) for row in found)
    assert {row[4] for row in found} <= {"met", "NOT MET"}


def test_what_is_missing_is_named(short_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = short_folder / "missing"
    folder.mkdir()
    without_wrk = run(folder, "--alone", PATH=str(folder))
    assert (without_wrk.returncode, without_wrk.stdout) == (1, "")
    assert "on Debian: apt install wrk" in without_wrk.stderr
    monkeypatch.setattr(nginx, "_SYSTEM_PROGRAMS", str(folder))
    monkeypatch.setenv("PATH", str(folder))
    with pytest.raises(CliError, match="on Debian: apt install nginx"):
        nginx.find_nginx()
    monkeypatch.undo()
    no_peers = run(folder, f"--peers={folder}")
    assert no_peers.returncode == 1
    assert "holds no run.py" in no_peers.stderr
    assert [path.name for path in folder.iterdir()] == ["work"]
