"""Root lets PostgreSQL's user through its folders, and changes nothing for anyone else."""

import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from taskapp.postgres import permissions as folder_access
from taskapp.postgres.permissions import (
    FolderAccessError,
    UnixUser,
    chown_tree,
    grant_read,
    grant_traverse,
    postgres_account,
)
from tests.support.server_process import LONG_ENOUGH

ONE = UnixUser(60001, 60001)
OTHER = UnixUser(60002, 60002)

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root opens folders to another user"),
    pytest.mark.skipif(sys.platform != "linux", reason="access control lists are Linux's here"),
]


@pytest.fixture
def closed() -> Iterator[Path]:
    """A folder below one that only root may enter, with a program in it."""
    parent = Path(tempfile.mkdtemp(dir="/tmp", prefix="ta-"))  # a short path
    folder = parent / "programs"
    folder.mkdir()
    shutil.copy("/bin/true", folder)
    yield folder
    shutil.rmtree(parent)


def may(account: UnixUser, *command: str | Path) -> bool:
    uid, gid = account
    done = subprocess.run(["env", *command], check=False, user=uid, group=gid, extra_groups=[])
    return done.returncode == 0


def test_one_user_may_pass_and_no_other(closed: Path) -> None:
    assert not may(ONE, closed / "true")
    grant_traverse(ONE, [closed / "true"])
    assert may(ONE, closed / "true")
    assert not may(ONE, "ls", closed.parent)
    assert not may(OTHER, closed / "true")
    assert closed.parent.stat().st_mode & 0o007 == 0


def test_no_link_of_another_user_leads_to_what_is_given_away(closed: Path) -> None:
    link = closed.with_name("link")
    link.symlink_to(closed)
    os.chown(link, *OTHER, follow_symlinks=False)
    with pytest.raises(FolderAccessError, match=f"is a link of user {OTHER.uid}"):
        chown_tree(ONE, link)
    assert {path.stat().st_uid for path in (closed, *closed.iterdir())} == {0}
    os.chown(link, 0, 0, follow_symlinks=False)  # as of who keeps the database on another disk
    chown_tree(ONE, link)
    assert {path.stat().st_uid for path in closed.iterdir()} == {ONE.uid}


def test_a_second_user_takes_nothing_from_the_first(closed: Path) -> None:
    grant_traverse(ONE, [closed / "true"])
    grant_traverse(OTHER, [closed / "true"])
    assert may(ONE, closed / "true")
    assert may(OTHER, closed / "true")


def test_what_a_mask_withheld_stays_withheld(closed: Path) -> None:
    grant_read(ONE, [closed.parent], probe=closed.parent)
    assert may(ONE, "ls", closed.parent)
    closed.parent.chmod(0o700)  # takes everything from the mask
    grant_traverse(OTHER, [closed / "true"])
    assert may(OTHER, closed / "true")
    assert not may(ONE, closed / "true")


def test_programs_that_root_installed_for_itself_only_can_be_run(closed: Path) -> None:
    (closed / "true").chmod(0o700)
    (closed / "text").write_text("words")
    (closed / "text").chmod(0o600)
    grant_read(ONE, [closed, closed / "absent"], probe=closed / "true")
    grant_traverse(ONE, [closed / "true"])
    assert may(ONE, closed / "true")
    assert may(ONE, "cat", closed / "text")
    assert not may(OTHER, "cat", closed / "text")


def test_a_folder_that_cannot_be_opened_is_named_with_the_fixes() -> None:
    with pytest.raises(FolderAccessError, match=r"can't get into /proc/1/map_files .*DATA_DIR"):
        grant_traverse(ONE, [Path("/proc/1/map_files/program")])


def test_the_user_is_made_without_home_and_login(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    name = f"taskapp-{os.getpid()}"
    monkeypatch.setattr(folder_access, "USER_NAME", name)
    try:
        account = postgres_account(tmp_path / "absent")
        entry = pwd.getpwnam(name)
        assert account == (entry.pw_uid, entry.pw_gid)
        assert entry.pw_shell.endswith("/nologin")
        assert not Path(entry.pw_dir).exists()
        assert postgres_account(tmp_path / "absent") == account
    finally:
        subprocess.run(["userdel", name], check=False)


FIRST_START = """
import sys
from pathlib import Path
from taskapp.postgres import permissions as folder_access
folder_access.USER_NAME = sys.argv[1]
print(folder_access.postgres_account(Path("/absent")).uid)
"""


def test_first_starts_at_the_same_time_make_one_user() -> None:
    name = f"taskapp-at-once-{os.getpid()}"
    command = [sys.executable, "-c", FIRST_START, name]
    try:
        starts = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(4)]
        made = {int(start.communicate(timeout=LONG_ENOUGH)[0]) for start in starts}
        assert made == {pwd.getpwnam(name).pw_uid}
    finally:
        subprocess.run(["userdel", name], check=False)


def test_a_user_that_cannot_be_made_is_named_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(folder_access, "USER_NAME", "no user's name")
    with pytest.raises(FolderAccessError, match=r"user no user's name could not be made \(useradd"):
        postgres_account(tmp_path / "absent")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(FolderAccessError, match="neither useradd nor adduser"):
        postgres_account(tmp_path / "absent")
