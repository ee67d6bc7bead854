"""The operator's command runs after each backup, without a shell, and its failure is seen."""

import asyncio
import json
import os
import time
from pathlib import Path

import pytest

from taskapp.backups.after_backup import (
    BackupCommandError,
    find_command_failure,
    note_command_due,
    run_due_command,
)
from taskapp.backups.status import BackupStatus
from taskapp.doctor.backups import check_backups
from taskapp.doctor.check_results import Level
from tests.backups.test_backup_commands import run
from tests.support.backup_tools import Instance, instance, original
from tests.support.server_process import server_process, wait_until

__all__ = ["instance", "original"]  # fixtures


def script(folder: Path, *lines: str) -> str:
    """Return the path of an executable script."""
    path = folder / "command"
    path.write_text("\n".join(["#!/bin/sh", *lines]) + "\n")
    path.chmod(0o755)
    return str(path)


def run_due(instance: Instance, **changes: str) -> bool:
    return asyncio.run(run_due_command(instance.settings(**changes)))


def test_it_gets_the_backup_in_its_environment_and_its_arguments_as_they_are(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(
        tmp_path,
        'printf "%s\\n" "$@" > "$0.arguments"',
        'printf "%s\\n" "$BACKUP_PATH" "$BACKUP_NAME" "$BACKUP_DIR" "$HOME" > "$0.about"',
    )
    arguments = "'two words' \"$(touch $HOME/pwned)\" ';' '&&' * $BACKUP_NAME '|'"
    said = run(instance, "backup", BACKUP_COMMAND=f"{command} {arguments}")
    assert said.endswith("TASKAPP_BACKUP_COMMAND has run.\n")
    made = instance.backups[0]
    assert Path(f"{command}.about").read_text().splitlines() == [
        str(made.path),
        made.name,
        str(made.path.parent),
        os.environ["HOME"],
    ]
    assert Path(f"{command}.arguments").read_text().splitlines() == [
        *("two words", "$(touch $HOME/pwned)", ";", "&&", "*", "$BACKUP_NAME", "|"),
    ]


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo no; echo full >&2; exit 3'", "exit code 3: full."),
        ("false", "exit code 1."),
        ("sh -c 'kill -9 $$'", "signal SIGKILL."),
        ("no-such-program --help", "there is no program no-such-program."),
        ("/nowhere/copy", "there is no program /nowhere/copy."),
        ("/", "there is no program /."),
    ],
)
def test_its_failure_is_said_and_kept_until_it_succeeds(
    instance: Instance, command: str, reason: str
) -> None:
    said = run(instance, "backup", code=1, BACKUP_COMMAND=command)
    made = instance.backups[0]
    sentence = f"TASKAPP_BACKUP_COMMAND failed after the backup {made.name}: {reason}"
    assert said.splitlines() == [said.splitlines()[0], sentence]
    assert said.startswith(f"Made {made.path}")
    settings = instance.settings(BACKUP_COMMAND=command)
    status = BackupStatus(settings)
    assert status.inspect().problems == (sentence,)
    assert (status.state(), status.problems) == ("failing", (sentence,))
    [found] = asyncio.run(check_backups(settings))
    assert (found.level, found.text) == (Level.PROBLEM, sentence)

    failed, off = asyncio.run(
        check_backups(instance.settings(BACKUP_COMMAND=command, BACKUP_EVERY="off"))
    )
    assert (failed.level, failed.text, off.level) == (Level.PROBLEM, sentence, Level.WARNING)

    assert find_command_failure(instance.settings()) == ""  # whoever takes the setting back
    assert run_due(instance, BACKUP_COMMAND="true")
    assert not run_due(instance, BACKUP_COMMAND="true")
    assert status.inspect().problems == ()
    assert status.state() == "current"


def test_what_does_not_end_is_ended_with_all_that_it_began(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(tmp_path, 'sleep 1000 & echo $! > "$0.pid"; wait')
    started = time.monotonic()
    said = run(instance, "backup", code=1, BACKUP_COMMAND=command, BACKUP_COMMAND_TIMEOUT="2s")
    assert "it did not end within 2 seconds." in said
    assert time.monotonic() - started < 500
    child = int(Path(f"{command}.pid").read_text())
    wait_until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child))


def is_zombie(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True


def test_a_backup_whose_maker_was_killed_before_the_command_gets_it_later(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(tmp_path, 'echo "$BACKUP_NAME" >> "$0.ran"')
    made = instance.back_up(BACKUP_COMMAND=command)  # as `backup` does before it runs the command
    assert not Path(f"{command}.ran").exists()
    assert run_due(instance, BACKUP_COMMAND=command)
    assert Path(f"{command}.ran").read_text() == f"{made.name}\n"


def test_of_two_at_once_one_runs_it_and_who_waits_learns_how_it_ended(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(tmp_path, 'echo x >> "$0.ran"; while [ ! -e "$0.go" ]; do sleep 0.05; done')
    ran, go = Path(f"{command}.ran"), Path(f"{command}.go")
    settings = instance.settings(BACKUP_COMMAND=command)
    instance.back_up(BACKUP_COMMAND=command)

    async def scenario() -> list[bool]:
        first = asyncio.create_task(run_due_command(settings))
        await asyncio.to_thread(wait_until, ran.exists)
        assert not await run_due_command(settings)
        second = asyncio.create_task(run_due_command(settings, waits=True))
        await asyncio.sleep(0.3)
        assert not second.done()
        await asyncio.to_thread(go.touch)
        return [await first, await second]

    assert asyncio.run(scenario()) == [True, False]
    assert ran.read_text() == "x\n"


def test_a_backup_that_is_made_while_it_runs_gets_it_too(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(
        tmp_path,
        'echo "$BACKUP_NAME" >> "$0.ran"',
        'while [ ! -e "$0.go" ]; do sleep 0.05; done',
    )
    settings = instance.settings(BACKUP_COMMAND=command)
    first = instance.back_up(BACKUP_COMMAND=command)
    second = instance.back_up()
    ran, go = Path(f"{command}.ran"), Path(f"{command}.go")

    async def scenario() -> None:
        running = asyncio.create_task(run_due_command(settings))
        await asyncio.to_thread(wait_until, ran.exists)
        note_command_due(settings, second)
        await asyncio.to_thread(go.touch)
        await running

    asyncio.run(scenario())
    assert run_due(instance, BACKUP_COMMAND=command)
    assert ran.read_text() == f"{first.name}\n{second.name}\n"


def test_a_data_folder_that_takes_no_record_is_named(original: Instance, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    settings = original.settings(BACKUP_COMMAND="true", DATA_DIR=str(tmp_path / "file" / "data"))
    with pytest.raises(BackupCommandError, match=r"TASKAPP_BACKUP_COMMAND cannot run: /.*/file"):
        note_command_due(settings, original.backups[0])


def test_the_server_runs_it_tells_its_failure_and_tries_again(
    instance: Instance, tmp_path: Path
) -> None:
    command = script(tmp_path, '[ -e "$0.disk" ] || { echo "no disk" >&2; exit 1; }')
    settings = {"TASKAPP_BACKUP_EVERY": "5s", "TASKAPP_BACKUP_COMMAND": command}
    with server_process(instance.data_dir, settings=settings) as server:
        client = server.wait_until_ready().client()

        def events() -> list[str]:
            return [line["event"] for line in server.log]

        wait_until(lambda: "backup.command_failed" in events())
        wait_until(lambda: client.send("GET", "/api/health").json["backup"] == "failing")
        [problem] = client.send("GET", "/api/health").json["backupProblems"]
        assert problem.endswith("exit code 1: no disk.")
        metrics = client.send("GET", "/metrics").body.decode()
        assert "taskapp_backup_command_failures_total 0.0" not in metrics
        Path(f"{command}.disk").touch()
        wait_until(lambda: "backup.command_ran" in events())
        wait_until(lambda: client.send("GET", "/api/health").json["backup"] != "failing")
        server.end()
        assert "backup.failed" not in events()
        assert json.dumps(server.surprises()) == "[]"
