"""The wheel: `pipx install` gives a command `taskapp` that serves."""

import subprocess
import zipfile

import pytest

from taskapp.config.installation import version
from tests.deploy.built import DIST, OUTSIDE, installed_wheel, make
from tests.support.server_process import new_data_folder, server_process


@pytest.fixture(scope="module", autouse=True)
def _wheel() -> None:
    make("wheel")


def test_it_has_one_folder_and_no_tests() -> None:
    (wheel,) = DIST.glob("taskapp-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    tops = {"taskapp_server", f"taskapp-{version()}.dist-info"}
    assert {name.split("/")[0] for name in names} == tops
    needed = {"static/style.css", "templates/languages/de.po", "schema/versions/0001_accounts.py"}
    needed |= {"handlers/api/openapi.json"}
    assert {f"taskapp_server/{name}" for name in needed} <= set(names)


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
