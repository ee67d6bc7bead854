"""Root works in nobody else's folder, and follows nobody else's settings."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.environment import inherited_environment
from tests.support.server_process import (
    NOBODY,
    PROGRAM,
    SETTINGS,
    new_data_folder,
    ordinary_user,
    server_process,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def user_of(pid: int) -> list[int]:
    """Return the real, effective, saved and file system user of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return [int(word) for line in lines if line.startswith("Uid:") for word in line.split()[1:]]


def groups_of(pid: int) -> set[int]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {
        int(word) for line in lines if line[:5] in {"Gid:\t", "Group"} for word in line.split()[1:]
    }


def run_code(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROGRAM.parent)


def run(
    folder: Path, *arguments: str, launcher: Sequence[str] = (), **more: Any
) -> subprocess.CompletedProcess[str]:
    """Run a command as root, in a folder without `.env`."""
    environment = (
        inherited_environment(measured=True) | SETTINGS | {"TASKAPP_DATA_DIR": str(folder)}
    )
    return subprocess.run(
        [*launcher, sys.executable, str(PROGRAM), *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment | more.pop("env", {}),
        **{"cwd": "/", **more},
    )


@contextmanager
def folder_of_nobody() -> Iterator[Path]:
    """Yield an empty data folder of `nobody`, who may read this program meanwhile."""
    with new_data_folder() as folder, ordinary_user(folder):
        yield folder


def owners_below(folder: Path) -> set[int]:
    return {path.lstat().st_uid for path in (folder, *folder.rglob("*"))}


def test_a_server_of_root_becomes_the_owner_of_the_data_folder() -> None:
    with folder_of_nobody() as folder, server_process(folder) as server:
        server.wait_until_ready()
        assert user_of(server.pid) == [NOBODY.uid] * 4
        assert 0 not in groups_of(server.pid)
        assert server.end() == 0
        assert owners_below(folder) == {NOBODY.uid}


@pytest.mark.parametrize(
    "command",
    [("user", "list"), ("doctor",), ("backup",), ("migrate",), ("maintenance", "on")],
    ids=lambda command: command[0],
)
def test_no_command_of_root_follows_a_link_in_the_folder_of_another(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    victim = tmp_path / "victim"
    (victim / "below").mkdir(parents=True)
    (victim / "below" / "secret").write_text("of root")
    (victim / "below" / "secret").chmod(0o600)
    before = [(path, path.stat()) for path in (victim, *victim.rglob("*"))]
    with folder_of_nobody() as folder:
        for name in ("socket", "postgres", "backups", "taskapp.lock", "secret-key", "maintenance"):
            (folder / name).symlink_to(victim / "below")
            os.chown(folder / name, *NOBODY, follow_symlinks=False)
        run(folder, *command)
        assert owners_below(folder) == {NOBODY.uid}
    for path, status in before:
        now = path.stat()
        assert (now.st_uid, now.st_mode, now.st_mtime) == (
            status.st_uid,
            status.st_mode,
            status.st_mtime,
        )
    assert (victim / "below" / "secret").read_text() == "of root"


def test_a_folder_that_is_not_there_yet_belongs_to_whom_the_one_above_does() -> None:
    with folder_of_nobody() as folder:
        result = run(folder / "deep" / "data", "user", "list")
        assert result.returncode == 0, result.stderr
        assert owners_below(folder) == {NOBODY.uid}


@pytest.mark.parametrize("path", ["link", "link/below", "link/below/../below", "of root/below"])
def test_a_link_of_another_user_is_no_way_to_a_folder_of_root(tmp_path: Path, path: str) -> None:
    root = tmp_path / "data"
    victim = root / "below" if path != "link" else root
    victim.mkdir(mode=0o700, parents=True)
    (tmp_path / "of root").symlink_to(tmp_path / "link")
    link = tmp_path / "link"
    link.symlink_to(root)
    os.chown(link, *NOBODY, follow_symlinks=False)
    result = run(tmp_path / path, "user", "list")
    assert result.returncode == 1, result.stderr
    assert "Permission denied" in result.stderr
    assert [*victim.iterdir()] == []


def test_a_folder_of_root_is_worked_in_as_root() -> None:
    with new_data_folder() as folder:
        assert run(folder, "user", "list").returncode == 0
        assert folder.stat().st_uid == 0


@pytest.mark.parametrize(
    "name", ["a file", "a pipe", "a file/data", "x" * 256, "loop", "nowhere", "nowhere/data"]
)
def test_a_data_folder_that_cannot_be_is_a_sentence(tmp_path: Path, name: str) -> None:
    (tmp_path / "a file").touch()
    os.mkfifo(tmp_path / "a pipe")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("/proc/nowhere")
    result = run(tmp_path / name)
    assert result.returncode == 2
    assert result.stderr.startswith("The secret key in ")
    assert result.stderr.count("\n") == 1
    if os.path.lexists(tmp_path / name):
        assert result.stderr.endswith("is no folder, or a link that leads nowhere\n")


@pytest.mark.parametrize("target", ["link", "/nowhere"])
def test_for_a_link_that_leads_nowhere_root_becomes_its_owner(target: str) -> None:
    with folder_of_nobody() as folder:
        folder.parent.chmod(0o1777)
        link = folder.with_name("link")
        link.symlink_to(target)
        os.chown(link, *NOBODY, follow_symlinks=False)
        code = (
            "from pathlib import Path; from taskapp.runtime.privileges import step_down;"
            f"step_down(Path({str(link)!r})); import os; print(os.geteuid())"
        )
        result = run_code(code)
        assert result.stdout == f"{NOBODY.uid}\n", result.stderr


@pytest.mark.parametrize(
    "launcher",
    [
        ["setpriv", "--bounding-set=-setuid,-setgid", "--inh-caps=-setuid,-setgid"],
        ["unshare", "--user", "--map-root-user"],
    ],
)
def test_root_that_can_become_nobody_else_stays_what_it_is(launcher: list[str]) -> None:
    with folder_of_nobody() as folder:
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        os.chown(folder, *NOBODY)
        result = run(folder, "settings", launcher=launcher)
        assert (result.returncode, result.stderr) == (0, "")


def test_a_program_that_the_owner_may_not_read_is_said() -> None:
    with new_data_folder() as folder:
        folder.parent.chmod(0o755)
        folder.mkdir()
        os.chown(folder, *NOBODY)
        code = (
            "from pathlib import Path; from taskapp.runtime import privileges;"
            f"privileges._PROGRAM = (Path('/root'),); privileges.step_down(Path({str(folder)!r}))"
        )
        result = run_code(code)
        assert result.returncode == 1
        assert f"belongs to user {NOBODY.uid}, who may not read the program" in result.stderr


@pytest.mark.parametrize("is_link", [False, True])
def test_root_reads_no_settings_of_another_user(tmp_path: Path, is_link: bool) -> None:
    tmp_path.chmod(0o1777)
    target = tmp_path / "target"
    target.write_text(f"TASKAPP_DATA_DIR={tmp_path}/planted\n")
    settings = tmp_path / ".env"
    if is_link:
        settings.symlink_to(target)
        os.chown(settings, *NOBODY, follow_symlinks=False)
    else:
        target.rename(settings)
        os.chown(settings, *NOBODY)
    result = run(tmp_path / "data", "user", "list", cwd=tmp_path, env={"TASKAPP_DATA_DIR": ""})
    assert result.returncode == 2
    assert f"is not safe to use: it belongs to user {NOBODY.uid}" in result.stderr
    assert not (tmp_path / "planted").exists()
