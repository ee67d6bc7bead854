"""The files that the how-to pages name exist, and their installation commands work."""

import re
from pathlib import Path

import pytest

from taskapp.config.settings import SETTINGS, variable
from tests.support.document_blocks import read_blocks
from tests.support.document_shell import terminal_in_a_copy
from tests.support.server_process import CHECKOUT

PAGES = [
    *("behind-nginx.md", "systemd.md", "containers.md", "own-postgresql.md"),
    *(
        "one-file.md",
        "kubernetes.md",
        "copies-elsewhere.md",
        "terraform.md",
        "upgrade.md",
        "release.md",
    ),
]
FOLDER = CHECKOUT / "docs" / "how-to"
OF_COMPOSE = {"TASKAPP_DOMAIN"}
MADE = {
    "deploy/.env",
    "deploy/secrets/",
    "deploy/terraform/aws/terraform.tfvars",
    "deploy/tls/",
}  # by the reader


@pytest.mark.parametrize("page", PAGES)
def test_files_and_settings_of_a_page_exist(page: str) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    for path in set(re.findall(r"\bdeploy/[\w./*@-]*[\w*/]", text)) - MADE:
        assert [*CHECKOUT.glob(path)], path
    for link in re.findall(r"\]\(([\w./-]+)\)", text):
        assert Path(FOLDER, link).exists(), link
    known = {variable(item.name) for item in SETTINGS} | OF_COMPOSE
    assert {name.removesuffix("_FILE") for name in re.findall(r"TASKAPP_[A-Z_]+", text)} <= known


# A shell whose changes to /etc, /opt and /var/cache are visible only to itself.
ASIDE = """
mount -t tmpfs layers /mnt
for name in etc opt var/cache; do
    mkdir -p /mnt/$name /mnt/$name-work
    mount -t overlay -o lowerdir=/$name,upperdir=/mnt/$name,workdir=/mnt/$name-work over /$name
done
exec "$@"
"""
CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=tasks.example.com"
    " -keyout /etc/nginx/tls/privkey.pem -out /etc/nginx/tls/fullchain.pem"
)


@pytest.mark.parametrize(
    ("page", "afterwards"),
    [
        ("behind-nginx.md", [CERTIFICATE, "nginx -t"]),
        ("systemd.md", ["test -e /opt/taskapp/server.py", "grep ^taskapp: /etc/passwd"]),
        ("monitoring.md", []),
    ],
)
def test_what_a_page_installs_is_installed_as_it_is_written(
    page: str, afterwards: list[str]
) -> None:
    text = (FOLDER / page).read_text(encoding="utf-8")
    blocks = [block.text for block in read_blocks(text) if block.language == "sh"]
    with terminal_in_a_copy("unshare", "--mount", "sh", "-c", ASIDE, "aside") as terminal:
        terminal.replaced = {"/dev/stdin": "/dev/null"}  # typed by the reader
        for block in blocks:
            if not block.startswith(("systemctl ", "apt ")):
                terminal.run(block)
        for command in afterwards:
            terminal.run(command)


def test_what_backups_take_is_measured_as_it_is_written() -> None:
    measured = "/tmp/measured"  # noqa: S108  # what the page has
    blocks = read_blocks((CHECKOUT / "docs" / "backup.md").read_text(encoding="utf-8"))
    [block] = [block.text for block in blocks if measured in block.text]
    with terminal_in_a_copy() as terminal:
        terminal.replaced = {measured: f"{terminal.folder}/data"}
        said = terminal.run(block)
    assert said.count("real") == 3
    assert "is good" in said
