"""Standard input, output and error may be closed, full or unread, and nothing crashes."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.support.environment import inherited_environment
from tests.support.server_process import PROGRAM, new_data_folder, server_process

FULL = "Standard output cannot be written: No space left on device\n"
# How bash starts a program, and what a command that prints a result then ends with. One of each
# kind comes first: processes of the others are not measured (tests/conftest.py).
REDIRECTIONS = {
    "<&- >&- 2>&-": 0,
    ">/dev/full": 1,
    "> >(exec true)": 1,  # a pipe whose reader has gone
    "<&-": 0,
    ">&-": 0,
    "2>&-": 0,
    "2>/dev/full": 0,
    ">/dev/full 2>&1": 1,
    "2> >(exec true)": 0,
}


@pytest.fixture
def data_folder() -> Iterator[Path]:
    with new_data_folder() as folder:
        yield folder


def redirected(redirection: str, *command: str) -> list[str]:
    """Return the command that runs another with its standard streams redirected."""
    # The wait lets the reader of a pipe go before anything is written.
    return ["bash", "-c", f'exec {redirection}; sleep 0.2; exec "$@"', "bash", *command]


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_a_command_ends_with_a_code_and_a_sentence(
    redirection: str, data_folder: Path, database_url: str
) -> None:
    settings = {"TASKAPP_DATA_DIR": str(data_folder), "TASKAPP_DATABASE_URL": database_url}
    for arguments in (["--help"], ["settings"], ["user", "list"]):
        done = subprocess.run(
            redirected(redirection, sys.executable, str(PROGRAM), *arguments),
            env=inherited_environment(measured=True) | settings,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        said = FULL if redirection == ">/dev/full" else ""
        assert (done.returncode, done.stderr) == (REDIRECTIONS[redirection], said), arguments
        assert done.stdout or ">" in redirection.replace("2>", "")


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_the_server_serves_on_and_ends_well(
    redirection: str, data_folder: Path, database_url: str
) -> None:
    with server_process(
        data_folder,
        settings={"TASKAPP_DATABASE_URL": database_url},
        launcher=redirected(redirection, sys.executable, "-W", "error"),
    ) as server:
        with server.wait_until_ready().client() as client:
            assert client.status("/login") == 200
        assert server.end() == 0
        assert "Traceback" not in server.log_text
        assert "Exception" not in server.log_text


def test_what_is_closed_is_not_given_to_a_socket_or_a_file(
    data_folder: Path, database_url: str
) -> None:
    with server_process(
        data_folder,
        settings={"TASKAPP_DATABASE_URL": database_url},
        launcher=redirected("<&- >&- 2>&-", sys.executable),
    ) as server:
        server.wait_until_ready()
        opened = [Path(f"/proc/{server.pid}/fd/{number}").readlink() for number in range(3)]
        assert opened == [Path("/dev/null")] * 3


def test_names_in_any_encoding_are_printed(data_folder: Path) -> None:
    odd = str(data_folder.parent / "d\udce4ta")  # not valid UTF-8
    for variables in ({}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}):
        done = subprocess.run(
            [sys.executable, str(PROGRAM), "settings"],
            env=inherited_environment() | {"TASKAPP_DATA_DIR": odd} | variables,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"TASKAPP_DATA_DIR" in done.stdout


def test_at_a_terminal_the_address_is_last_and_then_each_request_in_a_few_words(
    data_folder: Path, database_url: str
) -> None:
    settings = {"TASKAPP_DATA_DIR": str(data_folder), "TASKAPP_DATABASE_URL": database_url}
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        env=inherited_environment(measured=True) | settings | {"TASKAPP_PORT": "0"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as server:
        os.close(theirs)
        try:
            with os.fdopen(ours, encoding="utf-8") as terminal:
                said = [terminal.readline()]
                while not said[-1].startswith("taskapp is ready at "):
                    assert said[-1], said
                    said.append(terminal.readline())
                port = int(said[-1].rpartition(":")[2])
                with closing(HTTPConnection("127.0.0.1", port)) as connection:
                    connection.request("GET", "/api/health/live")
                    assert connection.getresponse().status == 200
                request = r"\d\d:\d\d:\d\d GET /api/health/live 200 [\d.]+ ms\n"
                assert re.fullmatch(request, terminal.readline())
        finally:
            server.send_signal(signal.SIGTERM)
