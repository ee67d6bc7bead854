"""Every command in the documents is run, or this file says which test covers it instead.

The blocks of a page run in order, as written, in a fresh copy of the checkout.
"""

import re
from pathlib import Path

import click
import pytest

from server import cli
from tests.support.database_fixtures import new_database
from tests.support.document_blocks import PAGES, Block, read_blocks
from tests.support.document_shell import READY, Terminal, read_commands, terminal_in_a_copy
from tests.support.server_process import CHECKOUT

LANGUAGES = {"sh", "console", "text"}
RUN = ["README.md", "docs/how-to/first-ten-problems.md", "docs/how-to/own-postgresql.md"]
SERVES = re.compile(r"^(?:TASKAPP_\w+=\S+ )*make run\n$")
INSTALLED = "tests/deploy/test_how_to.py::test_what_a_page_installs_is_installed_as_it_is_written"
COPIES = (
    "tests/deploy/test_copies_elsewhere.py"
    "::test_a_copy_is_made_after_each_backup_and_is_restored_elsewhere"
)
CLUSTER = (
    "tests/deploy/test_cluster.py"
    "::test_a_killed_machine_is_replaced_and_no_acknowledged_write_is_lost"
)
RESTORED = "tests/cluster/test_playbooks.py::test_all_is_restored_on_new_machines_up_to_a_moment"
NO_CLUSTER = "there is no cluster; tests/deploy/test_kubernetes.py runs what the objects start"
NO_AWS = "there is no AWS; tests/deploy/test_terraform.py applies the files to an imitation"
NO_SYSTEMD = "systemd is not the first process where the tests run"
# Blocks that are not run here, by page and first line: the test that covers them, or the reason.
ELSEWHERE = {
    "README.md": {
        '.venv/bin/python server.py restore --to "2026-11-23 10:00"': "tests/docs/test_tutorial.py"
        "::test_the_tutorial_leads_from_nothing_to_a_restored_task",
    },
    "docs/api.md": {
        "curl -fsS http://127.0.0.1:8000/api/openapi.json -o openapi.json": "tests/deploy/"
        "test_generated_clients.py::test_the_python_client_of_openapi_generator_works",
    },
    "docs/backup.md": {
        "export TASKAPP_DATA_DIR=/tmp/measured": "tests/deploy/test_how_to.py"
        "::test_what_backups_take_is_measured_as_it_is_written",
        "pgbackrest --stanza=taskapp stanza-create": "not ours, and of the database's machine",
    },
    "docs/how-to/behind-haproxy.md": {
        "cp -r deploy/haproxy/haproxy.cfg deploy/haproxy/errors /etc/haproxy/": "tests/deploy/"
        "test_haproxy.py::test_a_taskapp_that_is_killed_fails_no_request_that_may_be_repeated",
    },
    "docs/how-to/delivery.md": {
        "python3 deploy/delivery/deploy.py /etc/taskapp/delivery.toml"
        " ghcr.io/example/taskapp:1.2.0": "tests/deploy/test_delivery.py"
        "::test_a_good_version_goes_live_without_a_failed_request",
    },
    "docs/how-to/three-machines.md": {
        "make cluster": CLUSTER,
        "cd deploy/cluster": CLUSTER,
        "ansible-playbook -i inventory.yml site.yml": CLUSTER,
        "pgbackrest --stanza=taskapp info": RESTORED,
        "ansible-playbook -i inventory.yml restore.yml"
        """ -e '{"cluster_restore_to": "2026-11-30 12:00:00+00"}'""": RESTORED,
    },
    "docs/how-to/behind-nginx.md": {
        "cp deploy/nginx.conf /etc/nginx/nginx.conf": INSTALLED,
        "sed -i '/^# Requests by IPv6/,/^}/d; /\\[::\\]/d' /etc/nginx/taskapp/site.conf": "tests/"
        "deploy/test_nginx.py::test_without_ipv6_its_lines_are_deleted_as_the_page_says",
        "iptables -I INPUT -p tcp --syn -m multiport --dports 80,443 -m connlimit"
        " --connlimit-above 400 --connlimit-mask 32 -j REJECT --reject-with tcp-reset": "tests/"
        "deploy/test_nginx.py::test_with_the_rules_of_the_page_one_address_leaves_room_for_others",
    },
    "docs/how-to/containers.md": {
        "docker build -t taskapp .": "tests/deploy/test_image.py"
        "::test_the_command_of_the_how_to_serves_without_privileges_and_within_its_limits",
        "docker exec taskapp python server.py backup": "tests/deploy/test_image.py::"
        "test_a_volume_of_an_earlier_version_is_upgraded_and_its_backup_restored_elsewhere",
        "docker compose -f deploy/compose.yaml stop taskapp-1 taskapp-2": "tests/deploy/"
        "test_compose.py::test_a_backup_of_one_is_restored_by_the_one_who_may_change_tables",
    },
    "docs/how-to/copies-elsewhere.md": {
        "#!/bin/sh": COPIES,
        "restic restore latest --tag taskapp --target /var/tmp/taskapp-backups": COPIES,
        "rclone copy taskapp-crypt:backups /var/tmp/taskapp-backups": COPIES,
    },
    "docs/how-to/kubernetes.md": {
        "kubectl create secret generic taskapp --from-file=database-url"
        " --from-file=migration-database-url --from-file=secret-key": NO_CLUSTER,
        "kubectl apply -k deploy/kubernetes/overlays/production": NO_CLUSTER,
        'kubectl create configmap taskapp-maintenance --from-literal=on="New disks: back at 10:30'
        ' UTC."': NO_CLUSTER,
    },
    "docs/how-to/monitoring.md": {
        "apt install prometheus prometheus-alertmanager prometheus-node-exporter": "it installs, "
        "as tests/system_packages.sh does",
        "cp deploy/prometheus/*.yml deploy/prometheus/*.tmpl /etc/prometheus/": INSTALLED,
        "systemctl reload prometheus": NO_SYSTEMD,
        "mkdir -p /etc/systemd/journald.conf.d": INSTALLED,
        "systemctl restart systemd-journald rsyslog": NO_SYSTEMD,
    },
    "docs/how-to/one-file.md": {
        "make binary": "tests/deploy/test_binary.py::test_it_is_small",
        "./taskapp": "tests/deploy/test_binary.py::test_it_does_the_whole_job",
        "make wheel": "tests/deploy/test_wheel.py::test_its_command_serves",
    },
    "docs/how-to/own-postgresql.md": {
        "psql -f deploy/postgresql-roles.sql": "tests/deploy/test_own_postgresql.py"
        "::test_the_role_of_the_process_can_neither_make_nor_drop",
        "export TASKAPP_DATABASE_URL=postgresql://taskapp:PASSWORD@127.0.0.1/taskapp": "tests/"
        "deploy/test_own_postgresql.py::test_the_role_of_the_process_does_all_that_people_ask",
    },
    "docs/how-to/release.md": {
        'git tag --annotate v1.2.0 --message "taskapp 1.2.0"': "it publishes",
        "gh attestation verify taskapp-linux-x86_64 --repo OWNER/NAME": "it needs a release",
        "make binary image": "tests/deploy/test_release.py"
        "::test_every_file_that_a_job_uploads_is_one_of_the_release",
        "make release-files TAG=v1.2.0": "tests/deploy/test_release.py"
        "::test_the_images_of_both_machines_are_pushed_as_one",
    },
    "docs/how-to/systemd.md": {
        "cp -r . /opt/taskapp": INSTALLED,
        "mkdir -p /etc/sysusers.d /etc/taskapp": INSTALLED,
        "systemctl daemon-reload": NO_SYSTEMD,
        "install -m 600 /dev/stdin /etc/taskapp/database-url   # paste the URL": INSTALLED,
        "apt install nginx redis-server": "it installs, as tests/system_packages.sh does",
        "cp deploy/taskapp@.service deploy/taskapp.slice /etc/systemd/system/": INSTALLED,
    },
    "docs/how-to/terraform.md": {
        "aws secretsmanager put-secret-value --secret-id taskapp-production"
        "/database-url \\": NO_AWS,
        "aws ecs run-task --cluster taskapp-production --task-definition"
        " taskapp-production-migration --launch-type FARGATE \\": NO_AWS,
    },
    "docs/how-to/upgrade.md": {
        "python server.py backup list": "tests/deploy/test_earlier_versions.py"
        "::test_it_restores_the_backup_made_before_the_migration_and_goes_on",
        'python server.py maintenance on --message "New disks: back at 10:30 UTC."': "tests/"
        "runtime/test_maintenance.py::"
        "test_it_begins_and_ends_without_a_restart_in_the_seconds_that_the_command_names",
        "docker compose -f deploy/compose.yaml exec taskapp-1 python server.py maintenance on": (
            "tests/deploy/test_compose.py::test_one_closes_the_site_for_maintenance_and_both_are_closed"
        ),
        "mv postgres postgres-18": "tests/backups/test_postgresql_upgrade.py"
        "::test_it_can_be_undone_by_two_renames",
    },
    "docs/security.md": {
        "python3 -m venv /tmp/scanners && /tmp/scanners/bin/pip install schemathesis wapiti3 "
        "sqlmap": "it takes hours, and scanners that are not locked",
        "url=http://127.0.0.1:8777": "it takes hours, and scanners that are not locked",
    },
}
# Placeholders that a reader replaces with an address.
OWN_DATABASE = "postgresql://taskapp:password@db.example.com/taskapp"
ALICE = "echo 'SecurePass123!' | .venv/bin/python server.py user add alice@example.com"
PREPARED = {"docs/how-to/first-ten-problems.md": ALICE}


def name_of(page: Path) -> str:
    return str(page.relative_to(CHECKOUT))


def read_page(name: str) -> str:
    return (CHECKOUT / name).read_text(encoding="utf-8")


def blocks_of_commands(name: str) -> list[Block]:
    return [block for block in read_blocks(read_page(name)) if block.language != "text"]


@pytest.mark.parametrize("name", RUN)
def test_the_commands_of_a_page_run_as_they_are_written(name: str, database_url: str) -> None:
    elsewhere = ELSEWHERE.get(name, {})
    blocks = [block for block in blocks_of_commands(name) if block.first_line not in elsewhere]
    with new_database(database_url) as url, terminal_in_a_copy() as terminal:
        terminal.replaced = {OWN_DATABASE: f"'{url}'"}
        if name in PREPARED:
            terminal.run(PREPARED[name])
        run_all(terminal, blocks)


def run_all(terminal: Terminal, blocks: list[Block]) -> None:
    """Run blocks in order; those after one that serves run while it serves."""
    for place, block in enumerate(blocks):
        if SERVES.match(block.text):
            with terminal.serving(block.text) as said:
                assert READY in said, said
                run_all(terminal, blocks[place + 1 : place + 2])
            return run_all(terminal, blocks[place + 2 :])
        for command, _ in read_commands(block):
            terminal.run(command)
    return None


def test_every_block_of_commands_is_run_or_it_is_said_why_not() -> None:
    run = {*RUN, "docs/tutorial.md"}  # the tutorial has its own test
    for page in PAGES:
        name = name_of(page)
        blocks = {block.first_line for block in blocks_of_commands(name)}
        listed = {*ELSEWHERE.get(name, {})}
        assert listed <= blocks, name
        assert name in run or listed == blocks, name
    assert {*ELSEWHERE} <= {name_of(page) for page in PAGES}


def test_what_proves_the_others_is_there() -> None:
    for proof in [text for reasons in ELSEWHERE.values() for text in reasons.values()]:
        path, _, test = proof.partition("::")
        assert not test or f"def {test}(" in read_page(path), proof


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_what_it_is(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert {block.language for block in read_blocks(text)} <= LANGUAGES
    assert len(read_blocks(text)) * 2 == len(re.findall(r"^ *```", text, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_exist(page: Path) -> None:
    for code in re.findall(r"`([^`\n]+)`", page.read_text(encoding="utf-8")):
        for words in re.findall(r"(?<=server\.py )[a-z-]+(?: [a-z-]+)*", code):
            assert is_command(words.split()), code
        for target in re.findall(r"(?:^|&& )make ([a-z-]+)(?=$| &&)", code):
            assert f"\n{target}:" in read_page("Makefile"), code


def is_command(words: list[str]) -> bool:
    """Return whether words name a command, followed by an option of it or by arguments."""
    command: click.Command | None = cli
    for word in words:
        if isinstance(command, click.Group) and word.startswith("--"):
            return word in {option for each in command.params for option in each.opts}
        if not isinstance(command, click.Group):
            return command is not None
        command = command.commands.get(word)
    return command is not None
