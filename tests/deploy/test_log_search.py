"""The log reaches Elasticsearch and OpenSearch by rsyslog, Loki too by Vector; 30 days of files."""

import gzip
import json
import re
import subprocess
import tempfile
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]  # its stubs would be another package

from tests.deploy.test_monitoring_logs import hand_over, rsyslog
from tests.deploy.tools import BIN
from tests.support.server_process import CHECKOUT, reserved_port, wait_until

SHIPPING = CHECKOUT / "deploy" / "log-shipping"
TIME = "2026-11-30T23:59:59.123Z"
LINES: list[dict[str, Any]] = [
    {"time": TIME, "level": "info", "event": "task.created", "requestId": "r-1", "taskId": "t"},
    {"time": TIME, "level": "error", "event": "error", "traceback": 'a "b"\n c', "userId": None},
    {"time": TIME, "level": "info", "event": "request.completed", "ms": 1.5, "status": 201},
]
OTHER = 'cut off: {"event": "req'


class Search:
    """Elasticsearch's and OpenSearch's bulk API; `refusals` has its next answers."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.documents: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.passwords: set[str] = set()
        self.refusals = [(503, "busy")]  # of a proxy before it

    @contextmanager
    def listening(self) -> Iterator[None]:
        search = self

        class Receive(BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # _cat/health
                self._answer(200, "")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                assert self.path.startswith("/_bulk")
                assert self.headers["Content-Type"].startswith("application/json")
                search.passwords.add(self.headers["Authorization"])
                if search.refusals:
                    self._answer(*search.refusals.pop())
                    return
                parts = [json.loads(line) for line in body.splitlines() if line]
                search.documents += zip(parts[::2], parts[1::2], strict=True)
                items = [{"index": {"status": 201}} for _ in parts[::2]]
                self._answer(200, json.dumps({"took": 1, "errors": False, "items": items}))

            def _answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_: Any) -> None:
                """Write nothing."""

        with ThreadingHTTPServer(("127.0.0.1", self.port), Receive) as server:
            thread = threading.Thread(target=server.serve_forever, args=[0.05])
            thread.start()
            try:
                yield
            finally:
                server.shutdown()
                thread.join()


def test_every_line_is_a_document_of_its_day_or_is_kept_in_a_file_if_the_search_refuses_it() -> (
    None
):
    with (
        reserved_port() as port,
        tempfile.TemporaryDirectory(prefix="ta-", dir="/tmp") as name,
    ):
        folder, search = Path(name), Search(port)
        changes = [
            ("https://logs.example.com:9200", f"http://127.0.0.1:{port}"),
            ("/var/spool/rsyslog/", f"{folder}/"),
        ]
        text = (SHIPPING / "rsyslog-elasticsearch.conf").read_text()
        with rsyslog(folder, text, *changes):
            hand_over(folder, json.dumps(LINES[0]))
            with search.listening():
                for line in LINES[1:]:
                    hand_over(folder, json.dumps(line))
                hand_over(folder, OTHER)
                wait_until(lambda: len({str(each) for each in search.documents}) == 4)
                full = {"error": {"type": "es_rejected_execution_exception"}, "status": 429}
                search.refusals = [(429, json.dumps(full))]
                refused = folder / "taskapp-refused.json"
                hand_over(folder, json.dumps({**LINES[0], "taskId": "too many"}))
                wait_until(lambda: refused.exists() and "too many" in refused.read_text())
    documents = {str(each): each for each in search.documents}.values()
    assert search.passwords == {f"Basic {b64encode(b'taskapp:PASSWORD').decode()}"}
    for action, _ in documents:
        assert set(action["index"]) == {"_index"}  # a type is refused from version 8 on
        assert re.fullmatch(r"taskapp-\d{4}\.\d\d\.\d\d", action["index"]["_index"])
    found = [document for _, document in documents]
    assert len({document.pop("host") for document in found}) == 1
    times = [document.pop("@timestamp") for document in found]
    *ours, other = found
    assert ours == LINES
    assert times[:3] == [TIME] * 3
    assert other["message"].strip() == OTHER


VRL = """
import json, sys, pyvrl
program, *events = json.load(sys.stdin)
run = pyvrl.Transform(program + "\\n.")  # the result is the event
json.dump([run.remap(event) for event in events], sys.stdout, default=str)
"""


def test_what_vector_makes_of_a_line_is_what_taskapp_wrote() -> None:
    """Vector itself is in no registry here: VRL runs as a library, and the sinks are only read."""
    vector = yaml.safe_load((SHIPPING / "vector.yaml").read_text())
    texts = [*map(json.dumps, LINES), OTHER, "3", '["a"]', '{"time": "never", "event": "x"}']
    events = [{"message": text, "host": "m", "timestamp": "2026-01-01"} for text in texts]
    done = subprocess.run(
        [BIN / "python", "-c", VRL],
        input=json.dumps([vector["transforms"]["lines"]["source"], *events]),
        capture_output=True,
        text=True,
        check=True,
    )
    *made, cut, number, array, odd = json.loads(done.stdout)
    for line, document in zip(LINES, made, strict=True):
        assert document.pop("host") == "m"
        assert document.pop("timestamp").replace(" ", "T").startswith("2026-11-30T23:59:59.123")
        assert document == line
    for document, text in ((cut, OTHER), (number, "3"), (array, '["a"]')):
        assert (document["message"], document["level"]) == (text, "info")
    assert (odd["event"], odd["timestamp"]) == ("x", "2026-01-01")


def test_vector_sends_all_lines_to_each_search_and_keeps_no_secret_in_its_file() -> None:
    vector = yaml.safe_load((SHIPPING / "vector.yaml").read_text())
    assert {sink["type"] for sink in vector["sinks"].values()} == {"elasticsearch", "loki"}
    for sink in vector["sinks"].values():
        assert [*vector["transforms"]] == sink["inputs"]
        assert sink["auth"]["password"].startswith("SECRET[files.")
        assert sink["buffer"]["when_full"] == "block"  # the journal keeps what cannot be sent
    assert set(vector["sinks"]["loki"]["labels"]) == {"app", "host", "level"}


def test_a_file_is_rotated_daily_without_a_lost_line_and_kept_for_30_days(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    log = tmp_path / "taskapp.log"
    text = (SHIPPING / "logrotate.conf").read_text()
    assert "\n    daily\n" in text
    configuration = tmp_path / "logrotate.conf"
    configuration.write_text(text.replace("/var/log/taskapp/", f"{tmp_path}/"))
    configuration.chmod(0o644)
    command = ["/usr/sbin/logrotate", "--state", str(tmp_path / "state"), str(configuration)]
    checked = subprocess.run([*command, "-d"], capture_output=True, text=True, check=True)
    assert "error" not in checked.stderr
    with log.open("ab", buffering=0) as stream:  # as a process has it
        for day in range(33):
            stream.write(b"%d\n" % day)
            subprocess.run([*command, "--force"], check=True, capture_output=True)
            assert log.read_bytes() == b""
    kept = {}
    for path in tmp_path.glob("taskapp.log.*"):
        body = path.read_bytes()
        kept[path.name] = int(gzip.decompress(body) if path.suffix == ".gz" else body)
    assert len(kept) == 30
    assert sorted(kept.values()) == [*range(3, 33)]
    assert kept["taskapp.log.1"] == 32
