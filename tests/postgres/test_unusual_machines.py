"""The embedded PostgreSQL runs in any folder, for any user and on any machine, or says why not."""

import asyncio
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskapp.postgres.permissions import UnixUser
from taskapp.postgres.programs import EmbeddedPostgresError
from taskapp.postgres.server import EmbeddedPostgres, embedded_postgres
from tests.faults.test_exhausted import namespaces
from tests.postgres.conftest import start_and_stop
from tests.postgres.test_server import execute, needs_linux, needs_root
from tests.support.backup_tools import without_progress
from tests.support.environment import inherited_environment
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    NOBODY,
    PROGRAM,
    ServerProcess,
    postgres_processes,
    server_process,
    wait_until,
)

LAUNCHER = CHECKOUT / "taskapp" / "postgres" / "launcher.py"
LONGEST = 107 - len("/socket/.s.PGSQL.5432")  # bytes of a data folder's path (Linux)


@contextmanager
def renamed(folder: Path, name: str) -> Iterator[Path]:
    other = folder.with_name(name)
    folder.rename(other)
    try:
        yield other
    finally:
        other.rename(folder)


@contextmanager
def server_below(*launcher: str | Path, folder: Path) -> Iterator[ServerProcess]:
    """Run `server.py` on a data folder, started by another program."""
    command = [*map(str, launcher), sys.executable, "-W", "error"]
    with server_process(folder, launcher=command) as server:
        yield server


def run(folder: Path, *arguments: str, **variables: str) -> str:
    """Run a command until it ends well, and return what it printed."""
    done = subprocess.run(
        [sys.executable, str(PROGRAM), *arguments],
        env=inherited_environment(measured=True) | {"TASKAPP_DATA_DIR": str(folder)} | variables,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, without_progress(done.stderr)) == (0, ""), arguments
    return done.stdout


# Folders


@pytest.mark.parametrize(
    "name",
    [
        *(
            "two words",
            "trailing ",
            " leading",
            "-dash",
            "a:b",
            "100%",
            "%41",
            "a'b",
            'a"b',
            "a\\b",
        ),
        *("$HOME", "a&b=c", "a?b#c", "a@b", "a;b|c", "*", "~", "line\nbreak", "tab\tulator"),
        *("größe", "漢字", "a\x85b\u2028c", "\N{GRINNING FACE}", "e\N{COMBINING ACUTE ACCENT}"),
    ],
)
def test_a_data_folder_may_have_any_name(used_folder: Path, name: str) -> None:
    async def scenario() -> None:
        async with embedded_postgres(folder) as url:
            assert execute(url, "SHOW data_directory") == [(str(folder / "postgres"),)]

    with renamed(used_folder, name) as folder:
        asyncio.run(scenario())


@pytest.mark.parametrize(
    ("name", "reason"),
    [("a, b", "has a comma"), ("d\udce4ta", "not valid UTF-8"), ("x" * 90, "bytes long")],
)
def test_a_name_that_cannot_stand_in_an_address_is_refused(
    new_folder: Path, name: str, reason: str
) -> None:
    with pytest.raises(EmbeddedPostgresError, match=rf"{reason}.* Set TASKAPP_DATA_DIR to "):
        asyncio.run(start_and_stop(new_folder / name))
    assert not new_folder.exists()


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o2770, 0o777, 0o500, 0o700, 0o750])
def test_a_cluster_that_was_opened_to_others_is_closed_again(used_folder: Path, mode: int) -> None:
    """`cp -r` gives 0755, fsGroup of Kubernetes 2770, and a copy of a read-only snapshot 0500."""
    (used_folder / "postgres").chmod(mode)
    asyncio.run(start_and_stop(used_folder))
    expected = mode if mode in {0o700, 0o750} else 0o700  # those are PostgreSQL's own
    assert (used_folder / "postgres").stat().st_mode & 0o777 == expected


def test_backups_need_no_temporary_folder_no_path_and_no_short_name(new_folder: Path) -> None:
    closed = new_folder.with_name("closed")
    closed.mkdir(mode=0o700)  # libpam-tmpdir gives root such a one
    folder = new_folder.with_name("x" * (LONGEST - len(str(new_folder.parent)) - 1))
    for temporary in (closed, "/absent"):
        variables = {"TMPDIR": str(temporary), "PATH": ""}
        run(folder, "backup", **variables)
        assert "is good" in run(folder, "backup", "verify", **variables)
        assert "Restored everything there is." in run(folder, "restore", **variables)
    with pytest.raises(EmbeddedPostgresError, match="108 bytes long"):
        asyncio.run(start_and_stop(folder.with_name(f"{folder.name}x")))


# Machines


@needs_linux
def test_a_machine_without_shared_memory_runs_what_one_with_it_made(used_folder: Path) -> None:
    script = 'mount -t tmpfs -o ro none /dev/shm && exec "$@"'
    with server_below(
        "unshare", *namespaces(), "sh", "-c", script, "sh", folder=used_folder
    ) as one:
        one.wait_until_ready()
        url = EmbeddedPostgres(used_folder).url
        assert execute(url, "SHOW dynamic_shared_memory_type") == [("sysv",)]
        assert one.end() == 0
    with server_process(used_folder) as other:
        other.wait_until_ready()
        assert execute(url, "SHOW dynamic_shared_memory_type") == [("posix",)]


@pytest.mark.parametrize(
    "variables",
    [
        ["LC_ALL=C", "PYTHONUTF8=0", "PYTHONCOERCECLOCALE=0"],  # its encoding is ASCII
        ["LC_ALL=POSIX"],
        ["PYTHONIOENCODING=ascii:strict"],
    ],
)
def test_names_need_no_locale(used_folder: Path, variables: list[str]) -> None:
    environment = dict(variable.split("=") for variable in variables)
    with renamed(used_folder, "größe 漢字") as folder:
        with server_below("env", *variables, folder=folder) as server:
            assert server.wait_until_ready().end() == 0
            assert "Traceback" not in server.log_text
        run(folder, "backup", **environment)
        run(folder, "backup", "--dump", **environment)
        assert "is good" in run(folder, "backup", "verify", **environment)


@needs_linux
def test_a_machine_without_proc_is_told_what_it_is_for(used_folder: Path) -> None:
    script = 'mount -t tmpfs none /proc && exec "$@"'
    with server_below(
        "unshare", *namespaces(), "sh", "-c", script, "sh", folder=used_folder
    ) as one:
        assert one.process.wait(LONG_ENOUGH) == 1
        assert one.log_text == (
            f"PostgreSQL can't run in the data folder {used_folder}: /proc is not mounted, by "
            "which its processes are found\n"
        )


# Users


NAMELESS = ["unshare", "--user", "--map-user=54321", "--map-group=54321"]
ROOT_ALONE = ["unshare", "--user", "--map-root-user"]
WITHOUT_CAPABILITIES = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]


def with_namespaces(number: int) -> list[str]:
    """Return a launcher for root alone, who may make so many user namespaces, and no more."""
    script = f'echo {number} >/proc/sys/user/max_user_namespaces && exec "$@"'
    return [*ROOT_ALONE, "sh", "-c", script, "sh"]


@needs_linux
@pytest.mark.parametrize("launcher", [NAMELESS, ROOT_ALONE])
def test_a_user_whom_postgresql_refuses_has_another_number_for_it(
    launcher: list[str], new_folder: Path
) -> None:
    for _ in range(2):
        with server_below(*launcher, folder=new_folder) as server:
            alice = server.wait_until_ready().client().sign_up(f"{server.pid}@example.com")
            assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
            assert server.end() == 0
            assert server.complaints() == []
    assert {path.stat().st_uid for path in new_folder.rglob("*")} == {os.geteuid()}


@needs_linux
@pytest.mark.parametrize(
    ("launcher", "reason"),
    [
        ([*with_namespaces(1), *NAMELESS], "user 54321 needs a line in /etc/passwd for it"),
        (with_namespaces(0), "it refuses root, who cannot become another user here"),
        pytest.param(
            WITHOUT_CAPABILITIES,
            "it refuses root, who cannot become another user here",
            marks=needs_root,
        ),
    ],
)
def test_where_no_user_namespace_can_be_made_the_ways_out_are_told(
    launcher: list[str], reason: str, new_folder: Path
) -> None:
    with server_below(*launcher, folder=new_folder) as server:
        assert server.process.wait(LONG_ENOUGH) == 1
        last = server.log_text.splitlines()[-1]
        assert f"{reason}, or a user namespace: [Errno " in last
        assert last.endswith(" Run taskapp as another user.")
        assert "Traceback" not in server.log_text


@needs_linux
def test_a_postgresql_in_a_namespace_ends_with_its_owner_too(new_folder: Path) -> None:
    with server_below(*ROOT_ALONE, folder=new_folder) as server:
        server.wait_until_ready()
        assert postgres_processes(new_folder)
        server.process.kill()
        wait_until(lambda: not postgres_processes(new_folder))


def launched(program: Path, account: UnixUser | None = None) -> str:
    """Start a program of PostgreSQL that cannot be run, and return what is said of it."""
    uid, gid = account or (0, 0)
    numbers = map(str, (os.getpid(), uid, gid, 0, 0))
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(LAUNCHER), *numbers, program],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NPROC, (0, 0)),
    )
    assert done.returncode == 1
    return done.stderr


def test_a_program_that_the_machine_does_not_run_is_a_sentence(tmp_path: Path) -> None:
    of_another_machine = tmp_path / "initdb"
    of_another_machine.write_bytes(b"\x7fELF")
    assert (
        launched(of_another_machine) == f"{of_another_machine} cannot be run: Permission denied.\n"
    )
    of_another_machine.chmod(0o755)
    assert "initdb cannot be run: Exec format error" in launched(of_another_machine)


@needs_linux
@needs_root
def test_too_many_processes_of_the_user_are_a_sentence() -> None:
    # The limit counts the others of that user.
    with subprocess.Popen(["sleep", "600"], user=NOBODY.uid) as other:
        sentence = launched(Path("/bin/true"), NOBODY)
        other.kill()
    assert "this user has too many processes" in sentence
    assert "LimitNPROC=" in sentence
