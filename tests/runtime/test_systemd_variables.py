"""Whatever systemd's variables hold, the server starts or says in one sentence what is wrong."""

import asyncio
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from taskapp.config.installation import HOME
from taskapp.config.settings import load_settings
from taskapp.observability.logs import configure_logging
from taskapp.runtime.listeners import listening_sockets
from taskapp.runtime.systemd import notify_systemd, watchdog_timeout
from taskapp.services import make_services

OWN = str(os.getpid())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30000000", 30),
        ("100000", 0.1),
        ("1", 0.1),  # or the database would be asked without a pause
        (str(2**64 - 2), (2**64 - 2) / 10**6),
        *((text, 0) for text in ("", "0", "-1", "1.5", "1_000", "\u0663", " 5", "off", "nan")),
        *((text, 0) for text in (str(2**64 - 1), "9" * 20, "9" * 400, "9" * 5000)),
    ],
)
def test_a_watchdog_is_fed_if_its_time_is_one(
    text: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setenv("WATCHDOG_USEC", text)
    assert watchdog_timeout() == seconds
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_timeout() == 0


@pytest.mark.parametrize(
    "path", ["/", ".", "absent", "file", "stream", "@", "@absent", "vsock:2:1", "\udce4", "a" * 300]
)
def test_notices_that_nobody_takes_are_a_warning(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)

    configure_logging(load_settings({}))

    async def scenario() -> None:
        async with notify_systemd(make_services(load_settings({}))):
            pass

    with socket.socket(socket.AF_UNIX) as stream:
        stream.bind("stream")
        stream.listen()
        asyncio.run(scenario())
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [line["state"] for line in lines] == ["READY=1", "STOPPING=1"]
    assert {line["event"] for line in lines} == {"service_manager.notification_failed"}


LISTEN = """
import os, sys
from taskapp.config.settings import load_settings
from taskapp.runtime.listeners import ListenError, listening_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
for text in sys.argv[1:]:
    os.environ["LISTEN_FDS"] = text
    try:
        listening_sockets(load_settings({}))
    except ListenError as error:
        print(error)
"""


def test_sockets_that_were_not_passed_are_missed_in_one_sentence() -> None:
    """In a process of its own: a socket of this one that has such a number would be closed."""
    texts = ["1", "2", "999999", "99999999999", "-1", "one", "1.0", "9" * 5000]
    command = [sys.executable, "-c", LISTEN, *texts]
    said = subprocess.run(command, cwd=HOME, capture_output=True, check=True, text=True).stdout
    sentence = r"Cannot listen on the sockets of LISTEN_FDS: .*\."
    assert [bool(re.fullmatch(sentence, line)) for line in said.splitlines()] == [True] * len(texts)


@pytest.mark.parametrize(
    "variables", [{"LISTEN_FDS": "0"}, {"LISTEN_PID": "-1"}, {"LISTEN_PID": ""}]
)
def test_without_sockets_for_this_process_it_opens_its_own(
    variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {"LISTEN_PID": OWN, "LISTEN_FDS": "1", **variables}.items():
        monkeypatch.setenv(name, text)
    [found] = listening_sockets(load_settings({"TASKAPP_HOST": "127.0.0.1", "TASKAPP_PORT": "0"}))
    found.close()
