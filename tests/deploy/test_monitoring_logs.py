"""Shipped log lines arrive complete, also after an outage of the receiver."""

import json
import socket
import socketserver
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.server_process import (
    CHECKOUT,
    LONG_ENOUGH,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
    wait_until,
)

CONFIGURATION = (CHECKOUT / "deploy" / "log-shipping" / "rsyslog.conf").read_text()
# Like Debian's /etc/rsyslog.conf, with other files and shorter timeouts.
BEFORE = """
global(workDirectory="{folder}")
module(load="imuxsock" sysSock.use="off")
input(type="imuxsock" socket="{folder}/log")
"""


class Collector:
    """A log server that receives lines over TCP."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.lines: list[str] = []

    @property
    def different_lines(self) -> list[dict[str, Any]]:
        """Return the distinct lines: rsyslog repeats a line if its arrival is unknown."""
        return [json.loads(line) for line in dict.fromkeys(self.lines)]

    @contextmanager
    def listening(self) -> Iterator[None]:
        lines = self.lines

        class Receive(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                for line in self.rfile:
                    lines.append(line.decode())

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        with Server(("127.0.0.1", self.port), Receive) as server:
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


@contextmanager
def rsyslog(folder: Path, configuration: str, *changes: tuple[str, str]) -> Iterator[None]:
    """Run rsyslog with changed addresses."""
    text = BEFORE.format(folder=folder) + configuration
    for old, new in (*changes, ('resumeInterval="10"', 'resumeInterval="1"')):
        assert old in text
        text = text.replace(old, new)
    file = folder / "rsyslog.conf"
    file.write_text(text)
    command = ["rsyslogd", "-n", "-f", str(file), "-i", str(folder / "pid")]
    checked = subprocess.run([*command, "-N1"], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until((folder / "log").exists)
        yield
    finally:
        process.terminate()
        process.wait(LONG_ENOUGH)


def hand_over(folder: Path, line: str) -> None:
    """Forward a line like the journal."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.sendto(f"<14>Nov 26 10:00:00 taskapp[7]: {line}".encode(), str(folder / "log"))


def lines_of_a_server() -> list[str]:
    with new_data_folder() as data, server_process(data) as server:
        use(server.wait_until_ready())
        server.end()
        return server.log_text.splitlines()


def use(server: ServerProcess) -> None:
    alice = server.client().sign_up("alice@example.com")
    alice.send("POST", "/api/tasks", {"title": "Grüße 🎈"})
    alice.send("GET", "/api/nothing")


def test_every_line_arrives_as_it_was_written_also_after_the_collector_was_away() -> None:
    written = lines_of_a_server()
    half = len(written) // 2
    assert half > 2
    with (
        reserved_port() as port,
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name,
    ):
        folder = Path(name)
        collector = Collector(port)
        here = f'target="127.0.0.1" port="{port}"'
        there = 'target="logs.example.com" port="5140"'
        with rsyslog(folder, CONFIGURATION, (there, here)):
            for line in written[:half]:
                hand_over(folder, line)
            with collector.listening():
                for line in [*written[half:], 'cut off: {"event": "req', "A line\tof Python's"]:
                    hand_over(folder, line)
                wait_until(lambda: len(collector.different_lines) == len(written) + 2)
    lines = collector.different_lines
    assert len({line.pop("host") for line in lines}) == 1
    *arrived, cut, other = lines
    assert arrived == [json.loads(line) for line in written]
    assert cut["message"].strip() == 'cut off: {"event": "req'
    assert other["message"].strip().endswith("of Python's")
