"""`task` adds, lists and completes tasks on a server, and says in a sentence what goes wrong."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from server import cli
from tests.deploy.certificates import Certificate, make_authority, make_certificate
from tests.support.server_process import (
    Client,
    ServerProcess,
    new_data_folder,
    reserved_port,
    server_process,
)

NO_SUCH_ID = "01900000-0000-7000-8000-000000000000"
PROXIES = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), "http://127.0.0.1:9")
TITLES = ["Buy milk", 'Say "hello"', "it's", "$(id) `id` \\ %s", "Ärger & <b>", "🍎"]


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    with new_data_folder() as folder, server_process(folder) as process:
        yield process.wait_until_ready()


@pytest.fixture
def alice(server: ServerProcess, request: pytest.FixtureRequest) -> Client:
    number = abs(hash(request.node.nodeid))
    return server.client().sign_up(f"alice-{number}@example.com")


def run(alice: Client, *arguments: str, **environment: str) -> Result:
    named = {"TASKAPP_PORT": alice.address, "TASKAPP_CLIENT_TOKEN": alice.token}
    result = CliRunner().invoke(cli, ["task", *arguments], env=PROXIES | named | environment)
    if isinstance(result.exception, Exception):
        raise result.exception
    return result


def succeed(alice: Client, *arguments: str, **environment: str) -> str:
    result = run(alice, *arguments, **environment)
    assert (result.exit_code, result.stderr) == (0, ""), result.output
    return result.stdout


def fail(
    alice: Client, *arguments: str, code: int = 1, environment: dict[str, str] | None = None
) -> str:
    result = run(alice, *arguments, **(environment or {}))
    assert (result.exit_code, result.stdout) == (code, ""), result.output
    return result.stderr


def test_what_is_added_is_listed_and_completed_whatever_its_title(alice: Client) -> None:
    ids = [succeed(alice, "add", title).strip() for title in TITLES]
    header, *lines = succeed(alice, "list").splitlines()
    assert header.split() == ["ID", "STATUS", "TITLE"]
    shown = [line.split(maxsplit=2) for line in lines]
    assert shown == [
        [task_id, "pending", title] for task_id, title in zip(ids[::-1], TITLES[::-1], strict=True)
    ]
    assert succeed(alice, "done", *ids[:2]) == (
        f'Completed {ids[0]}: Buy milk\nCompleted {ids[1]}: Say "hello"\n'
    )
    assert len(succeed(alice, "list").splitlines()) == 1 + len(TITLES) - 2
    header, *lines = succeed(alice, "list", "--status", "completed").splitlines()
    assert header.split() == ["ID", "STATUS", "COMPLETED", "TITLE"]
    assert [line.split()[0] for line in lines] == ids[:2][::-1]
    for line in lines:
        completed_at = datetime.fromisoformat(line.split()[2])
        assert timedelta(0) <= datetime.now(UTC) - completed_at < timedelta(minutes=10)
    assert len(succeed(alice, "list", "--status", "all").splitlines()) == 1 + len(TITLES)


def test_programs_read_it_line_by_line(alice: Client) -> None:
    made = json.loads(succeed(alice, "add", "Ärger", "--description", "a\nb", "--json"))
    assert (made["title"], made["description"], made["status"]) == ("Ärger", "a\nb", "pending")
    assert json.loads(succeed(alice, "list", "--json")) == made
    done = json.loads(succeed(alice, "done", made["id"], "--json"))
    assert done["status"] == "completed"
    assert succeed(alice, "list", "--json") == ""


def test_a_list_of_several_pages_is_listed_whole(alice: Client) -> None:
    for number in range(201):
        response = alice.send("POST", "/api/tasks", {"title": f"task {number}"})
        assert response.status == 201
    titles = [json.loads(line)["title"] for line in succeed(alice, "list", "--json").splitlines()]
    assert titles == [f"task {number}" for number in range(200, -1, -1)]


def test_a_token_in_a_file_that_is_closed_to_others_is_used(alice: Client, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{alice.token}\n")
    path.chmod(0o600)
    named = {"TASKAPP_CLIENT_TOKEN": "", "TASKAPP_CLIENT_TOKEN_FILE": str(path)}
    succeed(alice, "add", "from a file", **named)
    path.chmod(0o644)
    said = fail(alice, "add", "x", code=2, environment=named)
    assert said == f"TASKAPP_CLIENT_TOKEN: {path} is open to other users; run: chmod 600 {path}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["add", ""], "Invalid data: Some fields are invalid. title: Title is required\n"),
        (
            ["add", "x" * 256],
            (
                "Invalid data: Some fields are invalid. title: Must be at most 255 characters"
                " (currently 256)\n"
            ),
        ),
        (
            ["done", NO_SUCH_ID],
            "Task not found: This task does not exist. It may have been deleted.\n",
        ),
        (
            ["done", "../../x?y#z"],
            "Task not found: This task does not exist. It may have been deleted.\n",
        ),
    ],
)
def test_what_the_server_refuses_is_said(alice: Client, arguments: list[str], said: str) -> None:
    assert fail(alice, *arguments) == said


def test_somebody_elses_task_is_not_completed(alice: Client, server: ServerProcess) -> None:
    bob = server.client().sign_up("bob@example.com")
    task_id = succeed(bob, "add", "of Bob").strip()
    assert fail(alice, "done", task_id).startswith("Access denied: ")
    assert "of Bob" in succeed(bob, "list")


def test_a_wrong_token_and_none_are_told_apart(alice: Client) -> None:
    wrong, none = {"TASKAPP_CLIENT_TOKEN": "wrong"}, {"TASKAPP_CLIENT_TOKEN": ""}
    assert fail(alice, "list", environment=wrong).startswith("Not logged in: ")
    assert "to an API token of the account page" in fail(alice, "list", environment=none)


@pytest.mark.parametrize("arguments", [["add"], ["add", "two", "words"], ["done"], ["list", "x"]])
def test_wrong_usage_has_exit_code_2(alice: Client, arguments: list[str]) -> None:
    assert "Usage: " in fail(alice, *arguments, code=2)


# Other servers


def elsewhere(alice: Client, url: str) -> str:
    without_proxies = dict.fromkeys(PROXIES, "")
    return fail(alice, "list", environment={"TASKAPP_CLIENT_URL": url} | without_proxies)


def test_where_no_server_is_it_is_said(alice: Client) -> None:
    with reserved_port() as port:
        url = f"http://127.0.0.1:{port}"
        assert elsewhere(alice, url) == f"{url} cannot be reached: Connection refused.\n"
    said = elsewhere(alice, "http://name.invalid")
    assert said.startswith("http://name.invalid cannot be reached: ")
    said = elsewhere(alice, f"https://127.0.0.1:{alice.address}")  # speaks no TLS
    assert said.startswith(f"https://127.0.0.1:{alice.address} cannot be reached: ")
    said = elsewhere(alice, f"http://127.0.0.1:{alice.address}/nowhere")
    assert said == (
        f"What answers at http://127.0.0.1:{alice.address}/nowhere is not taskapp: status 404.\n"
    )
    said = fail(alice, "list", environment={"TASKAPP_HOST": "unix:/run/taskapp.sock"})
    assert said == "The server listens on a Unix socket: set TASKAPP_CLIENT_URL.\n"


def test_a_server_that_hangs_up_is_told(alice: Client) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def hang_up() -> None:
            connection, _ = listener.accept()
            connection.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        assert elsewhere(alice, url).startswith(f"{url} cannot be reached: ")
        thread.join()


@contextmanager
def another_server(status: int, body: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the URL of a server that is not taskapp, and the headers that it gets."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(str(self.headers))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def behind_tls(alice: Client, certificate: Certificate) -> Iterator[str]:
    """Yield the URL of a proxy that takes TLS, before the server that Alice uses."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            response = alice.send("GET", self.path)
            self.send_response(response.status)
            self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            self.wfile.write(response.body)

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    class Server(HTTPServer):
        def handle_error(self, *_: object) -> None:
            """Write nothing about a client that trusts nobody here."""

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.path, certificate.key)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"https://localhost:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_certificate_counts_if_ones_own_authority_has_signed_it_for_this_name(
    alice: Client, tmp_path: Path
) -> None:
    ours, theirs = make_authority(tmp_path, "ours"), make_authority(tmp_path, "theirs")
    succeed(alice, "add", "Buy milk")

    def trusting(authority: Certificate, url: str) -> dict[str, str]:
        return {
            "TASKAPP_CLIENT_URL": url,
            "SSL_CERT_FILE": str(authority.path),
            "no_proxy": "localhost",
        }

    with behind_tls(alice, make_certificate(tmp_path, ours, "localhost")) as url:
        assert "Buy milk" in succeed(alice, "list", **trusting(ours, url))
        said = fail(alice, "list", environment=trusting(theirs, url))
        assert said.startswith(f"{url} cannot be reached: its certificate is not trusted (")
        by_number = url.replace("localhost", "127.0.0.1")
        said = fail(alice, "list", environment=trusting(ours, by_number))
        assert "its certificate is not trusted (IP address mismatch" in said
        plain = url.replace("https", "http")
        assert fail(alice, "list", environment=trusting(ours, plain)).startswith(
            f"{plain} cannot be reached: "
        )


def test_a_token_follows_no_redirect(alice: Client) -> None:
    with (
        another_server(200, b"{}") as (other, seen),
        another_server(302, b"", Location=f"{other}/login") as (url, _),
    ):
        said = elsewhere(alice, url)
    assert said == (
        f"{url} leads to '{other}/login': set TASKAPP_CLIENT_URL to where taskapp is.\n"
    )
    assert seen == []


@pytest.mark.parametrize("status", [200, 404, 500])
@pytest.mark.parametrize(
    "body",
    [
        *(b"<html>", b"[]", b"", b'{"detail"', b"\xff"),
        *(b"{}", b'{"tasks": 3, "nextCursor": null}', b'{"tasks": [3], "nextCursor": null}'),
    ],
)
def test_what_is_not_taskapp_is_said_to_be_so(alice: Client, status: int, body: bytes) -> None:
    with another_server(status, body) as (url, _):
        assert elsewhere(alice, url).startswith(f"What answers at {url} is not taskapp")


def test_what_another_server_sends_moves_no_cursor(alice: Client) -> None:
    body = json.dumps({"title": "\x1b[2J", "detail": "a\nb\x07"}).encode()
    with another_server(400, body) as (url, _):
        said = elsewhere(alice, url)
    assert said.rstrip("\n").isprintable()


def test_a_limit_says_when_to_try_again(alice: Client) -> None:
    body = json.dumps({"title": "Too many requests", "detail": "You have sent too many."}).encode()
    with another_server(429, body, **{"Retry-After": "7"}) as (url, _):
        said = elsewhere(alice, url)
    assert said == "Too many requests: You have sent too many. Try again in 7 seconds.\n"
