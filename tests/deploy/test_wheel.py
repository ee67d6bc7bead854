"""The wheel: `pipx install` gives a command `taskapp` that serves."""

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from server import cli
from taskapp.config.installation import version
from tests.deploy.built import DIST, OUTSIDE, installed_wheel, make
from tests.deploy.tools import run_tool
from tests.support.reference_pages import list_commands
from tests.support.server_process import CHECKOUT, new_data_folder, server_process

REPOSITORY = "https://code.example.com/alice/taskapp"


@pytest.fixture(scope="module", autouse=True)
def wheel() -> Path:
    """The wheel, as a release from this repository has it."""
    make("wheel", f"REPOSITORY_URL={REPOSITORY}")
    (path,) = DIST.glob("taskapp-*.whl")
    return path


def test_it_has_one_folder_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "taskapp_server/setup.py" not in names
    about = f"taskapp-{version()}"
    tops = {"taskapp_server", f"{about}.dist-info", f"{about}.data"}
    assert {name.split("/")[0] for name in names} == tops
    needed = {"static/style.css", "templates/languages/de.po", "schema/versions/0001_accounts.py"}
    needed |= {"handlers/api/openapi.json"}
    assert {f"taskapp_server/{name}" for name in needed} <= set(names)
    assert [name for name in names if re.search(r"/(tests|bench)/|/conftest\.py$", name)] == []


def test_it_says_what_it_is_what_it_needs_and_where_it_comes_from(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read(f"taskapp-{version()}.dist-info/METADATA").decode()
    about = HeaderParser().parsestr(text)
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    assert about["Summary"] == project["description"]
    assert about.get_all("Classifier") == project["classifiers"]
    needed = [Requirement(line) for line in about.get_all("Requires-Dist", [])]
    assert {each for each in needed if "extra" not in str(each.marker)} == {
        Requirement(line) for line in project["dependencies"]
    }
    addresses = dict(line.split(", ") for line in about.get_all("Project-URL", []))
    assert addresses["Source"] == REPOSITORY
    assert all(address.startswith(REPOSITORY) for address in addresses.values())


def test_pyroma_finds_it_well_described(monkeypatch: pytest.MonkeyPatch) -> None:
    for repository, rating in (("", 9), (REPOSITORY, 10)):
        monkeypatch.setenv("REPOSITORY_URL", repository)
        done = run_tool("pyroma", "--min", str(rating), CHECKOUT)
        assert done.returncode == 0, done.stdout
    shutil.rmtree(CHECKOUT / "taskapp.egg-info")


COMPLETE = """
source <("$1" completion bash)
COMP_WORDS=(taskapp back) COMP_CWORD=1
_taskapp_completion "$1"
echo "${COMPREPLY[@]}"
"""


def test_each_command_has_a_man_page_and_bash_completes_it() -> None:
    with installed_wheel() as command:
        pages = command.parents[1] / "share/man/man1"
        commands = ["-".join(("taskapp", *words)) for words in [(), *list_commands(cli)]]
        assert sorted(page.stem for page in pages.iterdir()) == sorted(commands)
        man = ["man", "--warnings=w", "-l"]
        for page in pages.iterdir():
            done = subprocess.run(
                [*man, page],
                capture_output=True,
                text=True,
                check=True,
                env={"MANWIDTH": "80", **os.environ},
            )
            assert "NAME" in done.stdout, page
            assert not done.stderr, page
        bash = ["bash", "-euc", COMPLETE, "bash", str(command)]
        assert subprocess.check_output(bash, text=True) == "backup\n"


def test_its_command_serves() -> None:
    with installed_wheel() as command, new_data_folder() as data:
        said = subprocess.check_output([*OUTSIDE, command, "--version"], text=True, cwd="/")
        assert said == f"taskapp {version()}\n"
        with server_process(data, launcher=OUTSIDE, program=command) as server:
            server.wait_until_ready(60)
            alice = server.client().sign_up("alice@example.com")
            assert alice.send("POST", "/api/tasks", {"title": "Buy milk"}).status == 201
            assert alice.send("GET", "/api/openapi.json").json["openapi"] == "3.1.0"
            page = server.client().send("GET", "/login", Accept_Language="de")
            assert "Anmelden" in page.body.decode()
            assert server.end() == 0
