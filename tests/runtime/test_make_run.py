"""`make run` sets up and starts whatever a person has set for pip, Python, make and the shell."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy import run_pip
from tests.support.document_shell import READY, terminal_in_a_copy
from tests.support.environment import inherited_environment
from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    PROGRAM,
    postgres_processes,
    wait_until,
)

STAMP = ".venv/.runtime"
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
NEVER = ("help", "version", "isolated")  # what these say is the end of pip's work
# What Python takes from the environment: code of others, other places, and values that end it.
PYTHON = {
    "PYTHONHOME": "/nowhere",
    "PYTHONPLATLIBDIR": "nowhere",
    "PYTHONIOENCODING": "nonsense",
    "PYTHONHASHSEED": "nonsense",
    "PYTHONUTF8": "nonsense",
    "PYTHONSAFEPATH": "1",
    "PYTHONNOUSERSITE": "1",
    "PYTHONINSPECT": "1",
    "PYTHONOPTIMIZE": "2",
    "PYTHONWARNINGS": "error",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPYCACHEPREFIX": "/nowhere",
    "PYTHONSTARTUP": "/nowhere",
    "PYTHONUSERBASE": "/nowhere",
}
SHELL = {
    "CDPATH": "/",
    "GREP_OPTIONS": "--count",
    "SHELL": "/bin/false",
    "MAKEFLAGS": "-j4 -k",
    "SHELLOPTS": "noclobber:nounset",
    "TMPDIR": "/nowhere",
    "http_proxy": "http://127.0.0.1:9",
    "https_proxy": "http://127.0.0.1:9",
}


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of one small package, `probe`, which stands for the real ones."""
    folder = tmp_path_factory.mktemp("packages")
    about = "probe-1.0.dist-info"
    with zipfile.ZipFile(folder / "probe-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("probe.py", "")
        wheel.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: probe\nVersion: 1.0\n")
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")
    return folder


def new_checkout(folder: Path, packages: Path) -> Path:
    """Copy what sets up, with a lock file that has the one package."""
    (folder / "deploy").mkdir(parents=True)
    for name in ("Makefile", "deploy/environment.sh", "deploy/run_pip.py"):
        shutil.copy(CHECKOUT / name, folder / name)
    [wheel] = packages.iterdir()
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (folder / "requirements.lock").write_text(f"probe==1.0 --hash=sha256:{digest}\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, packages: Path) -> Path:
    """A checkout that was set up; its name has what shells and make take for signs of their own."""
    name = "two words größe it's 100% $HOME a&b [x] #x;"
    folder = new_checkout(tmp_path_factory.mktemp("a") / name, packages)
    set_up(folder, packages)
    return folder


@pytest.fixture
def checkout(installed: Path) -> Path:
    """The same, but for the package."""
    (installed / STAMP).unlink(missing_ok=True)
    for left in installed.glob(".venv/lib/*/site-packages/probe*"):
        if left.is_dir():
            shutil.rmtree(left)
        else:
            left.unlink()
    return installed


def run_make(folder: Path, *arguments: str, **variables: str) -> tuple[int, str]:
    inherited = {
        name: text
        for name, text in inherited_environment().items()
        if not name.startswith(("PIP_", "PYTHON"))
    }
    done = subprocess.run(
        ["make", *(arguments or [STAMP])],
        cwd=folder,
        env=inherited | {"PYTHON": sys.executable} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def reached(packages: Path) -> dict[str, str]:
    """Return the settings by which pip finds the package, here without an index."""
    return {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(packages)}


def set_up(folder: Path, packages: Path, **variables: str) -> str:
    """Set up, and check that the package is in the environment."""
    code, said = run_make(folder, **reached(packages) | variables)
    assert code == 0, said
    assert has_package(folder)
    return said


def has_package(folder: Path) -> bool:
    find = "import sys; from importlib.util import find_spec; sys.exit(find_spec('probe') is None)"
    return (
        subprocess.run([folder / ".venv/bin/python", "-I", "-c", find], check=False).returncode == 0
    )


def options_of_pip() -> dict[str, bool]:
    """Return each option of `pip install`, and whether it has a value."""
    help_text = subprocess.check_output(
        [sys.executable, "-m", "pip", "install", "--help"], text=True, env=inherited_environment()
    )
    found = re.findall(r"^  (?:-\w,? )?(?:<\w+>, )?--([a-z-]+)( <)?", help_text, re.MULTILINE)
    return {name: bool(value) for name, value in found}


def test_only_settings_of_pip_that_say_how_to_reach_packages_count(
    checkout: Path, packages: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    options = options_of_pip()
    assert {"user", "target", "prefix", "root", "python", "dry-run", "no-deps"} <= {*options}
    assert {"index-url", "proxy", "find-links", "cert"} <= {*options} & run_pip.REACH
    variables = {
        run_pip.variable(name): str(elsewhere) if has_value else "1"
        for name, has_value in options.items()
        if name not in run_pip.REACH
    }
    set_up(checkout, packages, **variables)
    assert not elsewhere.exists()


def test_nor_do_others_of_its_configuration_files(
    checkout: Path, packages: Path, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere"
    lines = [
        f"{name} = {elsewhere if has_value else 'true'}"
        for name, has_value in options_of_pip().items()
        if name not in {*run_pip.REACH, *NEVER, "log"}
    ]
    lines = [re.sub(r"^(quiet|verbose) = .*", r"\1 = 3", line) for line in lines]
    lines += [f"find-links =\n    /nowhere\n    {packages}", "no-index = true"]
    home = tmp_path / "home"
    for path in (home / ".config/pip/pip.conf", tmp_path / "pip.conf"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["[install]", *lines, ""]))
    for variables in (
        {"HOME": str(home), "XDG_CONFIG_HOME": str(home / ".config")},
        {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")},
    ):
        (checkout / STAMP).unlink(missing_ok=True)
        code, said = run_make(checkout, **variables)
        assert code == 0, said
        assert has_package(checkout)
    assert not elsewhere.exists()


def test_nothing_is_installed_but_by_the_program_that_keeps_to_these_settings() -> None:
    for name in ("Makefile", "tests/each_python.sh"):
        assert not re.search(r"-m pip\b|bin/pip\b", (CHECKOUT / name).read_text()), name


def test_what_is_reached_in_no_way_is_an_error_and_the_next_make_goes_on(
    checkout: Path, packages: Path
) -> None:
    code, said = run_make(checkout, PIP_NO_INDEX="1")
    assert code != 0
    assert "No matching distribution found for probe==1.0" in said
    assert not (checkout / STAMP).exists()
    set_up(checkout, packages)
    code, said = run_make(checkout, PIP_NO_INDEX="1")  # with the network gone
    assert (code, said) == (0, "")


def test_what_is_set_for_python_and_the_shell_has_no_effect(
    checkout: Path, packages: Path, tmp_path: Path
) -> None:
    for name in ("pip", "venv", "ensurepip", "subprocess", "json"):  # of another version
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of another program')")
    set_up(checkout, packages, **PYTHON, **SHELL, PYTHONPATH=str(tmp_path))


def other_version(folder: Path) -> None:
    """Leave what an upgrade leaves: packages in a folder that the new Python does not look into."""
    [packages] = folder.glob(".venv/lib/python3.*")
    packages.rename(packages.with_name("python3.0"))


def no_interpreter(folder: Path) -> None:
    for link in folder.glob(".venv/bin/python*"):
        link.unlink()
        link.symlink_to("/usr/bin/python-of-an-earlier-release")


def cut_off(folder: Path) -> None:
    [packages] = folder.glob(".venv/lib/python3.*/site-packages")
    shutil.rmtree(packages)


@pytest.mark.parametrize("change", [other_version, no_interpreter, cut_off])
def test_an_environment_that_does_not_work_is_created_anew(
    change: Callable[[Path], None], installed: Path, packages: Path
) -> None:
    change(installed)
    assert "does not work, as after an upgrade of Python: creating it anew" in set_up(
        installed, packages
    )


def test_a_python_that_does_not_find_the_packages_says_what_to_do() -> None:
    done = subprocess.run(
        [sys.executable, "-S", str(PROGRAM)],
        env=inherited_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2  # so that systemd does not try again
    assert f"has no packages of taskapp. Run `make .venv/.runtime` in {CHECKOUT}." in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_python_that_cannot_be_run_and_a_path_with_a_colon_are_sentences(
    packages: Path, tmp_path: Path
) -> None:
    folder = new_checkout(tmp_path / "a", packages)
    code, said = run_make(folder, PYTHON="/nowhere/python3")
    assert code != 0
    assert "/nowhere/python3 cannot be run. Set PYTHON=/path/to/python, of version 3.11" in said
    folder = folder.rename(tmp_path / "a:b")
    code, said = run_make(folder)
    assert code != 0
    assert f"The path {folder} has a colon, which Python's environments cannot have." in said
    assert not (folder / ".venv").exists()


def test_other_packages_on_pythons_path_do_not_keep_commands_from_running(tmp_path: Path) -> None:
    for name in ("click", "tornado", "handlers", "taskapp"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of another program')")
    for variables in ({"PYTHONSAFEPATH": "1"}, {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error"}):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "--version"],
            env=inherited_environment() | variables | {"PYTHONPATH": f"{tmp_path}/"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.startswith("taskapp ")


# The stop


@pytest.fixture(scope="module")
def copy() -> Iterator[tuple[Path, str]]:
    with terminal_in_a_copy() as terminal:
        yield terminal.folder, terminal.port


@contextmanager
def made(folder: Path, port: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `make run`, as in a terminal of its own, with what a person may have set."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["make", "run"],
            cwd=folder,
            env=inherited_environment() | PYTHON | SHELL | {"TASKAPP_PORT": port},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_until(lambda: READY in (folder / "log").read_text() or process.poll() is not None)
        assert process.poll() is None, (folder / "log").read_text()
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def signal_group(make: int, number: int) -> None:
    os.killpg(make, number)


def signal_server(make: int, number: int) -> None:
    [server] = Path(f"/proc/{make}/task/{make}/children").read_text().split()
    os.kill(int(server), number)


@pytest.mark.skipif(sys.platform != "linux", reason="children are found in Linux's /proc")
@pytest.mark.parametrize(
    ("send", "number"),
    [
        *((signal_group, number) for number in STOP_SIGNALS),
        *((signal_server, number) for number in STOP_SIGNALS),
        (os.kill, signal.SIGTERM),  # make passes no other on to what it has started
    ],
)
def test_a_stop_ends_postgresql_too_and_leaves_nothing(
    send: Callable[[int, int], None], number: int, copy: tuple[Path, str]
) -> None:
    folder, port = copy
    with made(folder, port) as process:
        assert postgres_processes(folder / "data")
        send(process.pid, number)
        process.wait(LONG_ENOUGH)
        assert postgres_processes(folder / "data") == []
    said = (folder / "log").read_text()
    assert "database system is shut down" in said
    assert '"event":"server.stopped"' in said
    assert "Traceback" not in said
    assert not (folder / "data/postgres/postmaster.pid").exists()
