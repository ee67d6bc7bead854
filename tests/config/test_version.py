"""The version is shown to operators and logged-in users, never to a stranger."""

import json
import tomllib

import pytest
from click.testing import CliRunner

from server import cli
from taskapp.config.installation import HOME
from tests.conftest import PASSWORD
from tests.support.api_tools import log_in_as_browser, with_settings
from tests.support.clients import ApiClient

pytestmark = [pytest.mark.gen_test, pytest.mark.usefixtures("app")]

VERSION: str = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["version"]


def test_the_command_line_says_the_version_of_pyproject_toml() -> None:
    done = CliRunner().invoke(cli, ["--version"])
    assert (done.exit_code, done.output) == (0, f"taskapp {VERSION}\n")


def test_the_command_line_says_it_as_json() -> None:
    done = CliRunner().invoke(cli, ["--version", "--json"])
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"version": VERSION})
    assert CliRunner().invoke(cli, ["--json", "settings"]).exit_code == 2


async def test_health_says_it_on_this_machine(api: ApiClient) -> None:
    assert (await api.get("/api/health")).json["version"] == VERSION


@with_settings(METRICS_ALLOW="192.0.2.0/24")
async def test_health_does_not_say_it_to_a_stranger(api: ApiClient) -> None:
    assert "version" not in (await api.get("/api/health")).json


async def test_the_foot_of_a_page_says_it_to_who_has_logged_in(
    api: ApiClient, alice: ApiClient
) -> None:
    assert alice.email == "alice@example.com"
    cookies, _ = await log_in_as_browser(api, alice.email, PASSWORD)
    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
    for path in ("/tasks", "/account"):
        assert f"taskapp {VERSION}" in str(
            (await api.get(path, headers={"Cookie": cookie})).response.body
        )


async def test_no_page_says_it_to_a_stranger(api: ApiClient) -> None:
    for path in ("/login", "/register", "/status", "/nothing"):
        assert VERSION not in str((await api.get(path)).response.body)
