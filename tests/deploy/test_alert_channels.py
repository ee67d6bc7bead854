"""Alerts of each class arrive at their channel, by a real Prometheus and Alertmanager."""

import json
import mailbox
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.monitored_server import CONFIGURATION, running_program
from tests.deploy.tools import BIN
from tests.support.server_process import LONG_ENOUGH, reserved_port, wait_until

CHANNELS = {"critical": "on-call", "warning": "chat", "info": "mail"}
RULES = [
    rule
    for group in yaml.safe_load((CONFIGURATION / "alerts.yml").read_text())["groups"]
    for rule in group["rules"]
]


class Channels:
    """What PagerDuty, Slack and the mail server have received."""

    def __init__(self, mails: Path) -> None:
        self.posted: dict[str, list[Any]] = {"/v2/enqueue": [], "/slack-secret": []}
        self._mails = mails

    @property
    def pages(self) -> list[Any]:
        return self.posted["/v2/enqueue"]

    @property
    def chat(self) -> list[Any]:
        return self.posted["/slack-secret"]

    @property
    def mails(self) -> list[Any]:
        box = mailbox.Maildir(self._mails)
        return [box[key] for key in sorted(box.keys())]

    def titles(self) -> dict[str, set[str]]:
        return {
            "critical": {page["payload"]["summary"] for page in self.pages},
            "warning": {line["attachments"][0]["title"] for line in self.chat},
            "info": {mail["Subject"] for mail in self.mails},
        }

    @contextmanager
    def listening(self) -> Iterator[int]:
        posted = self.posted

        class Receive(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                posted[self.path].append(body)
                # PagerDuty's answer; Slack looks at the status only
                answer = b'{"status": "success", "message": "Event processed", "dedup_key": "x"}'
                self.send_response(202 if self.path == "/v2/enqueue" else 200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

        with ThreadingHTTPServer(("127.0.0.1", 0), Receive) as server:
            thread = threading.Thread(target=server.serve_forever, args=[0.05])
            thread.start()
            try:
                yield server.server_port
            finally:
                server.shutdown()
                thread.join()


class Alertmanager:
    def __init__(self, port: int, channels: Channels) -> None:
        self.port = port
        self.channels = channels

    def fire(self, name: str, **labels: str) -> None:
        (rule,) = [rule for rule in RULES if rule["alert"] == name]
        told = [f"--annotation={key}={text}" for key, text in rule["annotations"].items()]
        named = [f"{key}={text}" for key, text in (rule["labels"] | labels).items()]
        self._amtool("alert", "add", name, *named, *told)

    def end(self, name: str) -> None:
        (rule,) = [rule for rule in RULES if rule["alert"] == name]
        named = [f"{key}={text}" for key, text in rule["labels"].items()]
        self._amtool("alert", "add", name, *named, "--end=2026-01-01T00:00:00Z")

    def _amtool(self, *arguments: str) -> None:
        address = f"--alertmanager.url=http://127.0.0.1:{self.port}"
        subprocess.run(["amtool", address, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def alertmanager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Alertmanager]:
    """Run Alertmanager with the files of deploy/, where only addresses and waits are others."""
    folder = tmp_path_factory.mktemp("alertmanager")
    channels = Channels(folder / "mails")
    with ExitStack() as stack:
        http = stack.enter_context(channels.listening())
        smtp, port = (stack.enter_context(reserved_port()) for _ in range(2))
        text = (CONFIGURATION / "alertmanager.yml").read_text()
        for old, new in (
            ("/etc/prometheus/", f"{folder}/"),
            ("smarthost: localhost:25", f"smarthost: 127.0.0.1:{smtp}"),
            ("group_wait: 30s", "group_wait: 2s"),
            ("group_interval: 5m", "group_interval: 2s"),
        ):
            assert old in text
            text = text.replace(old, new)
        (folder / "alertmanager.yml").write_text(
            f"global: {{pagerduty_url: 'http://127.0.0.1:{http}/v2/enqueue'}}\n{text}"
        )
        (folder / "alertmanager.tmpl").write_bytes(
            (CONFIGURATION / "alertmanager.tmpl").read_bytes()
        )
        (folder / "pagerduty-key").write_text("pagerduty-secret\n")
        (folder / "slack-url").write_text(f"http://127.0.0.1:{http}/slack-secret\n")
        for secret in ("pagerduty-key", "slack-url"):
            (folder / secret).chmod(0o600)
        mailbox.Maildir(folder / "mails")
        server = f"127.0.0.1:{smtp}"
        handler = ("-c", "aiosmtpd.handlers.Mailbox", str(folder / "mails"))
        stack.enter_context(running_program(str(BIN / "aiosmtpd"), "-n", "-l", server, *handler))
        stack.enter_context(
            running_program(
                "prometheus-alertmanager",
                f"--config.file={folder / 'alertmanager.yml'}",
                f"--storage.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
            )
        )
        wait_until(lambda: is_ready(port))
        yield Alertmanager(port, channels)


def is_ready(port: int) -> bool:
    with suppress(URLError, ConnectionError):
        address = f"http://127.0.0.1:{port}/-/ready"
        return bool(urlopen(address, timeout=LONG_ENOUGH).status == 200)  # our own
    return False


@pytest.mark.parametrize(("severity", "receiver"), CHANNELS.items())
def test_each_class_has_its_route(severity: str, receiver: str) -> None:
    command = ["amtool", "config", "routes", "test", f"severity={severity}", "alertname=Any"]
    where = f"--config.file={CONFIGURATION / 'alertmanager.yml'}"
    done = subprocess.run([*command, where], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == receiver


def test_every_alert_is_of_a_class_that_has_a_channel() -> None:
    assert {rule["labels"]["severity"] for rule in RULES} == set(CHANNELS)


def test_the_configuration_holds_no_secret() -> None:
    text = (CONFIGURATION / "alertmanager.yml").read_text()
    named = re.findall(r"^ *-? *(\w*(?:key|url|password|token|secret)\w*):", text, re.MULTILINE)
    assert named
    assert all(name.endswith("_file") for name in named)


def test_an_alert_of_each_class_arrives_at_its_channel_and_its_end_too(
    alertmanager: Alertmanager,
) -> None:
    fired = {
        "critical": {"TaskappDatabaseDown"},
        "warning": {"TaskappBackupFailed"},
        "info": {"TaskappDeployed", "TaskappBackupMade", "TaskappManyRegistrations"},
    }
    for name in set().union(*fired.values()):
        alertmanager.fire(name)
    channels = alertmanager.channels
    wait_until(lambda: channels.titles() == fired)
    for name in ("TaskappDatabaseDown", "TaskappBackupFailed"):
        alertmanager.end(name)
    fired["critical"] |= {"Over: TaskappDatabaseDown"}
    fired["warning"] |= {"Over: TaskappBackupFailed"}
    wait_until(lambda: channels.titles() == fired)
    page, over = channels.pages
    assert (page["routing_key"], page["event_action"]) == ("pagerduty-secret", "trigger")
    assert page["payload"]["severity"] == "critical"
    told = page["payload"]["custom_details"]["alerts"]
    assert "cannot reach its database" in told
    assert "docs/how-to/monitoring.md#taskappdatabasedown" in told
    assert (over["event_action"], over["dedup_key"]) == ("resolve", page["dedup_key"])
    assert channels.chat[0]["channel"] == "#taskapp"
    assert "A backup failed" in channels.chat[0]["attachments"][0]["text"]
    (mail,) = [each for each in channels.mails if each["Subject"] == "TaskappBackupMade"]
    assert (mail["From"], mail["To"]) == ("alertmanager@example.com", "operator@example.com")
    (part,) = mail.get_payload()
    assert "A backup was made." in part.get_payload(decode=True).decode()


def test_prometheus_calls_when_taskapp_is_away_and_nobody_is_called_for_its_slowness_too(
    alertmanager: Alertmanager, tmp_path: Path
) -> None:
    channels = alertmanager.channels
    with reserved_port() as nobody, reserved_port() as port:
        for source in CONFIGURATION.iterdir():
            text = re.sub(
                r"127\.0\.0\.1:(8000|9100|9187)", f"127.0.0.1:{nobody}", source.read_text()
            )
            text = text.replace("127.0.0.1:9093", f"127.0.0.1:{alertmanager.port}")
            text = text.replace("_interval: 15s", "_interval: 1s").replace("for: 1m", "for: 1s")
            (tmp_path / source.name).write_text(text)
        with running_program(
            "prometheus",
            f"--config.file={tmp_path / 'prometheus.yml'}",
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--rules.alert.resend-delay=1s",  # it finds Alertmanager after its first attempt
        ):
            wait_until(lambda: "TaskappDown" in channels.titles()["critical"])
            alertmanager.fire("TaskappVerySlow", job="taskapp")
            alertmanager.fire("TaskappReadOnly", job="taskapp")
            wait_until(lambda: "TaskappReadOnly" in channels.titles()["critical"])
    (page,) = [page for page in channels.pages if page["payload"]["summary"] == "TaskappDown"]
    assert "No taskapp process responds" in page["payload"]["custom_details"]["alerts"]
    assert "TaskappVerySlow" not in channels.titles()["critical"]
