"""What the how-to pages name is there: files, settings, targets of each other."""

import re
from pathlib import Path

import pytest

from taskapp.settings import SETTINGS, variable
from tests.server_process import CHECKOUT

PAGES = [
    *("behind-nginx.md", "systemd.md", "containers.md", "own-postgresql.md"),
    *("upgrade.md", "release.md"),
]
FOLDER = CHECKOUT / "docs" / "how-to"
OF_COMPOSE = {"TASKAPP_DOMAIN"}
MADE = {"deploy/.env", "deploy/secrets/", "deploy/tls/"}  # by whoever follows the page


@pytest.mark.parametrize("page", PAGES)
def test_files_and_settings_of_a_page_exist(page: str) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    for path in set(re.findall(r"\bdeploy/[\w./*-]*[\w*/]", text)) - MADE:
        assert [*CHECKOUT.glob(path)], path
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert Path(FOLDER, link).exists(), link
    known = {variable(item.name) for item in SETTINGS} | OF_COMPOSE
    assert {name.removesuffix("_FILE") for name in re.findall(r"TASKAPP_[A-Z_]+", text)} <= known
